//! A model put to use: opened by reference, measured, asked, verified, compared, brought in and handed on. Needs no trainer.
//!
//! - [`find_model`] reads the MODEL grammar: a file, a run, `run@last`, `run@step:1200`.
//! - [`Model`] is a model file with what it takes to run it; [`open_any`] reads files of others, too.
//! - [`Evaluator`] measures one, [`decide`] and [`top_k`] turn scores into answers.

// Libraries never print.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod architecture;
pub mod average;
mod costs;
mod criterion;
mod difference;
mod environment;
mod error;
mod evaluate;
mod foreign;
mod model;
mod model_ref;
mod network;
mod outcomes;
pub mod place;
mod predict;
mod provenance;
mod run_files;
mod seen;
mod suggest;
mod thresholds;
pub mod words;

pub use architecture::{
    ArchitectureError, architecture, check_architecture, is_model_file, keep_model, own_model_file,
    read_model_file,
};
pub use costs::{Costs, LATENCY, fixed_costs, is_timed};
pub use criterion::Criterion;
pub use difference::{MetricDifference, SMOOTHED_SUFFIX};
pub use environment::{Environment, Git};
pub use error::ModelError;
pub use evaluate::{EvaluateError, Evaluator, Measured};
pub use foreign::{Opened, Opening, about_model, open_any};
pub use model::{Model, OpenReferenceError};
pub use model_ref::{
    DEFAULT_RUNS_DIR, ModelPlace, ModelRefError, find_model, find_resumable, find_run,
};
pub use network::{guess_network, named_spec, part_of, told};
pub use outcomes::{
    ClassIntervals, Comparison, Intervals, Outcomes, OutcomesError, Resampled, Wrong,
};
pub use place::{NotThere, Place};
pub use predict::{Guess, decide, top_k};
pub use provenance::{CriterionRecord, DataRecord, Parent, Provenance, SplitRecord};
pub use run_files::{FileAtHand, RunFilesError, model_file_of, status_of};
pub use seen::{Seen, SeenBefore};
pub use suggest::nearest;
pub use thresholds::TunedThresholds;
