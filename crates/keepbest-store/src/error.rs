//! What can go wrong, by operation. A `Display` never repeats its `source()`.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::layout::CheckpointName;
use crate::lock::LockError;
use crate::regular::FileKind;

/// Any error, as a verifier returns it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A system call that failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}", path.display())]
#[non_exhaustive]
pub struct IoError {
    /// What was attempted, such as `rename`.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

impl IoError {
    /// A mapper for `Result::map_err`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

/// Why a run could not be created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is taken.
    #[error("{} exists already", path.display())]
    #[non_exhaustive]
    Exists {
        /// The run directory.
        path: PathBuf,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The lock of the new run could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why a run could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such directory.
    #[error("there is no run at {}", path.display())]
    #[non_exhaustive]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// There is something, but it is not a run.
    #[error("{} is not a run: it has no {missing}", path.display())]
    #[non_exhaustive]
    NotARun {
        /// The path as given.
        path: PathBuf,
        /// The file every run has.
        missing: &'static str,
    },
    /// It is a run, and its journal is not there.
    #[error("{} has no journal: {} was removed", path.display(), crate::layout::JOURNAL_FILE)]
    #[non_exhaustive]
    NoJournal {
        /// The run directory.
        path: PathBuf,
    },
    /// A file or directory of the run is something else: it is neither read nor written.
    #[error("{} is {found}, not {expected}", path.display())]
    #[non_exhaustive]
    Kind {
        /// The file or directory.
        path: PathBuf,
        /// The kind of file that it is.
        found: FileKind,
        /// The kind of file that it should be.
        expected: FileKind,
    },
    /// A file could not be read, so that nobody knows whether it is whole. Nothing was mended.
    #[error("cannot read {} to tell whether it is whole", path.display())]
    #[non_exhaustive]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// Another process writes to it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl OpenError {
    /// A mapper for `Result::map_err`: [`OpenError::Unread`].
    pub fn unread<E: Into<BoxError>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self::Unread {
            path,
            source: error.into(),
        }
    }
}

/// Why the journal could not be read or extended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A line that is not the last one is damaged.
    #[error("{} line {line} is damaged: {problem}", path.display())]
    #[non_exhaustive]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The run is of a newer format: what it holds may mean something else than this version takes it for.
    #[error(
        "{} is of run format {format}, and this keepbest knows up to {known}: it takes {keepbest} or newer", path.display()
    )]
    #[non_exhaustive]
    Newer {
        /// The journal.
        path: PathBuf,
        /// The run's format.
        format: u64,
        /// The newest that this version knows.
        known: u32,
        /// What began the run.
        keepbest: String,
    },
    /// An event cannot be written as JSON.
    #[error("cannot write an event of kind {kind} as JSON")]
    #[non_exhaustive]
    Encode {
        /// The kind of event.
        kind: String,
        /// What JSON cannot express.
        source: serde_json::Error,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Why a file could not be staged or committed. Whatever was written is gone; everything older is untouched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk is too full to begin.
    #[error("{} has {available} bytes free, {needed} are needed", path.display())]
    #[non_exhaustive]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The name is taken: a named checkpoint is never written again.
    #[error("checkpoint {name} exists already")]
    #[non_exhaustive]
    Exists {
        /// The name.
        name: CheckpointName,
    },
    /// What was read back is not what was written.
    #[error("{} does not read back as written", path.display())]
    #[non_exhaustive]
    Verify {
        /// The file, removed since.
        path: PathBuf,
        /// The verifier's error.
        source: BoxError,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It could not be written to the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a ref could not be moved. The ref still points at a whole file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PromoteError {
    /// It could not be written to the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Why a checkpoint could not be removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PruneError {
    /// A ref points at it.
    #[error("checkpoint {name} is the {reference} one")]
    #[non_exhaustive]
    Referenced {
        /// The checkpoint.
        name: CheckpointName,
        /// The ref.
        reference: crate::layout::RefName,
    },
    /// The run was resumed from it.
    #[error("checkpoint {name} is the one this run was resumed from")]
    #[non_exhaustive]
    ResumedFrom {
        /// The checkpoint.
        name: CheckpointName,
    },
    /// A reader has it open.
    #[error("checkpoint {name} is being read")]
    #[non_exhaustive]
    InUse {
        /// The checkpoint.
        name: CheckpointName,
    },
    /// It could not be written to the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}
