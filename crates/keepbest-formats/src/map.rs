//! Opening files, and mapping them into memory.

#![allow(unsafe_code, reason = "a file mapped into memory")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

/// Maps a file into memory, read-only: pages are read when they are touched and shared with the
/// system's cache.
///
/// The mapping shows the file as it is, not as it was: who writes into the file changes the bytes
/// under the reader, who truncates it makes the reader crash (`SIGBUS`). Files in a run are safe:
/// they are immutable once they have their name, and `best` and `last` move by rename, so a mapped
/// file lives on as long as it is mapped. For a file that someone may overwrite in place, read it
/// into memory instead.
///
/// # Errors
/// When the file cannot be opened or mapped, or is not a regular file.
pub fn map_file(path: impl AsRef<Path>) -> io::Result<Bytes> {
    map_open_file(&open_regular(path)?)
}

/// Opens a regular file for reading. Anything else is refused at once: a FIFO would wait for its writer for ever, a device may
/// have no end.
///
/// # Errors
/// When the file cannot be opened, or is not a regular file; the message then says what it is.
pub fn open_regular(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    // Looked at first, since to open a device can do something; and again once it is open, since the name may lead elsewhere by then.
    check_regular(&fs::metadata(path)?)?;
    let file = open_without_waiting(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// How often an interrupted call is made. The standard library makes it again without end.
const TRIES: u32 = 8;

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    // Of another kind, so that no loop further up makes it again.
    call().map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => io::Error::other(error),
        _ => error,
    })
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = again(|| Ok(rustix::fs::open(path, flags, Mode::empty())?))?;
    Ok(File::from(opened))
}

struct ReadAgain<R>(R);

impl<R: io::Read> io::Read for ReadAgain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| self.0.read(buffer))
    }
}

/// Reads a text of at most `limit` bytes from a regular file, without the byte order mark that it may begin with.
///
/// # Errors
/// As [`open_regular`]; when the file is longer; when it is not UTF-8.
pub fn read_text(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    ReadAgain(file.take(limit.saturating_add(1))).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it has more than {limit} bytes, the limit for such a file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "it is UTF-16, not UTF-8";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let message = format!(
            "it is not UTF-8 from byte {} on",
            error.utf8_error().valid_up_to()
        );
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    };
    let message = format!("it is {what}, not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Maps a file that is open, as [`map_file`] does.
///
/// # Errors
/// When it cannot be mapped, or is not a regular file.
pub fn map_open_file(file: &File) -> io::Result<Bytes> {
    let metadata = file.metadata()?;
    check_regular(&metadata)?;
    if metadata.len() == 0 {
        // An empty mapping is an error for the system.
        return Ok(Bytes::new());
    }
    // SAFETY: The mapping is read-only and shared. That its bytes stay is asked of the caller above:
    // files that this project writes are never modified after they got their name.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_missing_files_are_named_as_such() {
        let error = map_file(env!("CARGO_MANIFEST_DIR")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = map_file("no/such/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for (path, what) in [
            (fifo, "a FIFO"),
            (link, "a FIFO"),
            (socket, "a socket"),
            ("/dev/zero".into(), "a device"),
        ] {
            let error = open_regular(&path).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"));
            assert!(map_file(&path).is_err() && read_text(&path, 9).is_err());
        }
    }

    #[test]
    fn texts_have_a_limit_and_no_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let read = |bytes: &[u8], limit| {
            fs::write(&path, bytes).unwrap();
            read_text(&path, limit).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbfa\r\n", 9).unwrap(), "a\r\n");
        assert_eq!(read(b"abc", 3).unwrap(), "abc");
        assert!(read(b"abcd", 3).unwrap_err().contains("more than 3 bytes"));
        assert!(read(b"\xff\xfea\0", 9).unwrap_err().contains("UTF-16"));
        assert!(read(b"ab\xff", 9).unwrap_err().contains("from byte 2 on"));
    }
}
