//! What a run amounts to, for `list` and `show`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keepbest_core::statistics::Interval;
use keepbest_keeper::{BestRecord, RunView, Selector};
use keepbest_model::{FileAtHand, ModelPlace, OtherLoop, RunSummary, SeenBefore, status_of};
use keepbest_train::Settings;
use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;

/// Warns of a run whose journal knows less than its files.
pub(super) fn warn_of_forgotten(view: &RunView, terminal: &Terminal) {
    if let Some(found) = view.forgotten() {
        Failure::from(found).warn(terminal);
    }
}

/// Warns of what a run's journal has and its folder has not, or does not let anybody see.
pub(super) fn warn_of_files(view: &RunView, terminal: &Terminal) {
    if let Err(error) = view.config() {
        Failure::of(Exit::Failed, &error).warn(terminal);
    }
    if let Err(error) = view.checkpoint_bytes() {
        Failure::of(Exit::Failed, &error).warn(terminal);
    }
    for best in view.best().into_iter().chain(view.others()) {
        if let Err(error) = FileAtHand::of(&ModelPlace::Run {
            run: view.path().to_owned(),
            which: Selector::Ref(best.reference),
        }) {
            Failure::from(error).warn(terminal);
        }
    }
}

/// A run in a few facts.
pub(super) struct Facts {
    pub name: String,
    pub status: String,
    /// Empty for another training loop.
    pub network: String,
    /// Empty for another training loop.
    pub data: String,
    /// The training loop, where it is not `keepbest train`.
    pub kept_by: Option<OtherLoop>,
    /// The latest epoch, and those planned.
    pub epochs: (u64, u64),
    pub monitor: String,
    /// Value, epoch and step of the best.
    pub best: Option<(f64, u64, u64)>,
    /// Metrics of the final test.
    pub test: Option<Value>,
    /// Intervals of its metrics, where they were recorded.
    pub test_intervals: BTreeMap<String, Interval>,
    /// The images of val and test that were trained on or chosen by all the same.
    pub seen_before: Vec<SeenBefore>,
    /// Bytes of all checkpoints.
    pub bytes: u64,
    /// When it was begun and last written to, milliseconds since 1970.
    pub times: (Option<u64>, Option<u64>),
}

impl Facts {
    pub(super) fn of(view: &RunView) -> Self {
        let state = view.state();
        let settings = view
            .config()
            .ok()
            .and_then(|text| Settings::from_toml(&text).ok())
            .unwrap_or_default();
        let summary = RunSummary::of(view).unwrap_or_default();
        let planned = summary.epochs.or(settings.epochs).unwrap_or(0);
        Self {
            name: view.name(),
            status: status_of(view),
            network: settings.model.unwrap_or_default(),
            data: settings.data.unwrap_or_default(),
            kept_by: OtherLoop::of_run(view),
            epochs: (
                view.history().last().map_or(0, |record| record.epoch),
                planned,
            ),
            monitor: state
                .started
                .as_ref()
                .map(|begun| begun.objective.monitor().to_string())
                .unwrap_or_default(),
            best: view
                .best()
                .map(|best| (best.score.value, best.epoch, best.step)),
            test: summary
                .test
                .and_then(|test| serde_json::to_value(test).ok()),
            test_intervals: summary.test_intervals.unwrap_or_default(),
            seen_before: summary.seen_before,
            bytes: view.checkpoint_bytes().unwrap_or(0),
            times: (state.started_ms, state.updated_ms),
        }
    }

    pub(super) fn json(&self, view: &RunView) -> Value {
        json!({
            "name": self.name,
            "path": view.path(),
            "status": self.status,
            "warning": view.forgotten().map(|found| found.to_string()),
            "model": self.network,
            "data": self.data,
            "loop": self.kept_by.as_ref().map(OtherLoop::name),
            "epoch": self.epochs.0,
            "epochs": self.epochs.1,
            "monitor": self.monitor,
            "best": view.best().as_ref().map(best_json),
            "others": view.others().iter().map(best_json).collect::<Vec<_>>(),
            "test": self.test,
            "test_intervals": self.test_intervals,
            "seen_before": self.seen_before,
            "bytes": self.bytes,
            "started_ms": self.times.0,
            "updated_ms": self.times.1,
        })
    }
}

/// A best, as every verb tells it.
pub(super) fn best_json(best: &BestRecord) -> Value {
    json!({
        "ref": best.reference,
        "path": best.path,
        "value": best.score.value,
        "epoch": best.epoch,
        "step": best.step,
        "digest": best.weights,
        "metrics": best.metrics,
    })
}

/// `just now`, `5 min ago`, `3 h ago`, `12 days ago`.
pub(super) fn ago(ms: Option<u64>) -> String {
    let Some(ms) = ms else { return String::new() };
    let then = UNIX_EPOCH + Duration::from_millis(ms);
    let seconds = SystemTime::now()
        .duration_since(then)
        .unwrap_or_default()
        .as_secs();
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
