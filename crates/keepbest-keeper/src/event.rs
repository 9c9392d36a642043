//! What the keeper reports to the training loop.

use std::fmt;
use std::path::{Path, PathBuf};

use keepbest_core::{Metrics, Score, WeightsDigest};
use keepbest_store::{CheckpointName, RefName, RunState};

/// Something the keeper did, or failed to do, in the background. Delivered by [`Keeper::events`](crate::Keeper::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeeperEvent {
    /// A checkpoint is durable and was read back.
    Saved {
        /// Its path.
        path: PathBuf,
        /// Step of the snapshot.
        step: u64,
        /// Epoch of the snapshot.
        epoch: u64,
        /// Its size.
        bytes: u64,
    },
    /// A best, or last, points at a new checkpoint.
    Promoted {
        /// Which.
        reference: RefName,
        /// The path of the ref.
        path: PathBuf,
        /// Step of the snapshot.
        step: u64,
        /// Epoch of the snapshot.
        epoch: u64,
        /// For a best: its score.
        score: Option<Score>,
        /// For a best: the value of the one before.
        was: Option<f64>,
        /// For a best: the verdict's reason, such as `val/accuracy 0.8912, was 0.8875`.
        reason: Option<String>,
    },
    /// A save was not begun, or not promoted, because something better or newer took its place.
    Superseded {
        /// What it would have become.
        reference: RefName,
        /// Step of the snapshot.
        step: u64,
        /// Epoch of the snapshot.
        epoch: u64,
        /// What took its place.
        reason: String,
    },
    /// A save failed. What was best or last before still is, and the next evaluation saves anew; a best is tried again, too.
    SaveFailed(SaveFailure),
    /// The [other form](crate::CopyFormat) of best could not be brought in step with it. Best is as it is; the next save tries again.
    AlsoFailed {
        /// Its path.
        path: PathBuf,
        /// The error with its causes.
        error: String,
    },
    /// The [other form](crate::CopyFormat) of a best that was lost is kept under another name.
    SetAside {
        /// The place where it is now.
        path: PathBuf,
    },
    /// A checkpoint was removed.
    Pruned {
        /// Its path.
        path: PathBuf,
        /// Why it is not kept.
        reason: String,
    },
    /// A checkpoint that is not kept could not be removed.
    PruneFailed {
        /// Its path.
        path: PathBuf,
        /// The error with its causes.
        error: String,
    },
}

/// A save that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveFailure {
    /// What it would have become; empty when only the journal was to be written.
    pub refs: Vec<RefName>,
    /// Step of the snapshot.
    pub step: u64,
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// Whether the run's rules may keep checkpoints beside best and last, of which this would be one.
    pub candidate: bool,
    /// The error with its causes.
    pub error: String,
}

impl fmt::Display for SaveFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refs: Vec<String> = self.refs.iter().map(ToString::to_string).collect();
        let refs = if refs.is_empty() {
            "the journal".to_owned()
        } else {
            refs.join(" and ")
        };
        write!(
            f,
            "saving {refs} of epoch {} (step {}) failed: {}",
            self.epoch, self.step, self.error
        )
    }
}

impl fmt::Display for KeeperEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saved { path, bytes, .. } => {
                write!(f, "saved {} ({bytes} bytes)", path.display())
            }
            Self::Promoted {
                reference,
                path,
                epoch,
                reason: Some(reason),
                ..
            } => write!(
                f,
                "{reference}: saved {} ({reason}, epoch {epoch})",
                path.display()
            ),
            Self::Promoted {
                reference,
                path,
                epoch,
                ..
            } => write!(f, "{reference}: saved {} (epoch {epoch})", path.display()),
            Self::Superseded {
                reference,
                epoch,
                reason,
                ..
            } => write!(f, "{reference} of epoch {epoch} was not saved: {reason}"),
            Self::SaveFailed(failure) => failure.fmt(f),
            Self::AlsoFailed { path, error } => {
                write!(f, "{} is not in step with best: {error}", path.display())
            }
            Self::SetAside { path } => write!(
                f,
                "what was best is lost; its weights are kept as {}",
                path.display()
            ),
            Self::Pruned { path, reason } => {
                write!(f, "removed {}: {reason}", path.display())
            }
            Self::PruneFailed { path, error } => {
                write!(f, "cannot remove {}: {error}", path.display())
            }
        }
    }
}

/// A best that was measured and is not on disk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnsavedBest {
    /// The name it would go by.
    pub reference: RefName,
    /// Optimizer steps behind it.
    pub step: u64,
    /// Epochs behind it.
    pub epoch: u64,
    /// What is compared.
    pub score: Score,
}

/// The best model of a run by one of its objectives, as it is on disk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BestRecord {
    /// The name it goes by: `best`, or `best:val/loss`.
    pub reference: RefName,
    /// The file of that name in the run: `best.safetensors`.
    pub path: PathBuf,
    /// The checkpoint it points at.
    pub checkpoint: CheckpointName,
    /// Optimizer steps behind it.
    pub step: u64,
    /// Epochs behind it.
    pub epoch: u64,
    /// What is compared.
    pub score: Score,
    /// What was measured on exactly these weights.
    pub metrics: Metrics,
    /// The identity of its weights.
    pub weights: WeightsDigest,
}

/// A best, as the journal has it.
pub(crate) fn best_record(run: &Path, state: &RunState, reference: RefName) -> Option<BestRecord> {
    let best = state.refs.get(&reference)?;
    let checkpoint = state.checkpoints.get(&best.checkpoint)?;
    Some(BestRecord {
        path: reference.path(run),
        reference,
        checkpoint: best.checkpoint.clone(),
        step: best.step,
        epoch: best.epoch,
        score: best.score?,
        metrics: checkpoint
            .evaluation
            .as_ref()
            .map(|record| record.metrics.clone())
            .unwrap_or_default(),
        weights: checkpoint.saved.weights,
    })
}

/// The end of a run, from the keeper's view.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeeperSummary {
    /// The best model on disk.
    pub best: Option<BestRecord>,
    /// The bests by further objectives on disk.
    pub others: Vec<BestRecord>,
    /// The resume point on disk.
    pub last: Option<PathBuf>,
    /// Every save that failed in this session, also where a later one made good for it.
    pub failures: Vec<SaveFailure>,
    /// Failures among them that nothing made good for: a best or last that is not on disk, a checkpoint that the run's rules would keep.
    pub unresolved: Vec<SaveFailure>,
    /// Whether the best ever measured is the best on disk, by every objective.
    pub best_is_saved: bool,
    /// The best ever measured by each objective by which it is not.
    pub unsaved: Vec<UnsavedBest>,
    /// Best in its [other form](crate::CopyFormat), when one is kept.
    pub also: Option<PathBuf>,
    /// Why that is not in step with best, if it is not.
    pub also_error: Option<String>,
    /// Evaluations in the history.
    pub evaluations: usize,
    /// Events that were not fetched before.
    pub events: Vec<KeeperEvent>,
}
