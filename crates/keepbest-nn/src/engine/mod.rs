//! What a training engine is, whatever device computes.
//!
//! [`Engine`] trains a network and [`Scorer`] scores images with one; both are object-safe, and the rest of keepbest knows nothing
//! else of what computes. [`build_engine`] and [`build_scorer`] make those of a device.

mod batch;
mod collective;
mod config;
mod contract;
mod device;
mod error;
mod precision;
mod scorer;
mod tuning;

pub use batch::Batch;
pub use collective::{Alone, Collective, CollectiveError};
pub use config::{Averaging, EngineConfig, LossConfig};
pub use contract::{Determinism, Engine, StepOutput, WhichWeights};
pub use device::{
    CPU, DEVICES, DeviceProvider, build_engine, build_scorer, check_device, collective, devices,
    is_device_name, provide_devices,
};
pub use error::{EngineError, ScoreError, StepError};
pub use precision::Precision;
pub use scorer::Scorer;
pub(crate) use tuning::Rates;
pub use tuning::Tuning;
