//! What settings name, found where it lies now: images, the model to start from, and a run's own network.

use std::path::Path;

use keepbest_keeper::RunView;
use keepbest_model::place::{NotThere, absolute, find, is_same, recorded};
use keepbest_model::{is_model_file, own_model_file};

use crate::changes::followed_from_images;
use crate::settings::{Rederived, Settings};

/// Has a run that was trained from a model file trained again from its own copy.
pub fn use_own_model(settings: &mut Settings, run: &Path) {
    if settings.model.as_deref().is_some_and(is_model_file)
        && let Some(copy) = own_model_file(run)
    {
        settings.model = Some(copy.display().to_string());
    }
}

/// Puts settings above those that a file records, for images that may be others: what followed from the images recorded follows
/// anew, if they are (see [`Settings::over_recorded`]).
///
/// # Errors
/// When the recorded images, or the recorded model to start from, are asked for and nowhere.
pub fn settle_above(
    given: Settings,
    mut recorded: Settings,
    file: &Path,
) -> Result<(Settings, Vec<Rederived>), NotThere> {
    let view = file.parent().map(RunView::open).and_then(Result::ok);
    let followed = view.and_then(|view| followed_from_images(&view, &recorded));
    recorded.followed_images(followed.as_deref());
    // What was written there counts from the directory of then; what is given, from that of now.
    if given.data.is_some() || given.data_dir.is_some() {
        let mut there = recorded.clone();
        (recorded.data, recorded.data_dir) = (None, None);
        let same = |then: &str, now: &str| {
            then == now && keepbest_data::is_named(now) || is_same(Path::new(then), Path::new(now))
        };
        if settle_places(&mut there, file).is_ok()
            && there
                .data
                .as_deref()
                .zip(given.data.as_deref())
                .is_some_and(|(then, now)| same(then, now))
        {
            recorded.data.clone_from(&given.data);
        }
    }
    settle_places(&mut recorded, file)?;
    Ok(given.over_recorded(recorded))
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
