//! Getting from a MODEL on the command line to a model that runs.

use std::path::Path;

use keepbest_model::{EvaluateOptions, FileAtHand, Model, find_model};
use keepbest_train::check_device;

use crate::cli::args::Compute;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// The file a MODEL means.
pub fn locate(text: &str, runs_dir: &Path) -> Result<FileAtHand, Failure> {
    Ok(FileAtHand::of(&find_model(text, runs_dir)?)?)
}

/// Opens a MODEL, verified, and says what the user should know about it.
pub fn open(
    text: &str,
    runs_dir: &Path,
    compute: &Compute,
    terminal: &Terminal,
) -> Result<Model, Failure> {
    check_device(&compute.device)?;
    let model = Model::open_reference(text, runs_dir, compute.network.as_deref())?;
    for note in &model.notes {
        terminal.note(note);
    }
    Ok(model)
}

/// How to measure with these flags.
pub fn measuring(compute: &Compute) -> EvaluateOptions {
    EvaluateOptions {
        batch_size: Some(compute.batch_size.into()),
        threads: compute.threads.count(),
        ..EvaluateOptions::default()
    }
}
