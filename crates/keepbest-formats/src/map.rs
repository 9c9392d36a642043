//! Mapping files into memory.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use bytes::Bytes;

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
    map_open_file(&open_file(path.as_ref())?)
}

/// Opens a file to be mapped. What is no regular file is not opened: a FIFO would be waited for.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    require_file(&std::fs::metadata(path)?)?;
    File::open(path)
}

fn require_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

/// Maps a file that is open, as [`map_file`] does.
///
/// # Errors
/// When it cannot be mapped, or is not a regular file.
pub fn map_open_file(file: &File) -> io::Result<Bytes> {
    let metadata = file.metadata()?;
    require_file(&metadata)?;
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
        let error = map_file(std::env::temp_dir()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = map_file("no/such/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
