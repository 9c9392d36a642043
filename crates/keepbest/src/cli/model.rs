//! Getting from a MODEL on the command line to a model that runs.

use std::path::Path;

use keepbest_keeper::RunView;
use keepbest_model::{EvaluateOptions, FileAtHand, Model, ModelPlace, find_model};
use keepbest_train::check_device;

use crate::cli::args::Compute;
use crate::cli::failure::Failure;
use crate::cli::runs::warn_of_forgotten;
use crate::cli::terminal::Terminal;

/// The file a MODEL means.
pub(super) fn locate(text: &str, runs_dir: &Path) -> Result<FileAtHand, Failure> {
    let place = find_model(text, runs_dir)?;
    let file = FileAtHand::of(&place)?;
    warn_of_run(&place, &Terminal::detect());
    Ok(file)
}

/// Warns when the journal of a model's run knows less than its files.
fn warn_of_run(place: &ModelPlace, terminal: &Terminal) {
    if let ModelPlace::Run { run, .. } = place
        && let Ok(view) = RunView::open(run)
    {
        warn_of_forgotten(&view, terminal);
    }
}

/// Opens a MODEL, verified, and says what the user should know about it.
pub(super) fn open(
    text: &str,
    runs_dir: &Path,
    compute: &Compute,
    terminal: &Terminal,
) -> Result<Model, Failure> {
    check_device(&compute.on.device)?;
    let place = find_model(text, runs_dir)?;
    let model = Model::open_place(&place, compute.network.as_deref())?;
    warn_of_run(&place, terminal);
    for note in &model.notes {
        terminal.note(note);
    }
    Ok(model)
}

/// The options for measuring that these flags give.
pub(super) fn measuring(compute: &Compute) -> EvaluateOptions {
    EvaluateOptions {
        batch_size: Some(compute.batch_size.into()),
        threads: compute.threads.count(),
        device: Some(compute.on.device.clone()),
        ..EvaluateOptions::default()
    }
}
