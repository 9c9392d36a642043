//! Model specs, zoo, shape inference, plan, forward and backward, optimizers, snapshots.
//!
//! A [`ModelSpec`] is an architecture as data; [`zoo::spec`] has some by name. [`Network::new`] checks it.
//! An [`Engine`] trains it, a [`Scorer`] scores images with it, and a snapshot holds its weights at one step; [`build_engine`] makes
//! the engine of a device, of which [`CpuEngine`] is ours.
//!
//! Images are dense `[n, height, width, channels]` f32, normalised; parameters have PyTorch's names, shapes
//! and layouts. In f32 the results depend on the seed and the data alone, not on the number of threads or the
//! processor's instructions.

#![forbid(unsafe_code)]

mod cpu;
mod engine;
mod memory;
mod network;
pub mod onnx;
mod ops;
mod params;
mod plan;
mod profile;
mod random;
pub mod schedule;
mod spec;
pub mod zoo;

pub use cpu::{CpuEngine, CpuScorer};
pub use engine::{
    Alone, Averaging, Batch, CPU, Collective, CollectiveError, DEVICES, Determinism,
    DeviceProvider, Engine, EngineConfig, EngineError, LossConfig, Precision, ScoreError, Scorer,
    StepError, StepOutput, Tuning, WhichWeights, build_engine, build_scorer, check_device,
    collective, devices, is_device_name, provide_devices,
};
pub use keepbest_formats::{OptimizerConfig, OptimizerDefaults, OptimizerKind, SettingError};
pub use keepbest_kernels::Isa;
pub use keepbest_kernels::loss::{Labels, SecondLabels};
pub use network::{LayerError, LayerSummary, Network};
pub use params::{
    AVERAGE_PREFIX, Mismatch, ParamLayout, ParamTensor, RAW_PREFIX, RNG_PREFIX, Role,
    SCALER_PREFIX, WeightsError, average_share, optimizer_state, trained_first,
};
pub use profile::{Phase, Profile, ProfileEntry};
pub use spec::*;
