//! Getting from a MODEL on the command line to a model that runs.

use std::path::{Path, PathBuf};

use keepbest_keeper::RunView;
use keepbest_train::{Model, ModelPlace, Provenance, check_device, find_model, model_file_of};

use crate::cli::archive::Temporary;
use crate::cli::args::Compute;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;

/// The file a MODEL means; one that was restored from an archive goes with what is returned beside it.
pub fn locate(text: &str, runs_dir: &Path) -> Result<(PathBuf, Option<Temporary>), Failure> {
    file_of(&find_model(text, runs_dir)?)
}

/// The file at a place.
pub fn file_of(place: &ModelPlace) -> Result<(PathBuf, Option<Temporary>), Failure> {
    match place {
        ModelPlace::File(path) => Ok((path.clone(), None)),
        ModelPlace::Run { run, which } => {
            if let Ok(view) = RunView::open(run)
                && view.is_archived(*which)
            {
                let (path, temporary) = Temporary::of(&view, *which)?;
                return Ok((path, Some(temporary)));
            }
            Ok((model_file_of(run, *which)?, None))
        }
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
    let (path, _temporary) = locate(text, runs_dir)?;
    let model = Model::open(&path, compute.network.as_deref())?;
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
