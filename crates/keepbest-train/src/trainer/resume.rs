//! Going on with a run from its resume point.

use std::path::Path;

use keepbest_core::text::shell_word;
use keepbest_data::Fingerprint;
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{Keeper, KeeperConfig, RunView};
use keepbest_model::{DataRecord, Provenance, RunSummary};
use keepbest_store::{FsckReport, RefName, RunStatus};

use super::error::TrainError;
use super::events::Event;
use super::heed::Heed;
use super::keeping::{beginning, keeper_config, to_json};
use super::position::{Next, ResumedFrom, TrainerState};
use super::rate::Rates;
use super::run::Run;
use super::setup::Setup;
use crate::changes::{
    CHANGED, Change, EPOCHS, differing_from_journal, differing_from_model, epochs_now,
};
use crate::settings::{Key, Settings, SettingsError};
use crate::settle::{settle_places, use_own_model};

impl Run {
    /// Takes up the run at `path`.
    pub(super) fn resume(
        path: &Path,
        given: &Settings,
        heed: &Heed<'_>,
    ) -> Result<Self, TrainError> {
        keeps_name(path, given)?;
        let toml = path.join("run.toml");
        let written = Settings::from_file(&toml)?;
        if let Ok(view) = RunView::open(path) {
            // Before anything is changed. What cannot be read yet is looked at again below.
            let last = ModelFile::open_unverified(RefName::LAST.path(path)).ok();
            check_settings(&view, &written, last.as_ref())?;
            given_over(given, &written)?;
        }
        let mut lost = Vec::new();
        // What the interruption left is mended first: then last is there and whole, if it can be.
        let mended = keepbest_keeper::fsck(path, true).map_err(|source| TrainError::Unmended {
            path: path.into(),
            source,
        })?;
        tell(&mended, &mut lost, heed);
        let view = RunView::open(path).map_err(keepbest_model::RunFilesError::from)?;
        let over = matches!(view.state().status, RunStatus::Finished(_));
        // Of a run that stopped early no more epochs are trained: the plan stays what it was.
        let stopped = RunSummary::of(&view).is_some_and(|summary| summary.is_stopped_early());
        let mut as_planned = given.clone();
        as_planned.epochs = None;
        let mut settings = given_over(given, &written)?;
        use_own_model(&mut settings, path);
        // What was written counts from the directory of then; what is given, from that of now.
        if given.data.is_none() && given.data_dir.is_none() {
            settle_places(&mut settings, &toml)?;
        }
        // The keeper's own rule: a kill may have come between a saved checkpoint and the move of `last`.
        let point = view
            .resume_point()
            .map_err(keepbest_model::RunFilesError::from)?;
        let Some(point) = point else {
            check_settings(&view, &written, None)?;
            let changes = changes(given, &written, None);
            return Self::anew(path, &settings, changes, lost, heed);
        };
        let (last, file) = (point.path, point.model);
        check_settings(&view, &written, Some(&file))?;
        let (mut state, provenance) = resume_point(&last, &file)?;
        let planned = epochs_now(&view).unwrap_or_default().max(state.epochs);
        let epochs = given.epochs.unwrap_or(planned);
        if epochs < planned {
            return Err(TrainError::Settings(SettingsError::Conflict {
                message: format!("epochs {epochs} is less than the run's {planned}"),
                hint: Some("a run can be made longer, not shorter".into()),
            }));
        }
        let (given, epochs) = match stopped {
            true => (&as_planned, planned),
            false => (given, epochs),
        };
        settings.epochs = Some(epochs);

        // The weights it started from are behind the resume point.
        let from = settings.from.take();
        let mut setup = Setup::new(
            &settings,
            Path::new(""),
            Some(preprocessing_of(&last, &file)?),
            heed,
        )?;
        setup.config.from = from.flatten();
        check_images(&provenance, &setup)?;
        take_over(&mut setup, provenance, epochs);
        setup.provenance.data.settle(&setup.config.data, path);

        state.epochs = epochs;
        restore(&mut setup, &state, &last, &file)?;

        let changes = changes(given, &written, Some(planned));
        let notes = explained(&changes, &setup, &state, planned);
        setup.notes.extend(notes);
        let from = ResumedFrom {
            step: state.step,
            epoch: state.epoch,
            batch: state.batch,
            batches: setup.timetable.batches,
        };
        let mut config = keeper_config(&setup)?;
        journalled(&mut config, &changes);
        let resumed = Keeper::resume(path, config)?;
        tell(&resumed.repairs, &mut lost, heed);
        if resumed
            .point
            .as_ref()
            .is_none_or(|point| point.step != state.step)
        {
            return Err(unfit(&last, "it changed while it was read".into()));
        }
        if over {
            setup
                .notes
                .extend(is_over(path, &resumed.keeper, &setup, &state));
        }
        let rates = setup.rates(state.epochs)?;
        let run = Self::begun(setup, path.into(), resumed.keeper, state, rates);
        Ok(Self {
            resumed: Some(from),
            lost,
            ..run
        })
    }

    /// Begins a run again that ended before anything was saved.
    fn anew(
        path: &Path,
        settings: &Settings,
        changes: Vec<Change>,
        mut lost: Vec<String>,
        heed: &Heed<'_>,
    ) -> Result<Self, TrainError> {
        let mut setup = Setup::new(settings, Path::new(""), None, heed)?;
        setup.provenance.data.settle(&setup.config.data, path);
        setup.notes.extend(changes.iter().map(in_words));
        let state = TrainerState::new(setup.config.epochs);
        let from = ResumedFrom {
            step: 0,
            epoch: 1,
            batch: 0,
            batches: setup.timetable.batches,
        };
        let mut config = beginning(&setup)?;
        journalled(&mut config, &changes);
        let resumed = Keeper::resume(path, config)?;
        tell(&resumed.repairs, &mut lost, heed);
        let rates = setup.rates(state.epochs)?;
        let run = Self::begun(setup, path.into(), resumed.keeper, state, rates);
        Ok(Self {
            resumed: Some(from),
            lost,
            ..run
        })
    }
}

/// A run that goes on is not given another name.
fn keeps_name(path: &Path, given: &Settings) -> Result<(), TrainError> {
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    match &given.name {
        Some(name) if *name != own => Err(TrainError::Settings(SettingsError::Conflict {
            message: format!("the run is called {own}, and goes on as that: not as {name}"),
            hint: Some("its folder may be renamed; a new run from its weights is `--from RUN@last --name NAME`".into()),
        })),
        _ => Ok(()),
    }
}

/// Tells what was mended, and takes down the bests that were lost.
fn tell(mended: &FsckReport, lost: &mut Vec<String>, heed: &Heed<'_>) {
    for finding in &mended.findings {
        heed.tell(Event::Mended(finding));
    }
    lost.extend(mended.lost_bests().map(ToString::to_string));
}

/// `run.toml` must be what the run began with: by its journal, and by the model that it goes on from.
fn check_settings(
    view: &RunView,
    written: &Settings,
    last: Option<&ModelFile>,
) -> Result<(), TrainError> {
    let mut changes = differing_from_journal(view, written);
    let provenance = last
        .and_then(|last| last.metadata.as_ref()?.provenance.clone())
        .and_then(|provenance| serde_json::from_value::<Provenance>(provenance).ok());
    if let (Some(provenance), true) = (provenance, changes.is_empty()) {
        changes = differing_from_model(view, written, &provenance.config);
    }
    if changes.is_empty() {
        return Ok(());
    }
    Err(TrainError::ChangedSettings {
        path: view.path().join("run.toml"),
        changes,
    })
}

/// Puts the engine where the resume point was.
fn restore(
    setup: &mut Setup,
    state: &TrainerState,
    path: &Path,
    file: &ModelFile,
) -> Result<(), TrainError> {
    if !state.fits(&setup.timetable) {
        let TrainerState {
            step, epoch, batch, ..
        } = state;
        let batches = setup.timetable.batches;
        let what = format!("step {step} is not at batch {batch} of {batches} in epoch {epoch}");
        return Err(unfit(path, what));
    }
    setup
        .engine
        .restore(&file.weights, &file.training, state.step)
        .map_err(|error| unfit(path, error.to_string()))
}

fn unfit(path: &Path, what: String) -> TrainError {
    TrainError::ResumePoint {
        path: path.into(),
        what,
    }
}

/// A resumed run's model comes about as it did before, but for the place of its images and the length of the plan.
fn take_over(setup: &mut Setup, provenance: Provenance, epochs: u64) {
    let dir = setup.config.data_dir.clone();
    let recipe = setup.provenance.recipe.clone();
    // The figures from here on are those of the device that measures them.
    let environment = match (&setup.provenance.environment, &provenance.environment) {
        (Some(here), Some(there)) if here.device != there.device => {
            setup.provenance.environment.take()
        }
        _ => provenance.environment,
    };
    setup.provenance = Provenance {
        environment,
        data: DataRecord {
            dir,
            ..provenance.data
        },
        ..provenance
    };
    if let Some(planned) = setup.provenance.config.get_mut(EPOCHS)
        && planned.as_integer() != i64::try_from(epochs).ok()
    {
        *planned = toml::Value::Integer(i64::try_from(epochs).unwrap_or(i64::MAX));
        setup.provenance.recipe = recipe;
    }
}

/// What of `given` is otherwise than the run has it; `planned` are its epochs by now.
fn changes(given: &Settings, written: &Settings, planned: Option<u64>) -> Vec<Change> {
    // Where a run is found is none of its settings.
    let keys = given
        .given_keys()
        .filter(|key| key.may_change_on_resume && key.decided);
    let change = |key: &Key| {
        let planned =
            planned.and_then(|planned| Some(toml::Value::Integer(planned.try_into().ok()?)));
        let was = planned
            .filter(|_| key.name == EPOCHS)
            .or_else(|| written.written(key.name));
        let is = given.written(key.name);
        (was != is).then(|| Change::new(key.name, was, is))
    };
    keys.filter_map(change).collect()
}

fn journalled(config: &mut KeeperConfig, changes: &[Change]) {
    if let (Some(session), false) = (&mut config.session, changes.is_empty()) {
        session[CHANGED] = to_json(&changes);
    }
}

fn in_words(change: &Change) -> String {
    let Change {
        setting, was, is, ..
    } = change;
    format!("{setting} is {is} from here on, was {was}; the journal has it")
}

/// The changes, and what they do to the learning rate.
fn explained(changes: &[Change], setup: &Setup, state: &TrainerState, planned: u64) -> Vec<String> {
    let mut notes: Vec<String> = changes.iter().map(in_words).collect();
    if planned == state.epochs {
        return notes;
    }
    let batches = setup.timetable.batches;
    let rates = |epochs| {
        Rates::new(
            &setup.config,
            epochs,
            batches,
            setup.goals.objective.direction(),
        )
    };
    let plateau = state.plateau.as_ref();
    let before = rates(planned).at(state.step.saturating_sub(1), plateau);
    let now = rates(state.epochs);
    let next = now.at(state.step, plateau);
    let end = now.at((state.epochs * batches).saturating_sub(1), plateau);
    let schedule = setup.config.schedule;
    let moves = match next / before {
        ratio if ratio > 2.0 => "jumps up",
        ratio if ratio < 0.5 => "jumps down",
        _ => "goes on",
    };
    notes.push(format!(
        "schedule {schedule} is now that of {} epochs: the learning rate {moves} from {before:.3e} to {next:.3e}, \
         and ends at {end:.3e}",
        state.epochs
    ));
    notes
}

/// Says of a run that had ended that there is nothing more to train, if so.
fn is_over(path: &Path, keeper: &Keeper, setup: &Setup, state: &TrainerState) -> Option<String> {
    let epochs = state.epochs;
    let why = match keeper.should_stop() {
        Some(reason) => format!(
            "it stopped early: {reason}; --from {}@last --name NAME trains on from there",
            shell_word(path)
        ),
        None if state.clone().next(&setup.timetable) == Next::Done => {
            format!("all {epochs} epochs are done; --epochs N with more than {epochs} trains on")
        }
        None => return None,
    };
    Some(format!("the run is over: {why}"))
}

/// The recorded settings with those of `given` that may change.
fn given_over(given: &Settings, recorded: &Settings) -> Result<Settings, TrainError> {
    for Key { name, .. } in given.given_keys().filter(|key| !key.may_change_on_resume) {
        if given.written(name) != recorded.written(name) {
            return Err(TrainError::Settings(SettingsError::Conflict {
                message: format!(
                    "{name} is settled by the run and cannot change when it is resumed"
                ),
                hint: Some(
                    "to train on with other settings, start a new run with --from RUN@last".into(),
                ),
            }));
        }
    }
    Ok(given.clone().over(recorded.clone()))
}

/// Reads what the trainer put into its resume point.
fn resume_point(path: &Path, file: &ModelFile) -> Result<(TrainerState, Provenance), TrainError> {
    let unfit = |what| unfit(path, what);
    let metadata = file.metadata.as_ref();
    let (Some(state), Some(provenance)) = (
        metadata.and_then(|metadata| metadata.training.clone()),
        metadata.and_then(|metadata| metadata.provenance.clone()),
    ) else {
        return Err(unfit("it has no trainer state".into()));
    };
    let state =
        serde_json::from_value(state).map_err(|error| unfit(format!("trainer state: {error}")))?;
    let provenance = serde_json::from_value(provenance)
        .map_err(|error| unfit(format!("provenance: {error}")))?;
    Ok((state, provenance))
}

fn preprocessing_of(
    path: &Path,
    file: &ModelFile,
) -> Result<keepbest_data::Preprocessing, TrainError> {
    let unfit = |what| unfit(path, what);
    let json = file
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.preprocessing.clone());
    let json = json.ok_or_else(|| unfit("it has no preprocessing".into()))?;
    serde_json::from_value(json).map_err(|error| unfit(format!("preprocessing: {error}")))
}

/// The images must be those that the run began with.
fn check_images(recorded: &Provenance, setup: &Setup) -> Result<(), TrainError> {
    let found = &setup.provenance;
    let name =
        |fingerprint: Option<&Fingerprint>| fingerprint.map_or("none".into(), ToString::to_string);
    for split in ["train", "val", "test"] {
        let (recorded, found) = (
            recorded.data.fingerprints.get(split),
            found.data.fingerprints.get(split),
        );
        if recorded != found {
            return Err(TrainError::DataChanged {
                split: split.into(),
                recorded: name(recorded),
                found: name(found),
                place: setup.config.data.clone(),
            });
        }
    }
    Ok(())
}
