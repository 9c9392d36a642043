//! Mapping files into memory.

use std::fs::File;
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
    map(&File::open(path)?)
}

/// Maps a file that is open: [`map_file`].
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
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
