//! What a resume changed in a run's settings, as the journal tells it: a run is repeated and verified by what it was told to do, one
//! session after another.

use keepbest_core::WeightsDigest;
use keepbest_keeper::RunView;
use keepbest_model::{SettingDiffers, SettingsFound};
use keepbest_store::{Event, ResumedEvent, RunState, StartedEvent};
use serde::{Deserialize, Serialize};

use crate::settings::{ChangedSetting, Settings, SettingsError, changed_settings, to_toml};

/// The keys of a session in the journal.
pub(crate) const CONFIG: &str = "config";
pub(crate) const FROM_IMAGES: &str = "from_images";
pub(crate) const CHANGED: &str = "changed";
/// The one change that lasts, and on which the model depends.
pub(crate) const EPOCHS: &str = Settings::known("epochs").name;

/// A setting that a resumed session has otherwise than the run had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// Its name.
    pub setting: String,
    /// What it was, as TOML; `absent` when it was not given.
    pub was: String,
    /// What it is in this session, likewise.
    pub is: String,
}

impl Change {
    pub(crate) fn new(setting: &str, was: Option<toml::Value>, is: Option<toml::Value>) -> Self {
        let words = |value: Option<toml::Value>| value.map_or("absent".into(), |it| it.to_string());
        Self {
            setting: setting.into(),
            was: words(was),
            is: words(is),
        }
    }

    fn epochs(&self) -> Option<u64> {
        self.is.parse().ok().filter(|_| self.setting == EPOCHS)
    }
}

/// From where on a run was planned for another number of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanChange {
    /// The step that training went on from.
    pub step: u64,
    /// The number of evaluations that the run had then.
    pub evaluations: usize,
    /// The epochs planned since.
    pub epochs: u64,
}

fn changes_of(event: &ResumedEvent) -> Vec<Change> {
    let session = event.session.as_ref();
    let changed = session.and_then(|session| session.get(CHANGED)).cloned();
    // Of another program, it is no change of these settings.
    changed
        .and_then(|changed| serde_json::from_value(changed).ok())
        .unwrap_or_default()
}

/// The changes of the number of epochs that led to the present state of a run which began with `planned`, in order.
#[must_use]
pub fn plan_changes(view: &RunView, planned: u64) -> Vec<PlanChange> {
    let mut state = RunState::default();
    let (mut epochs, mut found) = (planned, Vec::<PlanChange>::new());
    for entry in view.entries() {
        state.apply(entry);
        let Event::Resumed(event) = &entry.event else {
            continue;
        };
        let changes = changes_of(event);
        epochs = changes.iter().find_map(Change::epochs).unwrap_or(epochs);
        // What came after the step is repeated, by the newest plan.
        found.retain(|change| change.step < event.step);
        if found.last().map_or(planned, |change| change.epochs) != epochs {
            found.push(PlanChange {
                step: event.step,
                evaluations: state.history.len(),
                epochs,
            });
        }
    }
    found
}

/// The number of epochs that the journal has a run planned for now; `None` when it was never changed.
pub(crate) fn epochs_now(view: &RunView) -> Option<u64> {
    let mut entries = view.entries().iter().rev();
    entries.find_map(|entry| match &entry.event {
        Event::Resumed(event) => changes_of(event).iter().find_map(Change::epochs),
        _ => None,
    })
}

/// A run's settings as they were when these weights were saved: those of its `run.toml`, with what the journal tells was changed
/// until then.
#[must_use]
pub fn settings_when_saved(
    view: &RunView,
    written: &Settings,
    weights: &WeightsDigest,
) -> Settings {
    let mut settings = written.clone();
    let saved = |event: &Event| matches!(event, Event::Saved(saved) if saved.weights == *weights);
    let entries = view.entries();
    let until = entries.iter().rposition(|entry| saved(&entry.event));
    for entry in &entries[..until.unwrap_or(entries.len())] {
        if let Event::Resumed(event) = &entry.event
            && let Some(epochs) = changes_of(event).iter().find_map(Change::epochs)
        {
            settings.epochs = Some(epochs);
        }
    }
    settings
}

/// Names of the settings that followed from a run's images when it began, as far as `written`, its `run.toml`, has them as they were;
/// `None` for runs of earlier versions, whose journal does not say it.
pub(crate) fn followed_from_images(view: &RunView, written: &Settings) -> Option<Vec<String>> {
    let session = view.state().started.as_ref()?.session.as_ref()?;
    let names: Vec<String> = serde_json::from_value(session.get(FROM_IMAGES)?.clone()).ok()?;
    let edited = differing_from_journal(view, written);
    let is_edited = |name: &String| edited.iter().any(|change| change.key == *name);
    Some(names.into_iter().filter(|name| !is_edited(name)).collect())
}

/// The text of a run's `run.toml` by what its journal says the run began with; `None` for runs of earlier versions, whose journal does
/// not say it.
#[must_use]
pub fn written_anew(started: &StartedEvent) -> Option<String> {
    let config = started.session.as_ref()?.get(CONFIG)?.clone();
    let table: toml::Table = serde_json::from_value(config).ok()?;
    let settings = Settings::from_toml(&table.to_string()).ok()?;
    Some(to_toml(
        &settings,
        "Written anew by `keepbest fsck`, by what the journal says this run began with.",
    ))
}

/// Compares the settings of a run, as they were when these weights were saved, with those that a model records: what
/// [`VerifyOptions`](keepbest_model::VerifyOptions) asks for.
///
/// # Errors
/// When `run.toml` cannot be read.
pub fn compare_settings(
    view: &RunView,
    weights: &WeightsDigest,
    recorded: &toml::Table,
) -> Result<SettingsFound, SettingsError> {
    let written = Settings::from_file(&view.path().join("run.toml"))?;
    let in_force = settings_when_saved(view, &written, weights);
    let mut changed = changed_settings(&in_force, recorded).into_iter();
    Ok(SettingsFound {
        differs: changed.next().map(|change| SettingDiffers {
            key: change.key,
            found: change.found,
            recorded: change.recorded,
        }),
        resumed: in_force != written,
    })
}

/// What a run's `run.toml` has otherwise than its journal says the run began with. Nothing for runs of earlier versions, whose
/// journal does not say it.
pub(crate) fn differing_from_journal(view: &RunView, written: &Settings) -> Vec<ChangedSetting> {
    let started = view.state().started.as_ref();
    let session = started.and_then(|started| started.session.as_ref());
    let config = session.and_then(|session| session.get(CONFIG)).cloned();
    match config.map(serde_json::from_value::<toml::Table>) {
        Some(Ok(config)) => changed_settings(written, &config),
        _ => Vec::new(),
    }
}

/// What a run's `run.toml` has otherwise than a model of the run records.
pub(crate) fn differing_from_model(
    view: &RunView,
    written: &Settings,
    config: &toml::Table,
) -> Vec<ChangedSetting> {
    let mut differing = changed_settings(written, config);
    if config.is_empty() {
        // The file does not say it.
        differing.clear();
    }
    // A run can be made longer; whether the journal still tells it or not, the model knows the newest plan.
    let planned = config.get(EPOCHS).and_then(toml::Value::as_integer);
    let begun = written.epochs.and_then(|epochs| i64::try_from(epochs).ok());
    if planned > begun || epochs_now(view).is_some() {
        differing.retain(|change| change.key != EPOCHS);
    }
    differing
}
