//! The settings of a run: flags and keys of `run.toml`, which are the same thing under one name.

mod augmentation;
mod choices;
mod config;
mod defaults;
mod derived;
mod error;
mod file;
mod given;
mod key;
mod recipe;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use augmentation::default_augmentation;
pub(crate) use augmentation::flip_note;
pub use choices::{
    AlsoKind, ByteSize, ClassWeights, EvalEvery, ImageSize, Mode, Monitors, OptimizerKind,
    PrecisionKind, Recipe, Resize, Sampling, SaveKind, ScheduleKind, Smooth, TimeBudget,
};
pub use config::check_device;
pub use defaults::{DEFAULT_DATA, DEFAULT_MODEL, DataDefaults};
pub use derived::Rederived;
pub use error::{Origin, SettingsError};
pub use file::{ChangedSetting, changed_settings, to_toml};
pub use key::{Group, Key};
pub use rows::{Config, Settings};
