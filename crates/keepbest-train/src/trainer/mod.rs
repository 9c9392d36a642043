//! The flow from data to the best model.
//!
//! Data, split, loader; then steps, and at every evaluation a snapshot that is measured and offered to the keeper with its
//! metrics; then the best is read back from disk, measured again, and tested.

mod batch;
mod budget;
mod candidate;
mod carry;
mod clock;
mod create;
mod error;
mod events;
mod finish;
mod goals;
mod heed;
mod interrupt;
mod keeping;
mod lr_find;
mod measure;
mod outcome;
mod parent;
mod position;
mod ranks;
mod rate;
mod reporting;
mod resume;
mod run;
mod setup;
mod significance;
mod steps;
mod time_spent;

use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use budget::EpochsFitted;
pub use carry::Carried;
pub use error::TrainError;
pub use events::{Event, Judged, Observer, Overview, Progress, Wish};
pub use lr_find::{RangeTest, RatePoint, RateRange, lr_find};
pub use outcome::{Ending, Example, Finished, Outcome, Recheck};
pub use position::{ResumedFrom, Running, TrainerState};
pub use ranks::{follow, release_ranks};
pub use time_spent::{Profiled, TimeSpent};

use crate::settings::Settings;
use heed::Heed;
use keepbest_model::DEFAULT_RUNS_DIR;
use run::Run;
use setup::Setup;

/// Trains a new run.
///
/// The run's directory is `name` in `runs_dir`, both of the settings; without a name, the network's with the first number
/// that is free. Nothing is written before everything about the run is decided and its images have been read.
/// `preface` becomes a comment in `run.toml`. When `stop` becomes true, the step under way is completed, the resume point
/// saved, and the answer is [`Outcome::Interrupted`]; before the run is made there is nothing to save, and it is an error for
/// which [`TrainError::is_interrupted`] holds.
///
/// # Errors
/// [`TrainError`]. What was saved until then is kept, and what was reached is saved: [`TrainError::Stopped`].
pub fn train(
    given: &Settings,
    preface: &str,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let runs_dir = given
        .runs_dir
        .clone()
        .unwrap_or_else(|| DEFAULT_RUNS_DIR.into());
    let setup = Setup::new(given, &runs_dir, None, &Heed::new(observer, stop))?;
    let run = Run::create(setup, &runs_dir, given.name.as_deref(), preface)?;
    run.go(observer, stop)
}

/// Goes on with a run from its resume point, bit for bit as if it had never stopped.
///
/// Its settings are those of its `run.toml`, which must be what the run began with. Of `given`, only what does not change the model
/// may be set: `threads`, `data` and `data-dir` (the images, wherever they lie now, must be the same), and `epochs` to train
/// longer than planned (which makes the learning rates those of the longer plan). What is set is journalled, and told in
/// [`Event::Note`]; what had to be mended in the run's files first, in [`Event::Mended`].
///
/// # Errors
/// [`TrainError`]. What was saved until then is kept.
pub fn resume(
    run: &Path,
    given: &Settings,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let run = Run::resume(run, given, &Heed::new(observer, stop))?;
    run.go(observer, stop)
}
