//! What is at a path. Of what cannot be looked at, nobody is told that it is not there.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// A path that cannot be looked at: whether anything is there is not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot examine {path}", path = path.display())]
pub struct ExamineError {
    /// The path.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

/// What is at a path, links followed; `None` where there is nothing.
///
/// # Errors
/// [`ExamineError`], when the system does not say.
pub fn examine(path: &Path) -> Result<Option<Metadata>, ExamineError> {
    keepbest_data::examine(path).map_err(|source| ExamineError {
        path: path.into(),
        source,
    })
}

/// Whether there is a file.
pub(crate) fn is_file(path: &Path) -> Result<bool, ExamineError> {
    Ok(examine(path)?.is_some_and(|found| found.is_file()))
}

/// Whether there is a folder.
pub(crate) fn is_dir(path: &Path) -> Result<bool, ExamineError> {
    Ok(examine(path)?.is_some_and(|found| found.is_dir()))
}
