//! Our trainer, as Python's `keepbest.train` uses it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keepbest::cli::Teller;
use keepbest_keeper::{BestRecord, KeeperEvent};
use keepbest_model::{DEFAULT_RUNS_DIR, find_resumable};
use keepbest_train::{
    Event, Finished, Judged, Observer, Origin, Outcome, Overview, Settings, SettingsError,
};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::{PATIENCE, errors};

/// How often Python is told of steps, which may be many a second.
const BETWEEN_STEPS: Duration = Duration::from_millis(500);

/// Tells Python what a run does. The first exception from there ends training as a signal does: what it has come to is saved.
struct Watcher<'a> {
    tell: Py<PyAny>,
    wants_steps: bool,
    teller: Option<Teller>,
    stop: &'a AtomicBool,
    raised: Option<PyErr>,
    looked: Instant,
    told_of_step: Option<Instant>,
}

impl Watcher<'_> {
    /// What Python is told of an event, if anything.
    fn told(&mut self, event: &Event<'_>) -> Option<(&'static str, Value)> {
        Some(match event {
            Event::Ready(overview) => ("ready", overview_json(overview)),
            Event::Measured(judged) => ("evaluation", judged_json(judged)),
            Event::Stepped(progress) if self.wants_steps => {
                let now = Instant::now();
                if self
                    .told_of_step
                    .is_some_and(|told| now - told < BETWEEN_STEPS)
                {
                    return None;
                }
                self.told_of_step = Some(now);
                let told = json!({
                    "step": progress.step,
                    "steps": progress.steps,
                    "epoch": progress.epoch,
                    "epochs": progress.epochs,
                    "loss": number(progress.loss),
                });
                ("step", told)
            }
            Event::Note(note) => ("note", json!(note)),
            Event::Mended(finding) => ("mended", json!(finding.to_string())),
            Event::StoppedEarly(reason) => ("note", json!(format!("stopping early: {reason}"))),
            Event::Keeper(
                failure @ (KeeperEvent::SaveFailed(_)
                | KeeperEvent::AlsoFailed { .. }
                | KeeperEvent::PruneFailed { .. }),
            ) => ("failure", json!(failure.to_string())),
            _ => return None,
        })
    }
}

impl Observer for Watcher<'_> {
    fn on(&mut self, event: Event<'_>) {
        let told = self.told(&event);
        if let Some(teller) = &mut self.teller {
            teller.on(event);
        }
        let due = told.is_some() || self.looked.elapsed() >= PATIENCE;
        if !due || self.raised.is_some() {
            return;
        }
        let heard = Python::attach(|py| {
            py.check_signals()?;
            match told {
                Some((kind, told)) => self.tell.call1(py, (kind, told.to_string())).map(drop),
                None => Ok(()),
            }
        });
        self.looked = Instant::now();
        if let Err(error) = heard {
            self.raised = Some(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// How a run ended, as JSON, and what was raised while it was trained.
type Ended = (String, Option<Py<PyAny>>);

/// Trains a run, or goes on with `resume`. `settings` are names, each with the texts that it is set to. `tell` is called with kind and
/// JSON of what happens: `ready`, `evaluation`, `step` (with `wants_steps`), `note`, `mended`, `failure`. What it raises, or a signal,
/// ends training, which is saved, and comes back with the outcome. With `paint`, stderr has what `keepbest train` tells there.
#[pyfunction]
pub(crate) fn train(
    py: Python<'_>,
    settings: Vec<(String, Vec<String>)>,
    resume: Option<String>,
    tell: Py<PyAny>,
    paint: bool,
    wants_steps: bool,
) -> PyResult<Ended> {
    let given = read(settings).map_err(|error| errors::settings(py, &error))?;
    let run = match &resume {
        Some(run) => Some(found(py, run, &given)?),
        None => None,
    };
    let (outcome, raised) = py.detach(|| {
        let stop = AtomicBool::new(false);
        let mut watcher = Watcher {
            tell,
            wants_steps,
            teller: paint.then(Teller::new),
            stop: &stop,
            raised: None,
            looked: Instant::now(),
            told_of_step: None,
        };
        let outcome = match &run {
            Some(run) => keepbest_train::resume(run, &given, &mut watcher, &stop),
            None => keepbest_train::train(&given, &preface(), &mut watcher, &stop),
        };
        (outcome, watcher.raised)
    });
    let ended = match (outcome, &raised) {
        (Ok(Outcome::Finished(finished)), _) => finished_json(&finished),
        (
            Ok(Outcome::Interrupted {
                run,
                step,
                epoch,
                failures,
                lost,
            }),
            _,
        ) => json!({
            "ended": "interrupted", "run": run, "step": step, "epoch": epoch, "failures": failures, "warnings": lost,
        }),
        (Err(error), Some(_)) if error.is_interrupted() => json!({"ended": "before it began"}),
        (Err(error), _) => return Err(errors::training(py, &error)),
        (Ok(_), _) => json!({"ended": "otherwise"}),
    };
    let raised = raised.map(|error| error.into_value(py).into_any());
    Ok((ended.to_string(), raised))
}

/// Does the part of a rank that is not the first, until that one's run is over.
#[pyfunction]
pub(crate) fn follow(py: Python<'_>) -> PyResult<()> {
    let done = py.detach(keepbest_train::follow);
    done.map_err(|error| errors::training(py, &error))
}

/// Says to the other ranks that there is nothing more to do; whether they are still there.
#[pyfunction]
pub(crate) fn release_ranks(py: Python<'_>) -> bool {
    py.detach(|| keepbest_train::release_ranks().is_ok())
}

/// Every setting: its name as a keyword, its value in help, and what it is.
#[pyfunction]
pub(crate) fn settings() -> Vec<(String, &'static str, &'static str)> {
    let keys = Settings::KEYS.iter();
    keys.map(|key| (errors::keyword(key.name), key.value_name, key.help))
        .collect()
}

/// The settings of keyword arguments: a list is as many flags, where a flag may be given again, and else one with commas.
fn read(given: Vec<(String, Vec<String>)>) -> Result<Settings, SettingsError> {
    let mut settings = Settings::default();
    for (keyword, texts) in given {
        let name = keyword.trim_end_matches('_').replace('_', "-");
        match Settings::find(&name) {
            Some(key) if key.repeats => {
                for text in texts {
                    settings.set(&name, &text, Origin::Code)?;
                }
            }
            _ => settings.set(&name, &texts.join(","), Origin::Code)?,
        }
    }
    Ok(settings)
}

fn found(py: Python<'_>, run: &str, given: &Settings) -> PyResult<PathBuf> {
    let runs_dir = given.runs_dir.clone();
    let runs_dir = runs_dir.unwrap_or_else(|| DEFAULT_RUNS_DIR.into());
    find_resumable(run, &runs_dir).map_err(|error| {
        let message = errors::with_hint(&error, error.hint());
        errors::raise(py, "RunMissing", &message, [("path", run)])
    })
}

/// What stands above the settings in `run.toml`.
fn preface() -> String {
    format!(
        "Every setting of this run, written by keepbest {} in Python.\n\
         `keepbest train --config FILE` with this file trains the same model again, as a new run.",
        env!("CARGO_PKG_VERSION")
    )
}

fn overview_json(overview: &Overview) -> Value {
    json!({
        "run": overview.run,
        "data": overview.data,
        "images": overview.images,
        "classes": overview.classes,
        "input": overview.input,
        "network": overview.network,
        "parameters": overview.parameters,
        "epochs": overview.epochs,
        "steps": overview.steps,
        "objective": overview.objective,
        "monitor": overview.monitor,
        "resumed_from_step": overview.resumed.as_ref().map(|from| from.step),
    })
}

fn judged_json(judged: &Judged) -> Value {
    let verdict = &judged.verdict;
    json!({
        "step": judged.step,
        "epoch": judged.epoch,
        "epochs": judged.epochs,
        "metrics": judged.metrics,
        "value": number(judged.value),
        "improved": verdict.is_improved(),
        "reason": verdict.reason(),
        "images_per_second": judged.images_per_second,
    })
}

fn finished_json(finished: &Finished) -> Value {
    let scored = finished.selection.as_ref();
    let test = finished.test.as_ref();
    let of_scored = scored.and_then(|found| test?.report.metric(&found.scored));
    let flattered = scored.and_then(|found| found.warning(of_scored));
    let seen = finished.seen_before.iter().map(|found| {
        format!(
            "the run, or a model that it comes from, was {found}: the score on them flatters it"
        )
    });
    let warnings: Vec<String> = flattered
        .into_iter()
        .chain(seen)
        .chain(finished.lost.iter().cloned())
        .collect();
    let again = finished.recheck.as_ref();
    json!({
        "ended": "finished",
        "run": finished.run,
        "data": finished.data,
        "stopped": finished.ending.reason(),
        "step": finished.step,
        "epoch": finished.epoch,
        "best": finished.best.as_ref().map(best_json),
        "others": finished.others.iter().map(best_json).collect::<Vec<_>>(),
        "best_is_saved": finished.best_is_saved,
        "also": finished.also,
        "also_is_saved": finished.also_is_saved,
        "failures": finished.failures,
        "unresolved": finished.unresolved,
        "end_error": finished.end_error,
        "difference": again.and_then(|again| again.difference.as_ref()).map(ToString::to_string),
        "test": test.map(|test| test.metrics("test")),
        "test_intervals": finished.test_intervals.as_ref().map(|found| &found.metrics),
        "warnings": warnings,
    })
}

fn best_json(best: &BestRecord) -> Value {
    json!({
        "reference": best.reference.to_string(),
        "path": best.path,
        "step": best.step,
        "epoch": best.epoch,
        "score": best.score.value,
        "metrics": best.metrics,
        "digest": best.weights.to_string(),
    })
}

/// JSON has no NaN and no infinity: as text, like the metrics of a run.
fn number(value: f64) -> Value {
    match value.is_finite() {
        true => json!(value),
        false => json!(value.to_string()),
    }
}
