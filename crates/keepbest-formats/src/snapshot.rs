//! The weights at one step: what engines make, scorers take and a keeper saves.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::StateDict;

/// All weights at one step, immutable while held.
///
/// It is read on other threads while training goes on, so an implementation must not show later weights: it shares memory that the
/// next step does not write to, or it is a copy ([`OwnedSnapshot`]).
pub trait Snapshot: Any + Send + Sync {
    /// Optimizer steps taken.
    fn step(&self) -> u64;

    /// Parameters and buffers, by PyTorch's names and in its layouts.
    fn weights(&self) -> StateDict;

    /// What it takes to go on beside the weights, under names without the `optimizer.` that they have in a file: the optimizer's
    /// tensors by PyTorch's names (`momentum_buffer.conv1.weight`), averages, the state of random generators. Empty by default.
    fn training_state(&self) -> StateDict {
        StateDict::new()
    }

    /// Called within the offer, on the thread that offers, once it is decided what of this snapshot will be saved, if anything: a
    /// loop that has to copy its weights copies them now, and only what is wanted. Returns whether the snapshot can be read from
    /// now on; of one that cannot, the evaluation is recorded without a digest. By default there is nothing to do.
    ///
    /// # Errors
    /// Refuses the offer, which then has changed nothing.
    fn take(&self, _wanted: Wanted) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(true)
    }
}

/// The part of a snapshot that is going to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// Neither weights nor state.
    Nothing,
    /// [`Snapshot::weights`] alone.
    Weights,
    /// [`Snapshot::training_state`] as well.
    Everything,
}

/// A shared snapshot. Cloning counts references, and copies nothing.
#[derive(Clone)]
pub struct SnapshotHandle(Arc<dyn Snapshot>);

impl SnapshotHandle {
    /// Shares a snapshot.
    #[must_use]
    pub fn new(snapshot: impl Snapshot + 'static) -> Self {
        Self(Arc::new(snapshot))
    }

    /// The snapshot itself, for who knows its type: the engine that made it may read it without a state dict.
    #[must_use]
    pub fn downcast_ref<T: Snapshot>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }
}

impl From<Arc<dyn Snapshot>> for SnapshotHandle {
    fn from(snapshot: Arc<dyn Snapshot>) -> Self {
        Self(snapshot)
    }
}

impl Deref for SnapshotHandle {
    type Target = dyn Snapshot;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotHandle")
            .field("step", &self.step())
            .finish_non_exhaustive()
    }
}

/// A snapshot that owns its tensors, for training loops that copy their weights.
#[derive(Clone, Debug)]
pub struct OwnedSnapshot {
    /// Optimizer steps taken.
    pub step: u64,
    /// Parameters and buffers.
    pub weights: StateDict,
    /// Optimizer state.
    pub training_state: StateDict,
}

impl Snapshot for OwnedSnapshot {
    fn step(&self) -> u64 {
        self.step
    }

    fn weights(&self) -> StateDict {
        self.weights.clone()
    }

    fn training_state(&self) -> StateDict {
        self.training_state.clone()
    }
}
