//! Model specs, zoo, shape inference, plan, forward and backward, optimizers, snapshots.
//!
//! A [`ModelSpec`] is an architecture as data; [`zoo::spec`] has some by name. [`Network::new`] checks it.
//! [`CpuEngine`] trains it, [`Predictor`] scores images with it, and a [`Snapshot`] holds its weights at one
//! step without copying them.
//!
//! Images are dense `[n, height, width, channels]` f32, normalised; parameters have PyTorch's names, shapes
//! and layouts. In f32 the results depend on the seed and the data alone, not on the number of threads or the
//! processor's instructions.

// Libraries never print.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod engine;
mod memory;
mod network;
pub mod onnx;
mod ops;
mod params;
mod plan;
mod predictor;
mod profile;
mod random;
pub mod schedule;
mod spec;
pub mod zoo;

pub use engine::{
    Averaging, CpuEngine, Engine, EngineConfig, EngineError, LossConfig, StepError, StepOutput,
    Tuning,
};
pub use keepbest_formats::{OptimizerConfig, OptimizerDefaults, OptimizerKind, SettingError};
pub use keepbest_kernels::loss::{Labels, Mixed};
pub use keepbest_kernels::{Isa, Precision};
pub use network::{LayerError, LayerSummary, Network};
pub use params::{
    Mismatch, ParamLayout, ParamTensor, Role, Snapshot, WeightsError, optimizer_state,
};
pub use predictor::{PredictError, Predictor};
pub use profile::{Phase, Profile, ProfileEntry};
pub use spec::*;
