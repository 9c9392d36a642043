//! Regular files and folders, opened with care: no pipe is waited for, no device is touched.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::DataError;

/// The whole of a regular file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let io = |source| io_error(path, source);
    let file = open_file(path)?;
    let length = file.metadata().map_err(io)?.len();
    let too_long = |found: u64| DataError::OverLimit {
        path: path.to_owned(),
        found,
        what: "bytes".to_owned(),
        limit,
    };
    if length > limit {
        return Err(too_long(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // It may have grown since.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Opens a regular file, links followed. Anything else is refused at once: a named pipe would be waited for, and a
/// device may never end.
pub(crate) fn open_file(path: &Path) -> Result<File, DataError> {
    let io = |source| io_error(path, source);
    // Looked at first, since opening a device may already set something off.
    check_regular(path, &fs::metadata(path).map_err(io)?)?;
    let file = open_without_waiting(path).map_err(io)?;
    // The name may stand for something else by now.
    check_regular(path, &file.metadata().map_err(io)?)?;
    Ok(file)
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(flags.bits() as i32);
    options.open(path)
}

/// Checks that it is a regular file.
pub(crate) fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), DataError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(DataError::NotAFile {
        path: path.to_owned(),
        found: kind(metadata),
    })
}

/// What it is, in words, when it is no regular file.
fn kind(metadata: &Metadata) -> &'static str {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        "a folder"
    } else if file_type.is_fifo() {
        "a named pipe"
    } else if file_type.is_char_device() || file_type.is_block_device() {
        "a device"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "something else"
    }
}

/// Whether there is something of this name that is no folder. What it is shows when it is opened.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok() && !path.is_dir()
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> DataError {
    if source.kind() == io::ErrorKind::NotFound {
        DataError::NotFound {
            path: path.to_owned(),
        }
    } else {
        DataError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Files of a folder by their names, without those below it. A missing name is none.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let io = |source| io_error(folder, source);
    let mut names = Vec::new();
    for (name, _) in entries_of(folder).map_err(io)? {
        let path = folder.join(&name);
        if let Some(name) = name.to_str()
            && !path.is_dir()
        {
            names.push((name.to_owned(), path));
        }
    }
    names.sort();
    Ok(names)
}

/// The kind of an entry of a folder; a link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    Link,
    Other,
}

/// Names and kinds of the entries of a folder, in no order. Unlike `std::fs::read_dir` it does not panic when the folder cannot be closed,
/// as on a disk that is gone: everything was read by then.
pub(crate) fn entries_of(folder: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(folder, flags, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::new(open)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            // Some file systems do not tell.
            FileType::Unknown => {
                let found = fs::symlink_metadata(folder.join(name))?.file_type();
                match (found.is_dir(), found.is_symlink()) {
                    (true, _) => EntryKind::Folder,
                    (_, true) => EntryKind::Link,
                    _ => EntryKind::Other,
                }
            }
            _ => EntryKind::Other,
        };
        entries.push((name.to_owned(), kind));
    }
    Ok(entries)
}
