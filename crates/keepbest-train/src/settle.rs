//! What settings name, found where it lies now: images, the model to start from, and a run's own network.

use std::path::Path;

use keepbest_model::place::{NotThere, absolute, find, recorded};
use keepbest_model::{is_model_file, own_model_file};

use crate::settings::Settings;

/// Has a run that was trained from a model file trained again from its own copy.
pub fn use_own_model(settings: &mut Settings, run: &Path) {
    if settings.model.as_deref().is_some_and(is_model_file)
        && let Some(copy) = own_model_file(run)
    {
        settings.model = Some(copy.display().to_string());
    }
}

/// Has the settings of a run name its images, the model it starts from and its own network where they are now. `file` is its
/// `run.toml`, or another file of settings: what that names may lie beside it.
///
/// # Errors
/// When the images of a run are nowhere.
pub fn settle_places(settings: &mut Settings, file: &Path) -> Result<(), NotThere> {
    let folder = file.parent().unwrap_or(Path::new(""));
    // Looked up from beside the file as from a run.
    let run = absolute(file).and_then(|file| Some(file.parent()?.to_owned()));
    let run = run.as_deref();
    let places = recorded(folder);
    let locate = |written: &str| match folder.join("journal.jsonl").exists() {
        true => find(written, &[&places.data], run).map(Some),
        // What is nowhere may be a mistyped name: that is told by who opens it.
        false => Ok(Some(folder.join(written))
            .filter(|beside| !Path::new(written).exists() && beside.exists())),
    };
    if let Some(data) = settings
        .data
        .clone()
        .filter(|data| !keepbest_data::is_named(data))
        && let Some(found) = locate(&data)?
    {
        settings.data = Some(found.display().to_string());
    } else if let Some(Some(dir)) = settings.data_dir.clone()
        && let Some(found) = dir.to_str().map(locate).transpose()?.flatten()
    {
        settings.data_dir = Some(Some(found));
    }
    // What is no path is the name of a run.
    if let Some(Some(from)) = &settings.from
        && let Ok(found) = find(from, &[&places.from], run)
    {
        settings.from = Some(Some(found.display().to_string()));
    }
    if settings
        .model
        .as_deref()
        .is_some_and(|model| !Path::new(model).exists())
    {
        use_own_model(settings, folder);
    }
    Ok(())
}
