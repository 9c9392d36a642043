#![doc = include_str!("../README.md")]
//!
//! - [`find_model`] reads the MODEL grammar: a file, a run, `run@last`, `run@step:1200`.
//! - [`Model`] is a model file with what it takes to run it; [`open_any`] reads files of others, too.
//! - [`Classifier`] answers what images show, a batch at a time.
//! - [`evaluate`], [`compare`], [`verify`], [`tune`], [`average::average`], [`import`], [`export`], [`card`] and [`attest`] do what
//!   the verbs of the command line do, and tell a [`Watch`] how far they are.
#![forbid(unsafe_code)]

mod architecture;
mod attest;
pub mod average;
mod card;
mod classify;
mod compare;
mod costs;
mod criterion;
mod difference;
mod environment;
mod error;
mod evaluate;
mod evaluation;
mod examine;
mod export;
mod foreign;
mod images;
mod import;
mod interpret;
mod model;
mod model_ref;
mod network;
mod origin;
mod other_loop;
mod outcomes;
pub mod place;
mod predict;
mod provenance;
mod run_files;
mod run_summary;
mod scores;
mod seen;
mod thresholds;
mod tune;
mod verify;
mod watch;
pub mod words;
pub mod write;

pub use architecture::{
    ArchitectureError, architecture, check_architecture, is_model_file, keep_model, own_model_file,
    read_model_file,
};
pub use attest::{AttestError, attest};
pub use card::{CardError, card};
pub use classify::{Classifier, ClassifyError, ClassifyOptions};
pub use compare::{CompareError, CompareReport, Contender, Pair, Side, compare};
pub use costs::{Costs, LATENCY, fixed_costs, is_timed};
pub use criterion::Criterion;
pub use difference::{MetricDifference, SMOOTHED_SUFFIX, engine_tolerance};
pub use environment::{Environment, Git};
pub use error::ModelError;
pub use evaluate::{EvaluateError, Evaluator, Measured};
pub use evaluation::{EvaluateOptions, EvaluateReport, evaluate};
pub use examine::{ExamineError, examine};
pub use export::{ExportError, ExportForm, ExportOptions, ExportReport, Exported, export};
pub use foreign::{Opened, Opening, about_model, open_any};
pub use images::{
    ChangedSplit, ChosenImages, ImageChoice, ImageSource, ImagesUsed, MeasureError, MeasureOptions,
    Part, RecordedImages, SameImagesError, check_scores, measure,
};
pub use import::{
    Checked, Converted, ImportError, ImportOptions, Imported, PreprocessError, ReferenceError,
    Scores, TOLERANCE, import, preprocessing,
};
pub use interpret::{Answer, AnswerError, Fitted, Interpreter, Rating};
pub use model::{Model, OpenReferenceError};
pub use model_ref::{
    DEFAULT_RUNS_DIR, ModelPlace, ModelRefError, find_model, find_resumable, find_run,
};
pub use origin::{ChangedOrigin, OriginError, changed_origin};
pub use other_loop::OtherLoop;
pub use outcomes::{
    ClassIntervals, Comparison, Intervals, Outcomes, OutcomesError, Resampled, Wrong,
};
pub use place::{NotThere, Place};
pub use predict::{Guess, decide, probabilities, top_k};
pub use provenance::{CriterionRecord, DataRecord, Parent, Provenance, SplitRecord};
pub use run_files::{
    FileAtHand, OpenRunError, OpenWholeRunError, RunFilesError, model_file_of, open_run,
    open_whole_run, status_of,
};
pub use run_summary::RunSummary;
pub use seen::{Seen, SeenBefore};
pub use thresholds::TunedThresholds;
pub use tune::{TuneError, TuneOptions, Tuning, tune};
pub use verify::{
    Check, CompareSettings, SettingDiffers, SettingsFound, VerifyError, VerifyOptions,
    VerifyReport, verify,
};
pub use watch::{Event, Stage, Watch};
