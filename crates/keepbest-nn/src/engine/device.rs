//! The engines of this build, by device.

use super::config::EngineConfig;
use super::contract::Engine;
use super::error::EngineError;
use super::scorer::Scorer;
use crate::cpu::{CpuEngine, CpuScorer};
use crate::spec::ModelSpec;

/// The devices that this build computes on, the default first.
pub const DEVICES: &[&str] = &["cpu"];

/// Makes the engine of a device for a model, its starting weights drawn from the seed.
///
/// ```
/// use keepbest_nn::{Batch, EngineConfig, build_engine, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let mut engine = build_engine("cpu", &spec, EngineConfig { batch_size: 4, ..Default::default() })?;
/// let images = vec![0.5; 4 * 28 * 28];
/// engine.step(Batch::new(&images, &[3, 3, 3, 3]), 0.1)?;
/// assert_eq!(engine.snapshot().step(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EngineError`]: no such device, layers that do not fit, a setting outside its range.
pub fn build_engine(
    device: &str,
    spec: &ModelSpec,
    config: EngineConfig,
) -> Result<Box<dyn Engine>, EngineError> {
    match device {
        "cpu" => Ok(Box::new(CpuEngine::new(spec, config)?)),
        _ => Err(no_device(device)),
    }
}

/// Makes the scorer of a device for a model: for batches of up to `batch_size` images, on `threads` threads of this machine (its
/// processors when absent).
///
/// # Errors
/// [`EngineError`]: no such device, layers that do not fit, a batch size of 0.
pub fn build_scorer(
    device: &str,
    spec: &ModelSpec,
    batch_size: usize,
    threads: Option<usize>,
) -> Result<Box<dyn Scorer>, EngineError> {
    match device {
        "cpu" => Ok(Box::new(CpuScorer::new(spec, batch_size, threads)?)),
        _ => Err(no_device(device)),
    }
}

fn no_device(device: &str) -> EngineError {
    EngineError::NoDevice {
        device: device.to_owned(),
    }
}
