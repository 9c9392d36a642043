//! The models of a run on disk.

use std::fmt;
use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use keepbest_core::text::shell_word;
use keepbest_keeper::{ArchiveRunError, Forgotten, RunView, Selector, read_archived};
use keepbest_store::{Links, NotRegular, RunStatus, open_regular};
use tempfile::TempDir;

use crate::model_ref::ModelPlace;
use crate::place::archived_at;
use crate::run_summary::RunSummary;
use crate::words::mend_words;

/// Why a run's files could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFilesError {
    /// The run cannot be read.
    #[error(transparent)]
    Open(#[from] keepbest_store::OpenError),
    /// It has no such model.
    #[error(transparent)]
    Select(#[from] keepbest_keeper::SelectError),
    /// It has none by its journal, and its files know more.
    #[error(transparent)]
    Forgotten(#[from] Forgotten),
    /// It is archived and does not come back.
    #[error(transparent)]
    Archive(#[from] ArchiveRunError),
    /// It is a link or something else: a run's files are its own.
    #[error("{path} is not opened", path = path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Its journal has a model whose file is not there.
    #[error("cannot read {path}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Its run.
        run: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is archived and could not be put where it can be opened.
    #[error("cannot write {path}", path = path.display())]
    Restore {
        /// The temporary file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl RunFilesError {
    /// What to try instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { run, .. } => Some(mend_words(run)),
            Self::Forgotten(found) => Some(found.hint()),
            _ => None,
        }
    }
}

/// A model's file: its own, or one that was restored from an archive and goes when this is dropped.
#[derive(Debug)]
pub struct FileAtHand {
    path: PathBuf,
    // The name that an archived one had.
    archived: Option<PathBuf>,
    // The folder of the restored file, for this process's user alone.
    _folder: Option<TempDir>,
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
                archived: None,
                _folder: None,
            }),
            ModelPlace::Run { run, which } => {
                let view = RunView::open(run)?;
                if view.is_archived(which) {
                    return Self::restored(&view, which);
                }
                let path = match view.select(which) {
                    Ok(path) => path,
                    Err(error) => {
                        return Err(view.forgotten().map_or(error.into(), Into::into));
                    }
                };
                match open_regular(&path, Links::Refuse) {
                    Err(source) if source.kind() == ErrorKind::NotFound => {
                        Err(RunFilesError::Missing {
                            path,
                            run: run.clone(),
                            source,
                        })
                    }
                    // What is closed is told by who opens it, with what that is for.
                    Err(source) if source.get_ref().is_some_and(|it| it.is::<NotRegular>()) => {
                        Err(RunFilesError::NotAFile { path, source })
                    }
                    _ => Ok(Self {
                        path,
                        archived: None,
                        _folder: None,
                    }),
                }
            }
        }
    }

    fn restored(view: &RunView, which: &Selector) -> Result<Self, RunFilesError> {
        let (checkpoint, bytes) = read_archived(view, which)?;
        let cannot = |path: PathBuf| move |source| RunFilesError::Restore { path, source };
        // Others write to the folder of temporary files, too: what has a name that they can guess, they can put a link in place of.
        let folder = tempfile::Builder::new()
            .prefix("keepbest-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(cannot(tempfile::env::temp_dir()))?;
        let path = folder.path().join(checkpoint.to_string());
        let name = checkpoint.path(view.path());
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .map_err(cannot(path.clone()))?;
        Ok(Self {
            path,
            archived: Some(name),
            _folder: Some(folder),
        })
    }

    /// The file at a path, or the archived checkpoint that lay there.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn at(path: &Path) -> Result<Self, RunFilesError> {
        Self::of(&match archived_at(path) {
            Some((run, which)) => ModelPlace::Run { run, which },
            None => ModelPlace::File(path.into()),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is called: where it is, or for one that is archived where it was in its run.
    pub fn name(&self) -> &Path {
        self.archived.as_deref().unwrap_or(&self.path)
    }
}

/// The file of one of a run's models.
///
/// # Errors
/// [`RunFilesError`], which says what the run has.
pub fn model_file_of(run: &Path, which: &Selector) -> Result<PathBuf, RunFilesError> {
    Ok(RunView::open(run)?.select(which)?)
}

/// The status of a run, in a word or two: `training`, `completed`, `stopped early`, `interrupted`, `killed`.
#[must_use]
pub fn status_of(view: &RunView) -> String {
    if let Ok(Some(_)) = view.active_writer() {
        return "training".into();
    }
    match &view.state().status {
        RunStatus::Finished(summary) => RunSummary::read(summary)
            .ended
            .unwrap_or_else(|| "completed".into()),
        RunStatus::Interrupted => "interrupted".into(),
        // Nobody writes to it, and nobody said why.
        _ => "killed".into(),
    }
}

/// A run that cannot be read.
#[derive(Debug)]
pub struct OpenRunError {
    /// Its directory.
    pub run: PathBuf,
    /// Why.
    pub error: keepbest_store::OpenError,
}

impl fmt::Display for OpenRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for OpenRunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl OpenRunError {
    /// What to try instead.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("keepbest fsck {}", shell_word(&self.run))
    }
}

/// Why a run is not opened for what may replace something better.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenWholeRunError {
    /// It cannot be read.
    #[error(transparent)]
    Run(#[from] OpenRunError),
    /// Its journal knows less than its files.
    #[error(transparent)]
    Forgotten(#[from] Forgotten),
}

impl OpenWholeRunError {
    /// What to try instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Run(error) => error.hint(),
            Self::Forgotten(found) => found.hint(),
        }
    }
}

/// Opens a run to make something of it that may replace something better: one whose journal knows less than its files is refused.
///
/// # Errors
/// [`OpenWholeRunError`].
pub fn open_whole_run(run: &Path) -> Result<RunView, OpenWholeRunError> {
    let view = open_run(run)?;
    view.forgotten().map_or(Ok(view), |found| Err(found.into()))
}

/// Opens a run to read.
///
/// # Errors
/// [`OpenRunError`].
pub fn open_run(run: &Path) -> Result<RunView, OpenRunError> {
    RunView::open(run).map_err(|error| OpenRunError {
        run: run.into(),
        error,
    })
}
