//! Getting from a MODEL on the command line to a model that runs.

use std::path::{Path, PathBuf};

use keepbest_train::{Model, ModelPlace, Provenance, check_device, find_model, model_file_of};

use crate::cli::args::Compute;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;

/// The file a MODEL means.
pub fn locate(text: &str, runs_dir: &Path) -> Result<PathBuf, Failure> {
    let place = find_model(text, runs_dir)?;
    match place {
        ModelPlace::File(path) => Ok(path),
        ModelPlace::Run { run, which } => Ok(model_file_of(&run, which)?),
    }
}

/// Opens a MODEL, verified, and says what the user should know about it.
pub fn open(
    text: &str,
    runs_dir: &Path,
    compute: &Compute,
    terminal: &Terminal,
) -> Result<Model, Failure> {
    check_device(&compute.device)?;
    let model = Model::open(&locate(text, runs_dir)?, compute.network.as_deref())?;
    let warn = terminal.error_style().warn;
    for note in &model.notes {
        eprintln!("{warn}note:{warn:#} {note}");
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
