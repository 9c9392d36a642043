//! Going on with a run from its resume point.

use std::path::Path;

use keepbest_data::Fingerprint;
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{Keeper, RunView};

use super::error::TrainError;
use super::position::TrainerState;
use super::run::{Run, keeper_config};
use super::setup::Setup;
use crate::architecture::use_own_model;
use crate::place::settle_places;
use crate::provenance::{DataRecord, Provenance};
use crate::settings::{Settings, SettingsError};

/// Where a resumed run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumedFrom {
    /// Steps taken before.
    pub step: u64,
    /// The epoch it goes on in.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: u64,
    /// Batches of an epoch.
    pub batches: u64,
}

/// Settings that may be given anew, because the model does not depend on them or because they make the run longer.
const MAY_CHANGE: [&str; 9] = [
    "threads",
    "cache",
    "epochs",
    "max-minutes",
    "log",
    // Their fingerprints prove the images, wherever they lie.
    "data",
    "data-dir",
    "runs-dir",
    "name",
];

impl Run {
    /// Takes up the run at `path`.
    pub(super) fn resume(path: &Path, given: &Settings) -> Result<Self, TrainError> {
        // What the interruption left is mended first: then last is there and whole, if it can be.
        keepbest_keeper::fsck(path, true).map_err(|source| TrainError::Unmended {
            path: path.into(),
            source,
        })?;
        let toml = path.join("run.toml");
        let recorded = Settings::from_file(&toml)?;
        let mut settings = given_over(given, &recorded)?;
        use_own_model(&mut settings, path);
        // What was written counts from the directory of then; what is given, from that of now.
        if given.data.is_none() && given.data_dir.is_none() {
            settle_places(&mut settings, &toml)?;
        }
        // The keeper's own rule: a kill may have come between a saved checkpoint and the move of `last`.
        let point = RunView::open(path)
            .map_err(crate::RunFilesError::from)?
            .resume_point();
        let Some(point) = point else {
            return Self::anew(path, &settings);
        };
        let (last, file) = (point.path, point.model);
        let (mut state, provenance) = resume_point(&last, &file)?;

        // The weights it started from are behind the resume point.
        let from = settings.from.take();
        let mut setup = Setup::new(
            &settings,
            Path::new(""),
            Some(preprocessing_of(&last, &file)?),
        )?;
        setup.config.from = from.flatten();
        check_images(&provenance, &setup)?;
        let dir = setup.config.data_dir.clone();
        setup.provenance = Provenance {
            data: DataRecord {
                dir,
                ..provenance.data
            },
            ..provenance
        };
        setup.provenance.data.settle(&setup.config.data, path);

        let unfit = |what: String| TrainError::ResumePoint {
            path: last.clone(),
            what,
        };
        if !state.fits(&setup.timetable) {
            let TrainerState {
                step, epoch, batch, ..
            } = state;
            let batches = setup.timetable.batches;
            return Err(unfit(format!(
                "step {step} is not at batch {batch} of {batches} in epoch {epoch}"
            )));
        }
        if let Some(epochs) = given.epochs {
            if epochs < state.epochs {
                return Err(TrainError::Settings(SettingsError::Conflict {
                    message: format!("epochs {epochs} is less than the run's {}", state.epochs),
                    hint: Some("a run can be made longer, not shorter".into()),
                }));
            }
            state.epochs = epochs;
        }
        setup.config.epochs = state.epochs;
        let restored = setup
            .engine
            .restore(&file.weights, &file.training, state.step);
        restored.map_err(|error| unfit(error.to_string()))?;

        let from = ResumedFrom {
            step: state.step,
            epoch: state.epoch,
            batch: state.batch,
            batches: setup.timetable.batches,
        };
        let resumed = Keeper::resume(path, keeper_config(&setup)?)?;
        if resumed
            .point
            .as_ref()
            .is_none_or(|point| point.step != state.step)
        {
            return Err(unfit("it changed while it was read".into()));
        }
        Self::taken_up(setup, path.into(), resumed.keeper, state, from)
    }

    /// Begins a run again that ended before anything was saved.
    fn anew(path: &Path, settings: &Settings) -> Result<Self, TrainError> {
        let mut setup = Setup::new(settings, Path::new(""), None)?;
        setup.provenance.data.settle(&setup.config.data, path);
        let state = TrainerState::new(setup.config.epochs);
        let from = ResumedFrom {
            step: 0,
            epoch: 1,
            batch: 0,
            batches: setup.timetable.batches,
        };
        let resumed = Keeper::resume(path, keeper_config(&setup)?)?;
        Self::taken_up(setup, path.into(), resumed.keeper, state, from)
    }
}

/// The recorded settings with those of `given` that may change.
fn given_over(given: &Settings, recorded: &Settings) -> Result<Settings, TrainError> {
    for name in given.given() {
        if !MAY_CHANGE.contains(&name) && given.written(name) != recorded.written(name) {
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
    let unfit = |what: String| TrainError::ResumePoint {
        path: path.into(),
        what,
    };
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
    let unfit = |what: String| TrainError::ResumePoint {
        path: path.into(),
        what,
    };
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
