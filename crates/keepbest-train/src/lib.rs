//! Trainer and evaluator: data to the best model, step by step.

mod config;
mod settings;
mod suggest;

pub use config::{Config, DEFAULT_DATA, DEFAULT_MODEL, DEVICES, DataDefaults, check_device};
pub use settings::{
    Augment, ClassWeights, EvalEvery, Group, ImageSize, Key, Mode, OptimizerKind, Origin, SaveKind,
    ScheduleKind, Settings, SettingsError, to_toml,
};
pub use suggest::nearest;
