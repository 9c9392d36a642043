//! Opening regular files, and nothing else: a link is not followed where it must not be, and a FIFO or a device is never waited for.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::patient::{open, read_to_end};

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Bytes on a disk.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A pipe with a name.
    Fifo,
    /// A character or block device.
    Device,
    /// A socket.
    Socket,
    /// None of these.
    Other,
}

impl FileKind {
    /// The kind that metadata tell.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        match () {
            () if kind.is_file() => Self::File,
            () if kind.is_dir() => Self::Directory,
            () if kind.is_symlink() => Self::Link,
            () if kind.is_fifo() => Self::Fifo,
            () if kind.is_char_device() || kind.is_block_device() => Self::Device,
            () if kind.is_socket() => Self::Socket,
            () => Self::Other,
        }
    }

    /// Refuses all but a regular file.
    ///
    /// # Errors
    /// [`NotRegular`], as an error of kind `InvalidInput`.
    pub fn require_file(self) -> io::Result<()> {
        match self {
            Self::File => Ok(()),
            found => Err(io::Error::new(
                ErrorKind::InvalidInput,
                NotRegular { found },
            )),
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Device => "a device",
            Self::Socket => "a socket",
            Self::Other => "something else",
        })
    }
}

/// Something else was found where a regular file was expected: the inner error of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {found}, not a regular file")]
#[non_exhaustive]
pub struct NotRegular {
    /// What was found.
    pub found: FileKind,
}

/// What becomes of a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is followed: for a file that the user has named.
    Follow,
    /// It is refused: for a file inside a run, which may come from elsewhere.
    Refuse,
}

/// Opens a regular file for reading. Never waits: what is no regular file is an error, before it is opened and once more of what was
/// opened.
///
/// # Errors
/// The operating system's error, or one of kind `InvalidInput` that says what was found.
pub fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    open_with(path, links, OFlags::RDONLY)
}

/// Reads a whole regular file, as [`open_regular`] opens it.
///
/// # Errors
/// As there.
pub fn read_regular(path: &Path, links: Links) -> io::Result<Vec<u8>> {
    read_to_end(&mut open_regular(path, links)?)
}

/// Opens a regular file with these flags, which may create it.
pub(crate) fn open_with(path: &Path, links: Links, flags: OFlags) -> io::Result<File> {
    let found = match links {
        Links::Follow => fs::metadata(path),
        Links::Refuse => fs::symlink_metadata(path),
    };
    match found {
        // Looked at first, since merely opening a device can do something.
        Ok(metadata) => FileKind::of(&metadata).require_file()?,
        // The flags say whether it may be made.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let follow = match links {
        Links::Follow => OFlags::empty(),
        Links::Refuse => OFlags::NOFOLLOW,
    };
    let file = open(path, flags | follow | OFlags::NONBLOCK)?;
    FileKind::of(&file.metadata()?).require_file()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("to-device")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("fifo"))
            .status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();

        assert_eq!(read_regular(&path("file"), Links::Refuse).unwrap(), b"text");
        assert_eq!(read_regular(&path("link"), Links::Follow).unwrap(), b"text");
        for (name, links, kind) in [
            ("link", Links::Refuse, FileKind::Link),
            ("to-device", Links::Refuse, FileKind::Link),
            ("to-device", Links::Follow, FileKind::Device),
            ("directory", Links::Refuse, FileKind::Directory),
            ("fifo", Links::Refuse, FileKind::Fifo),
            ("fifo", Links::Follow, FileKind::Fifo),
            ("socket", Links::Follow, FileKind::Socket),
        ] {
            let error = open_regular(&path(name), links).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("it is {kind}, not a regular file")
            );
            let append = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
            open_with(&path(name), links, append).unwrap_err();
        }
        let missing = open_regular(&path("none"), Links::Refuse).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
