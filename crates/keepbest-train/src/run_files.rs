//! The models of a run on disk.

use std::path::{Path, PathBuf};

use keepbest_keeper::{RunView, Selector};

/// Why a run's files could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFilesError {
    /// The run cannot be read.
    #[error(transparent)]
    Open(#[from] keepbest_keeper::store::OpenError),
    /// It has no such model.
    #[error(transparent)]
    Select(#[from] keepbest_keeper::SelectError),
}

/// The file of one of a run's models.
///
/// # Errors
/// [`RunFilesError`], which says what the run has.
pub fn model_file_of(run: &Path, which: Selector) -> Result<PathBuf, RunFilesError> {
    Ok(RunView::open(run)?.select(which)?)
}
