//! The ranks of `torch.distributed`, over `keepbest.torch._distributed`.

use std::sync::OnceLock;

use keepbest_nn::{Collective, CollectiveError};
use pyo3::prelude::*;

use super::worker::{TorchError, run};

/// The module that talks to the others.
const MODULE: &str = "keepbest.torch._distributed";

/// The rank of this process and their number, where it is one of several.
pub(super) static RANKS: OnceLock<(usize, usize)> = OnceLock::new();

/// This process is rank `rank` of `ranks`; `keepbest.torch._distributed` has joined the others.
#[pyfunction]
pub(crate) fn join_ranks(rank: usize, ranks: usize) {
    // Joined once, it stays.
    let _ = RANKS.set((rank, ranks));
}

/// This process among the others.
#[derive(Debug)]
pub(super) struct TorchRanks {
    pub(super) rank: usize,
    pub(super) ranks: usize,
}

impl TorchRanks {
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Bound<'_, PyModule>) -> PyResult<T> + Send + 'static,
    ) -> Result<T, CollectiveError> {
        let done = run(move |py| call(&py.import(MODULE)?));
        done.map_err(|error| lost(self.rank, error))
    }
}

/// As the trainer knows that another rank is lost.
pub(super) fn lost(rank: usize, error: TorchError) -> CollectiveError {
    CollectiveError::new(rank, Box::new(error))
}

impl Collective for TorchRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let (address, count) = (values.as_mut_ptr().expose_provenance(), values.len());
        self.call(move |module| {
            let sum = module.getattr("sum_at")?;
            sum.call1((address, count, "float32")).map(drop)
        })
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), CollectiveError> {
        let (address, count) = (values.as_mut_ptr().expose_provenance(), values.len());
        self.call(move |module| {
            let sum = module.getattr("sum_at")?;
            sum.call1((address, count, "float64")).map(drop)
        })
    }

    fn tell(&self, message: &[u8]) -> Result<(), CollectiveError> {
        let message = message.to_vec();
        self.call(move |module| {
            let message = pyo3::types::PyBytes::new(module.py(), &message);
            module.getattr("tell")?.call1((message,)).map(drop)
        })
    }

    fn hear(&self) -> Result<Vec<u8>, CollectiveError> {
        self.call(|module| module.getattr("hear")?.call0()?.extract())
    }

    fn gather(&self, values: &[f32]) -> Result<Vec<Vec<f32>>, CollectiveError> {
        let (address, count) = (values.as_ptr().expose_provenance(), values.len());
        self.call(move |module| module.getattr("gather")?.call1((address, count))?.extract())
    }
}
