//! Trainer and evaluator: from data to the best model, and from a model to answers.
//!
//! - [`Settings`] are what a user gives, by flag or in `run.toml`; [`Config`] is the same with everything decided.
//! - [`train`] and [`resume`] run the whole flow: steps, evaluations of snapshots, the keeper, the final test. They tell an
//!   [`Observer`] what happens, print nothing, and stop when told to.
//! - [`Model`] is a model file with what it takes to run it; [`Evaluator`] measures one, [`decide`] and [`top_k`] turn scores into
//!   answers.
//! - [`find_model`] reads the MODEL grammar: a file, a run, `run@last`, `run@step:1200`.

// Libraries never print.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod architecture;
pub mod average;
mod changes;
mod config;
mod costs;
mod criterion;
mod difference;
mod environment;
mod evaluate;
mod foreign;
mod log;
mod model;
mod model_ref;
mod noise;
mod outcomes;
mod overfitting;
mod place;
mod predict;
mod provenance;
mod report;
mod run_files;
mod run_name;
mod seen;
mod settings;
mod suggest;
mod thresholds;
mod trainer;

pub use architecture::{ArchitectureError, architecture, read_model_file, use_own_model};
pub use changes::{Change, PlanChange, plan_changes, settings_when_saved, written_anew};
pub use config::{Config, DEFAULT_DATA, DEFAULT_MODEL, DEVICES, DataDefaults, check_device};
pub use costs::{LATENCY, fixed_costs, is_timed};
pub use criterion::Criterion;
pub use difference::MetricDifference;
pub use environment::{Environment, Git};
pub use evaluate::{EvaluateError, Evaluator, Measured};
pub use foreign::{Opened, Opening, about_model, open_any};
pub use model::{Model, ModelError, guess_network, named_spec, part_of, told};
pub use model_ref::{
    DEFAULT_RUNS_DIR, ModelPlace, ModelRefError, find_model, find_resumable, find_run,
};
pub use noise::{Compared, PairedTest, Selection, Trace, TraceError};
pub use outcomes::{
    ClassIntervals, Comparison, Intervals, Outcomes, OutcomesError, Resampled, Wrong,
};
pub use overfitting::Overfitting;
pub use place::{NotThere, Place, settle_places};
pub use predict::{Guess, decide, top_k};
pub use provenance::{CriterionRecord, DataRecord, Parent, Provenance, SplitRecord};
pub use report::{
    Closeup, KeptFront, Mistake, OtherBest, Overlaid, REPORT_FILE, Report, overlay_page,
};
pub use run_files::{FileAtHand, RunFilesError, model_file_of, status_of};
pub use seen::{Seen, SeenBefore};
pub use settings::{
    AlsoKind, ByteSize, ChangedSetting, ClassWeights, EvalEvery, Following, Group, ImageSize, Key,
    Mode, Monitors, OptimizerKind, Origin, PrecisionKind, Recipe, Resize, Sampling, SaveKind,
    ScheduleKind, Settings, SettingsError, Smooth, TimeBudget, changed_settings, to_toml,
};
pub use suggest::nearest;
pub use thresholds::TunedThresholds;
pub use trainer::{
    Carried, Ending, Event, Example, Finished, Fitted, Judged, Observer, Outcome, Overview,
    Profiled, Progress, RangeTest, RatePoint, RateRange, Recheck, ResumedFrom, Running, TimeSpent,
    TrainError, TrainerState, Wish, default_augmentation, lr_find, resume, train,
};
