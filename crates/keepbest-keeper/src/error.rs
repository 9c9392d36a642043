//! What can go wrong, by operation.

use std::path::PathBuf;

use keepbest_core::ObjectiveError;
use keepbest_store as store;
use thiserror::Error;

use crate::event::KeeperSummary;

/// Why a run could not be begun.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The directory cannot be created, or is taken.
    #[error(transparent)]
    Run(#[from] store::CreateError),
    /// The objectives do not go together.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// A file in it cannot be written, or the file system lacks what a run needs.
    #[error(transparent)]
    Io(#[from] store::IoError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] store::JournalError),
    /// The writer thread cannot be started.
    #[error("cannot start the thread that saves")]
    Thread(#[source] std::io::Error),
}

/// Why a run could not be resumed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no run, someone else writes to it, or it cannot be read.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// What best means would change, and with it which model is best.
    #[error("run {} keeps the best by {stored}, not by {given}", path.display())]
    #[non_exhaustive]
    ObjectiveDiffers {
        /// The run.
        path: PathBuf,
        /// The objectives in the journal.
        stored: String,
        /// The objectives given now.
        given: String,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] store::JournalError),
    /// The writer thread cannot be started.
    #[error("cannot start the thread that saves")]
    Thread(#[source] std::io::Error),
}

/// Why an evaluation was not taken. Nothing has changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The objective cannot be applied: a metric is missing.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// An evaluation of an earlier step came after one of a later step.
    #[error("evaluation of step {step} after that of step {previous}")]
    #[non_exhaustive]
    OutOfOrder {
        /// The step offered.
        step: u64,
        /// The step of the evaluation before it.
        previous: u64,
    },
    /// The snapshot cannot be taken.
    #[error("the model cannot be kept as it is")]
    Snapshot(#[source] store::BoxError),
    /// The writer thread is gone.
    #[error("the thread that saves has ended")]
    WriterGone,
}

/// Why a run could not be ended in order. Everything that was saved stays saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The writer thread is gone.
    #[error("the thread that saves has ended")]
    WriterGone,
    /// The last event could not be journalled.
    #[error("cannot journal the end of the run: {error}")]
    #[non_exhaustive]
    Journal {
        /// The error with its causes.
        error: String,
        /// The summary of the run, which ended all the same.
        summary: Box<KeeperSummary>,
    },
}

/// Why a checkpoint of a run could not be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The text is not a selector.
    #[error("{text:?} selects no checkpoint: best, best:METRIC, last, step:N or epoch:N")]
    #[non_exhaustive]
    Parse {
        /// The text as given.
        text: String,
    },
    /// The run has none yet.
    #[error("run {} has no {what} yet", run.display())]
    #[non_exhaustive]
    None {
        /// The run.
        run: PathBuf,
        /// What was asked for.
        what: String,
    },
    /// It was removed.
    #[error("{what} of run {} was removed: {reason}", run.display())]
    #[non_exhaustive]
    Pruned {
        /// The run.
        run: PathBuf,
        /// What was asked for.
        what: String,
        /// Why.
        reason: String,
    },
    /// There never was one.
    #[error("run {} has no checkpoint of {what}, only of {}", run.display(), available.join(", "))]
    #[non_exhaustive]
    Missing {
        /// The run.
        run: PathBuf,
        /// What was asked for.
        what: String,
        /// What there is.
        available: Vec<String>,
    },
}
