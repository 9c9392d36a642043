//! The models of a run on disk.

use std::path::{Path, PathBuf};

use keepbest_keeper::store::RunStatus;
use keepbest_keeper::{ArchiveRunError, RunView, Selector, read_archived};

use crate::model_ref::ModelPlace;

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
    /// It is archived and does not come back.
    #[error(transparent)]
    Archive(#[from] ArchiveRunError),
    /// It is archived and could not be put where it can be opened.
    #[error("cannot write {path}", path = path.display())]
    Restore {
        /// The temporary file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A model's file: its own, or one that was restored from an archive and goes when this is dropped.
#[derive(Debug)]
pub struct FileAtHand {
    path: PathBuf,
    restored: bool,
}

impl FileAtHand {
    /// The file of a model, also of one that is archived.
    ///
    /// # Errors
    /// [`RunFilesError`], which says what the run has.
    pub fn of(place: &ModelPlace) -> Result<Self, RunFilesError> {
        match place {
            ModelPlace::File(path) => Ok(Self {
                path: path.clone(),
                restored: false,
            }),
            ModelPlace::Run { run, which } => {
                let view = RunView::open(run)?;
                match view.is_archived(which) {
                    true => Self::restored(&view, which),
                    false => Ok(Self {
                        path: view.select(which)?,
                        restored: false,
                    }),
                }
            }
        }
    }

    fn restored(view: &RunView, which: &Selector) -> Result<Self, RunFilesError> {
        let (checkpoint, bytes) = read_archived(view, which)?;
        let name = format!("keepbest-{}-{checkpoint}", std::process::id());
        let file = Self {
            path: std::env::temp_dir().join(name),
            restored: true,
        };
        std::fs::write(&file.path, bytes).map_err(|source| RunFilesError::Restore {
            path: file.path.clone(),
            source,
        })?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileAtHand {
    fn drop(&mut self) {
        if self.restored {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The file of one of a run's models.
///
/// # Errors
/// [`RunFilesError`], which says what the run has.
pub fn model_file_of(run: &Path, which: &Selector) -> Result<PathBuf, RunFilesError> {
    Ok(RunView::open(run)?.select(which)?)
}

/// Where a run stands, in a word or two: `training`, `completed`, `stopped early`, `interrupted`, `killed`.
#[must_use]
pub fn status_of(view: &RunView) -> String {
    if let Ok(Some(_)) = view.active_writer() {
        return "training".into();
    }
    match &view.state().status {
        RunStatus::Finished(summary) => summary["ended"].as_str().unwrap_or("completed").into(),
        RunStatus::Interrupted => "interrupted".into(),
        // Nobody writes to it, and nobody said why.
        _ => "killed".into(),
    }
}
