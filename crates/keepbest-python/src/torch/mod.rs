//! PyTorch as the engine of every device but the CPU: what the trainer knows of it, over `keepbest.torch._engine`.

mod engine;
mod layout;
mod ranks;
mod scorer;
mod snapshot;
mod worker;

use std::sync::Arc;

use keepbest_nn::{
    Alone, Collective, DeviceProvider, Engine, EngineConfig, EngineError, ModelSpec, Network,
    Scorer, provide_devices,
};
use pyo3::prelude::*;

use engine::TorchEngine;
pub(crate) use ranks::join_ranks;
use ranks::{RANKS, TorchRanks};
use scorer::TorchScorer;

/// The module that computes.
const MODULE: &str = "keepbest.torch._engine";

/// Adds PyTorch's devices to those of this process. PyTorch itself is imported when one is asked for.
pub(crate) fn provide() {
    // A second import of the module finds them there.
    let _ = provide_devices(PyTorch);
}

struct PyTorch;

impl DeviceProvider for PyTorch {
    fn check(&self, device: &str) -> Result<(), EngineError> {
        let asked = device.to_owned();
        let problem = worker::run(move |py| {
            if let Err(error) = py.import("torch") {
                return Ok(Some(format!(
                    "PyTorch is not installed, or does not load ({error}); pip install \"keepbest[torch]\" brings it"
                )));
            }
            let module = py.import(MODULE)?;
            module.getattr("problem")?.call1((asked,))?.extract()
        });
        match problem {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(EngineError::NotHere {
                device: device.to_owned(),
                problem,
            }),
            Err(error) => Err(failed(error)),
        }
    }

    fn build_engine(
        &self,
        device: &str,
        spec: &ModelSpec,
        config: EngineConfig,
    ) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(TorchEngine::new(
            device,
            Network::new(spec)?,
            config,
        )?))
    }

    fn build_scorer(
        &self,
        device: &str,
        spec: &ModelSpec,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Box<dyn Scorer>, EngineError> {
        let network = Network::new(spec)?;
        Ok(Box::new(TorchScorer::new(
            device, network, batch_size, threads,
        )?))
    }

    fn collective(&self) -> Arc<dyn Collective> {
        match RANKS.get() {
            Some(&(rank, ranks)) => Arc::new(TorchRanks { rank, ranks }),
            None => Arc::new(Alone),
        }
    }
}

fn failed(error: worker::TorchError) -> EngineError {
    EngineError::Device(Box::new(error))
}
