//! The weights of a PyTorch engine at one step: a copy that is on its way to this machine's memory while training goes on.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use keepbest_formats::{Snapshot, StateDict, Wanted};
use pyo3::prelude::*;

use super::layout::{Face, Layout};
use super::worker::{TorchError, run};
use crate::arena::Arena;

/// What was copied, and the memory that it comes to.
pub(super) struct Taken {
    /// `keepbest.torch._engine.Snapshot`.
    pub(super) object: Py<PyAny>,
    memory: Bytes,
    arrived: OnceLock<Result<(), TorchError>>,
}

impl Taken {
    pub(super) fn of(py: Python<'_>, object: Py<PyAny>) -> PyResult<Self> {
        let arena = object.getattr(py, "arena")?;
        let memory = arena.bind(py).cast::<Arena>()?.get().bytes();
        let arrived = OnceLock::new();
        if object.getattr(py, "is_here")?.extract(py)? {
            let _ = arrived.set(Ok(()));
        }
        Ok(Self {
            object,
            memory,
            arrived,
        })
    }
}

/// A snapshot of a PyTorch engine.
pub(super) struct TorchSnapshot {
    pub(super) step: u64,
    pub(super) layout: Arc<Layout>,
    pub(super) face: Face,
    /// What was copied, unless the device failed.
    pub(super) taken: Result<Arc<Taken>, TorchError>,
}

impl TorchSnapshot {
    /// The memory, once everything is in it.
    fn memory(&self) -> Result<&Bytes, TorchError> {
        let taken = self.taken.as_ref().map_err(Clone::clone)?;
        let arrived = taken.arrived.get_or_init(|| {
            let taken = Arc::clone(taken);
            run(move |py| taken.object.call_method0(py, "wait").map(drop))
        });
        arrived.clone().map(|()| &taken.memory)
    }
}

impl Snapshot for TorchSnapshot {
    fn step(&self) -> u64 {
        self.step
    }

    /// Empty where the device failed, which [`take`](Snapshot::take) tells before anybody reads it.
    fn weights(&self) -> StateDict {
        let memory = self.memory();
        memory.map_or_else(
            |_| StateDict::new(),
            |it| self.layout.weights(it, self.face),
        )
    }

    fn training_state(&self) -> StateDict {
        let memory = self.memory();
        memory.map_or_else(
            |_| StateDict::new(),
            |it| self.layout.training(it, self.face),
        )
    }

    fn take(&self, _wanted: Wanted) -> Result<bool, Box<dyn Error + Send + Sync>> {
        match &self.taken {
            Ok(_) => Ok(true),
            Err(error) => Err(Box::new(error.clone())),
        }
    }
}
