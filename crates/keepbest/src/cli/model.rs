//! Getting from a MODEL on the command line to a model that runs.

use std::path::Path;

use keepbest_core::{Direction, Objective};
use keepbest_keeper::RunView;
use keepbest_train::{FileAtHand, Model, ModelPlace, Provenance, check_device, find_model};

use crate::cli::args::Compute;
use crate::cli::failure::{Exit, Failure};
use crate::cli::runs::warn_of_forgotten;
use crate::cli::terminal::Terminal;

/// The file a MODEL means.
pub fn locate(text: &str, runs_dir: &Path) -> Result<FileAtHand, Failure> {
    let place = find_model(text, runs_dir)?;
    let file = FileAtHand::of(&place)?;
    if let ModelPlace::Run { run, .. } = &place
        && let Ok(view) = RunView::open(run)
    {
        warn_of_forgotten(&view, &Terminal::detect());
    }
    Ok(file)
}

/// Opens a MODEL, verified, and says what the user should know about it.
pub fn open(
    text: &str,
    runs_dir: &Path,
    compute: &Compute,
    terminal: &Terminal,
) -> Result<Model, Failure> {
    check_device(&compute.device)?;
    let file = locate(text, runs_dir)?;
    let model = Model::open(file.path(), compute.network.as_deref())?;
    model.check_finite()?;
    for note in &model.notes {
        terminal.note(note);
    }
    Ok(model)
}

/// What was recorded about the model's making.
pub fn provenance(model: &Model) -> Result<&Provenance, Failure> {
    model.provenance.as_ref().ok_or_else(|| {
        let message = format!(
            "{} does not record which images it was trained on",
            model.path.display()
        );
        Failure::new(Exit::Failed, message).with_hint(Some("name them: --data".to_owned()))
    })
}

/// What better meant when the model was chosen.
pub fn objective(recorded: &Provenance) -> Result<Objective, Failure> {
    let text = |key: &str| recorded.config.get(key).and_then(toml::Value::as_str);
    let direction = match text("mode") {
        Some("max") => Some(Direction::Maximise),
        Some("min") => Some(Direction::Minimise),
        _ => None,
    };
    // Of several the first decided.
    let monitor = match recorded.config.get("monitor") {
        Some(toml::Value::Array(all)) => all.first().and_then(toml::Value::as_str),
        other => other.and_then(toml::Value::as_str),
    };
    Objective::build(monitor.unwrap_or("val/accuracy"), direction)
        .and_then(|objective| match text("tie-break") {
            Some(metric) if metric != "none" => objective.with_tie_break(metric, None),
            _ => Ok(objective),
        })
        .map_err(|error| Failure::of(Exit::Failed, &error))
}
