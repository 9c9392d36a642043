//! Readers of data sets on disk, one a layout. [`crate::open`] picks the right one.

pub mod cifar;
pub mod files;
pub mod folder;
pub mod idx;
pub mod npz;
pub mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::DataError;

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| io_error(path, source))
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

/// One entry of a folder, links followed.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub path: PathBuf,
    /// The name, with a replacement character for what is not UTF-8.
    pub name: String,
    pub is_dir: bool,
}

/// The entries of a folder that are not hidden, sorted by the bytes of their names.
pub(crate) fn read_folder(path: &Path) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| io_error(path, source))? {
        let entry = entry.map_err(|source| io_error(path, source))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let entry_path = entry.path();
        // A link to nowhere is kept as a file: reading it then gives an error with its path.
        let is_dir = fs::metadata(&entry_path).is_ok_and(|metadata| metadata.is_dir());
        entries.push((
            name.clone(),
            Entry {
                path: entry_path,
                name: name.to_string_lossy().into_owned(),
                is_dir,
            },
        ));
    }
    entries.sort_by(|(a, _), (b, _)| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// Class names from a text file, one a line; blank lines at the end do not count.
pub(crate) fn read_class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let bad = |reason: String| DataError::ClassName {
        path: path.to_owned(),
        reason,
    };
    let text =
        String::from_utf8(read_file(path)?).map_err(|_| bad("the file is not UTF-8".to_owned()))?;
    let names: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(bad(format!("line {} is empty", index + 1)));
        }
        if names[..index].contains(name) {
            return Err(bad(format!("`{name}` is there twice")));
        }
    }
    Ok(names)
}

/// The class names beside the data where there are any, else the numbers up to the largest training label.
pub(crate) fn class_names_or_numbers(
    folder: &Path,
    file: &str,
    train: &[u32],
) -> Result<Vec<String>, DataError> {
    let path = folder.join(file);
    if path.is_file() {
        return read_class_names(&path);
    }
    let classes = train.iter().max().map_or(0, |&label| label as usize + 1);
    Ok((0..classes).map(|class| class.to_string()).collect())
}
