//! Trainer: from data to the best model.
//!
//! - [`Settings`] are what a user gives, by flag or in `run.toml`; [`Config`] is the same with everything decided.
//! - [`train`] and [`resume`] run the whole flow: steps, evaluations of snapshots, the keeper, the final test. They tell an
//!   [`Observer`] what happens, print nothing, and stop when told to.
//! - [`Report`] is a run as a page to look at.
//!
//! What becomes of a model after that is `keepbest-model`'s.

#![forbid(unsafe_code)]

mod changes;
mod log;
mod noise;
mod overfitting;
mod report;
mod run_name;
mod settings;
mod settle;
mod trainer;

pub use changes::{
    Change, PlanChange, compare_settings, plan_changes, settings_when_saved, written_anew,
};
pub use noise::{Compared, PairedTest, Selection, Trace, TraceError};
pub use overfitting::Overfitting;
pub use report::{
    Closeup, KeptFront, Mistake, OtherBest, Overlaid, REPORT_FILE, Report, overlay_page,
};
pub use settings::{
    AlsoKind, ByteSize, ChangedSetting, ClassWeights, Config, DEFAULT_DATA, DEFAULT_MODEL,
    DataDefaults, EvalEvery, Group, ImageSize, Key, Mode, Monitors, OptimizerKind, Origin,
    PrecisionKind, Recipe, Rederived, Resize, Sampling, SaveKind, ScheduleKind, Settings,
    SettingsError, Smooth, TimeBudget, changed_settings, check_device, default_augmentation,
    to_toml,
};
pub use settle::{settle_above, settle_places, use_own_model};
pub use trainer::{
    Carried, Ending, EpochsFitted, Event, Example, Finished, Judged, Observer, Outcome, Overview,
    Profiled, Progress, RangeTest, RatePoint, RateRange, Recheck, ResumedFrom, Running, TimeSpent,
    TrainError, TrainerState, Wish, follow, lr_find, release_ranks, resume, train,
};
