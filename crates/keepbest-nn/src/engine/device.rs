//! The engines there are, by device.

use super::collective::{Alone, Collective};
use super::config::EngineConfig;
use super::contract::Engine;
use super::error::EngineError;
use super::scorer::Scorer;
use crate::cpu::{CpuEngine, CpuScorer};
use crate::spec::ModelSpec;
use std::sync::{Arc, OnceLock};

/// The device that every build computes on, with code of ours: the default.
pub const CPU: &str = "cpu";

/// The names that devices have, the default first; `N` is a number. All but the first compute with PyTorch, in the Python package.
pub const DEVICES: &[&str] = &[CPU, "cuda", "cuda:N", "mps", "xpu", "xpu:N", "torch:cpu"];

/// What makes the engines and scorers of the devices of [`DEVICES`] that this crate has none for.
pub trait DeviceProvider: Send + Sync {
    /// Says whether a device is on this machine, and can be computed on.
    ///
    /// # Errors
    /// [`EngineError::NotHere`], which says what is missing.
    fn check(&self, device: &str) -> Result<(), EngineError>;

    /// As [`build_engine`], for a device that [`check`](Self::check) has accepted.
    ///
    /// # Errors
    /// [`EngineError`], as there.
    fn build_engine(
        &self,
        device: &str,
        spec: &ModelSpec,
        config: EngineConfig,
    ) -> Result<Box<dyn Engine>, EngineError>;

    /// As [`build_scorer`], for a device that [`check`](Self::check) has accepted.
    ///
    /// # Errors
    /// [`EngineError`], as there.
    fn build_scorer(
        &self,
        device: &str,
        spec: &ModelSpec,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Box<dyn Scorer>, EngineError>;

    /// The ranks that this process is one of.
    fn collective(&self) -> Arc<dyn Collective> {
        Arc::new(Alone)
    }
}

static PROVIDER: OnceLock<Box<dyn DeviceProvider>> = OnceLock::new();

/// Adds the other devices of [`DEVICES`] to this process, once and for all. Whether it did: the first provider stays.
pub fn provide_devices(provider: impl DeviceProvider + 'static) -> bool {
    PROVIDER.set(Box::new(provider)).is_ok()
}

/// The ranks that this process is one of: itself alone, unless a [`DeviceProvider`] says otherwise.
pub fn collective() -> Arc<dyn Collective> {
    let provider = PROVIDER.get();
    provider.map_or_else(
        || Arc::new(Alone) as Arc<dyn Collective>,
        |it| it.collective(),
    )
}

/// The names of the devices that this process can ask for: without a [`DeviceProvider`], the CPU alone.
pub fn devices() -> &'static [&'static str] {
    match PROVIDER.get() {
        Some(_) => DEVICES,
        None => &DEVICES[..1],
    }
}

/// Whether a name has one of the forms of [`DEVICES`].
pub fn is_device_name(device: &str) -> bool {
    DEVICES.iter().any(|form| match form.strip_suffix('N') {
        Some(kind) => device
            .strip_prefix(kind)
            .is_some_and(|number| number.parse::<u16>().is_ok_and(|n| n.to_string() == number)),
        None => *form == device,
    })
}

/// Says whether a device can be computed on here.
///
/// # Errors
/// [`EngineError::NoDevice`] for a name that is none or that this build has nothing for, [`EngineError::NotHere`] for a device that
/// the machine does not have.
pub fn check_device(device: &str) -> Result<(), EngineError> {
    match device {
        CPU => Ok(()),
        _ => provider(device)?.check(device),
    }
}

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
    if device == CPU {
        return Ok(Box::new(CpuEngine::new(spec, config)?));
    }
    let provider = provider(device)?;
    provider.check(device)?;
    provider.build_engine(device, spec, config)
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
    if device == CPU {
        return Ok(Box::new(CpuScorer::new(spec, batch_size, threads)?));
    }
    let provider = provider(device)?;
    provider.check(device)?;
    provider.build_scorer(device, spec, batch_size, threads)
}

/// What computes on a device that is not the CPU.
fn provider(device: &str) -> Result<&'static dyn DeviceProvider, EngineError> {
    let known = is_device_name(device);
    match PROVIDER.get() {
        Some(provider) if known => Ok(&**provider),
        _ => Err(EngineError::NoDevice {
            device: device.to_owned(),
            known,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{CPU, check_device, devices, is_device_name};
    use crate::engine::EngineError;

    #[test]
    fn names_have_a_form() {
        for name in [
            "cpu",
            "cuda",
            "cuda:0",
            "cuda:12",
            "mps",
            "xpu:1",
            "torch:cpu",
        ] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            "gpu",
            "cuda:",
            "cuda:N",
            "cuda:-1",
            "cuda:01",
            "cuda:70000",
            "mps:0",
            "CPU",
        ] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn without_a_provider_there_is_the_cpu() {
        assert_eq!(devices(), [CPU]);
        check_device("cpu").unwrap();
        let told = |name| match check_device(name) {
            Err(EngineError::NoDevice { known, .. }) => known,
            other => panic!("{other:?}"),
        };
        assert!(told("cuda:1") && !told("gpu"));
    }
}
