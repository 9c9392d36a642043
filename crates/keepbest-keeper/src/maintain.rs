//! What is done to a run between trainings: retention now, pins.

use std::path::Path;

use keepbest_core::retention::{Plan, Policy};
use keepbest_core::text::with_causes;
use keepbest_store::{
    CheckpointName, Event, JournalError, OpenError, PinnedEvent, RunState, RunWriter,
};
use serde_json::Value;
use thiserror::Error;

use crate::config::SaveMode;
use crate::error::SelectError;
use crate::prune::retention_plan;
use crate::select::{Selector, find};

/// What a run keeps, as its journal recorded when it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetentionRules {
    /// A checkpoint stays if any of these says so.
    pub policies: Vec<Policy>,
    /// What the run saves its best as.
    pub save: SaveMode,
}

impl RetentionRules {
    /// Reads them from a run's state.
    ///
    /// # Errors
    /// [`MaintainError::Rules`] when this version does not understand one of them: nothing must be removed then.
    pub fn of(state: &RunState) -> Result<Self, MaintainError> {
        let Some(started) = &state.started else {
            return Ok(Self::default());
        };
        let read = |key: &str| match &started.settings[key] {
            Value::Null => None,
            value => Some(value.clone()),
        };
        let policies = read("retention").map(serde_json::from_value).transpose()?;
        let save = read("save").map(serde_json::from_value).transpose()?;
        Ok(Self {
            policies: policies.unwrap_or_default(),
            save: save.unwrap_or_default(),
        })
    }

    /// What they say about the checkpoints of a run.
    #[must_use]
    pub fn plan(&self, state: &RunState) -> Plan {
        retention_plan(state, &self.policies, self.save)
    }
}

/// Why a run was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaintainError {
    /// It cannot be opened for writing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its retention rules are of a kind that this version does not know.
    #[error("the run's retention rules cannot be read")]
    Rules(#[from] serde_json::Error),
    /// There is no such checkpoint.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The event could not be journalled: nothing has changed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A checkpoint that was removed, or that could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Its size in bytes.
    pub bytes: u64,
    /// Why no rule keeps it.
    pub reason: String,
    /// What went wrong, when it is still there.
    pub error: Option<String>,
}

/// What [`prune_run`] would remove: the checkpoints with their reasons, and nothing is changed.
///
/// # Errors
/// [`MaintainError::Rules`].
pub fn prunable(state: &RunState) -> Result<Vec<Removal>, MaintainError> {
    let plan = RetentionRules::of(state)?.plan(state);
    let removals = plan.dropped.into_iter().filter_map(|dropped| {
        // The names come from the state.
        let checkpoint: CheckpointName = dropped.name.parse().ok()?;
        let reasons: Vec<String> = dropped.reasons.iter().map(ToString::to_string).collect();
        Some(Removal {
            bytes: state.checkpoints.get(&checkpoint)?.saved.bytes,
            checkpoint,
            reason: reasons.join("; "),
            error: None,
        })
    });
    Ok(removals.collect())
}

/// Applies a run's retention rules now. The bests, last, pinned checkpoints and the one the run was resumed from stay whatever the
/// rules say.
///
/// # Errors
/// When the run cannot be opened for writing, which includes that it is being trained. A file that cannot be removed is
/// reported in its [`Removal`].
pub fn prune_run(path: &Path) -> Result<Vec<Removal>, MaintainError> {
    let mut run = RunWriter::open(path)?;
    let mut removals = prunable(run.state())?;
    for removal in &mut removals {
        if let Err(error) = run.prune(&removal.checkpoint, &removal.reason) {
            removal.error = Some(with_causes(&error));
        }
    }
    Ok(removals)
}

/// Keeps a checkpoint until it is unpinned. Returns its name, and whether it was not pinned already.
///
/// # Errors
/// When there is no such checkpoint, or the run cannot be written.
pub fn pin(path: &Path, which: &Selector) -> Result<(CheckpointName, bool), MaintainError> {
    set_pin(path, which, true)
}

/// Takes a pin away: retention decides again. Returns the checkpoint's name, and whether it was pinned.
///
/// # Errors
/// When there is no such checkpoint, or the run cannot be written.
pub fn unpin(path: &Path, which: &Selector) -> Result<(CheckpointName, bool), MaintainError> {
    set_pin(path, which, false)
}

fn set_pin(
    path: &Path,
    which: &Selector,
    pinned: bool,
) -> Result<(CheckpointName, bool), MaintainError> {
    let mut run = RunWriter::open(path)?;
    let checkpoint = find(run.path(), run.state(), which)?
        .saved
        .checkpoint
        .clone();
    let changes = run.state().pinned.contains(&checkpoint) != pinned;
    if changes {
        let event = PinnedEvent {
            checkpoint: checkpoint.clone(),
        };
        run.append(if pinned {
            Event::Pinned(event)
        } else {
            Event::Unpinned(event)
        })?;
    }
    Ok((checkpoint, changes))
}
