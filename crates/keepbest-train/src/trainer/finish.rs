//! The end of a run: the best read back from disk, measured again, and tested.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::Metrics;
use keepbest_core::classification::ClassificationOptions;
use keepbest_data::Dataset as _;
use keepbest_keeper::{BestRecord, RunView, UnsavedBest, store};
use keepbest_nn::{Predictor, StepError};
use serde_json::json;

use super::Outcome;
use super::error::TrainError;
use super::events::{Event, Observer};
use super::run::{Run, in_words};
use crate::difference::MetricDifference;
use crate::evaluate::{EvaluateError, Evaluator, Measured};
use crate::model::Model;
use crate::noise::Selection;
use crate::outcomes::Intervals;
use crate::predict::{Guess, decide};
use crate::seen::SeenBefore;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// All epochs are done.
    Completed,
    /// Before that, by a rule that holds at the same step whenever the run is repeated, for this reason.
    StoppedEarly(String),
    /// Before that, by hand or because its time was up, for this reason: repeated, it would go on.
    CutShort(String),
}

impl Ending {
    /// What it is called in the journal and in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::StoppedEarly(_) | Self::CutShort(_) => "stopped early",
        }
    }

    /// Why it ended before all epochs were done.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Completed => None,
            Self::StoppedEarly(reason) | Self::CutShort(reason) => Some(reason),
        }
    }
}

/// A run that came to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished {
    /// The run's directory.
    pub run: PathBuf,
    /// What it was trained on: a set's name, or a folder.
    pub data: String,
    /// Why it ended.
    pub ending: Ending,
    /// Steps taken.
    pub step: u64,
    /// The last epoch.
    pub epoch: u64,
    /// The best model on disk; `None` when no evaluation could be the best.
    pub best: Option<BestRecord>,
    /// The bests by what else is monitored.
    pub others: Vec<BestRecord>,
    /// Whether the best ever measured is the best on disk, by all that is monitored.
    pub best_is_saved: bool,
    /// The other form of best, when one is kept.
    pub also: Option<PathBuf>,
    /// Whether it is in step with best.
    pub also_is_saved: bool,
    /// Saves that failed, in words.
    pub failures: Vec<String>,
    /// Those of them that nothing made good for.
    pub unresolved: Vec<String>,
    /// The best ever measured, where it could not be saved.
    pub unsaved: Vec<UnsavedBest>,
    /// The bests that were found lost when the run was taken up, in words.
    pub lost: Vec<String>,
    /// What measuring the reloaded best again gave.
    pub recheck: Option<Recheck>,
    /// The best on the test split.
    pub test: Option<Measured>,
    /// The images of val and test that it was trained on or chosen by all the same, or a model it comes from.
    pub seen_before: Vec<SeenBefore>,
    /// Whether it comes from a model that does not record all its images: then more may have been seen.
    pub seen_unknown: bool,
    /// 95 % intervals of its metrics there.
    pub test_intervals: Option<Intervals>,
    /// Which evaluations cannot be told from the best, and how much choosing it flatters it.
    pub selection: Option<Selection>,
    /// A few images of the test split (of val, when there is none) with the best's answers.
    pub examples: Vec<Example>,
}

/// The reloaded best against what was recorded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recheck {
    /// Its metrics on val, measured again.
    pub metrics: Metrics,
    /// The first metric that differs. `None` when all are equal to the last bit.
    pub difference: Option<MetricDifference>,
}

/// An image with its label and the model's answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Example {
    /// Where it comes from.
    pub source: String,
    /// Its label.
    pub label: String,
    /// The class that is decided for.
    pub guess: Guess,
}

/// What a run has come to.
struct Tested {
    best: Option<BestRecord>,
    recheck: Option<Recheck>,
    test: Option<Measured>,
    examples: Vec<Example>,
}

impl Run {
    /// Told to stop, or unable to measure, it ends as interrupted: everything is saved, and resuming comes back here.
    pub(super) fn finish(
        mut self,
        ending: Ending,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        self.keeper.settle();
        self.tell(observer);
        let Tested {
            best,
            recheck,
            test,
            examples,
        } = match self.tested(observer, stop) {
            Ok(Some(tested)) => tested,
            Ok(None) => return self.interrupted(observer),
            Err(error) => return Err(self.failed(error, observer)),
        };
        let summary = json!({
            "ended": ending.name(),
            "reason": ending.reason(),
            "cut_short": matches!(ending, Ending::CutShort(_)),
            "step": self.state.step,
            "epoch": self.state.epoch,
            "epochs": self.state.epochs,
            "test": test.as_ref().map(|test| test.metrics("test")),
            "seen_before": self.setup.provenance.seen_before,
            "test_intervals": self.reporting.intervals("test").map(|of| &of.metrics),
        });
        let kept = self.keeper.finish(summary)?;
        for event in &kept.events {
            observer.on(Event::Keeper(event));
        }
        let kept_best = best.as_ref().map(|best| &*best.path);
        Self::close(&mut self.loggers, true, kept_best, observer, &|| {
            !stop.load(Ordering::Relaxed)
        });
        self.reporting.selection = RunView::open(&self.path)
            .ok()
            .and_then(|view| Selection::of(&view));
        self.reporting
            .write(&self.path, &self.setup.provenance, None, observer);
        self.clock.end(&self.setup.engine, observer);
        let test_intervals = self.reporting.intervals("test").cloned();
        let provenance = self.setup.provenance;
        Ok(Outcome::Finished(Box::new(Finished {
            run: self.path,
            seen_unknown: provenance.seen.is_some_and(|seen| seen.unknown),
            seen_before: provenance.seen_before,
            data: self.setup.config.data,
            ending,
            step: self.state.step,
            epoch: self.state.epoch,
            best,
            best_is_saved: kept.best_is_saved,
            also_is_saved: kept.also_error.is_none(),
            failures: in_words(&kept.failures, &kept),
            unresolved: in_words(&kept.unresolved, &kept),
            unsaved: kept.unsaved,
            lost: self.lost,
            others: kept.others,
            also: kept.also,
            recheck,
            test,
            test_intervals,
            selection: self.reporting.selection,
            examples,
        })))
    }

    /// The best, read back from disk, measured again and tested; `None` when told to stop in between.
    fn tested(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Tested>, TrainError> {
        let best = self.keeper.best();
        let (mut recheck, mut test, mut examples) = (None, None, Vec::new());
        if let Some(best) = &best {
            // From disk, every byte verified: what is tested is what the user has.
            let model = Model::open_trained(&best.path)?;
            let mut predictor = model.predictor(64, self.setup.config.threads)?;
            let Some(measured) =
                measure_again(self, &model, &mut predictor, "val", observer, stop)?
            else {
                return Ok(None);
            };
            let metrics = measured.metrics("val");
            let again = Recheck {
                difference: MetricDifference::first("val", &metrics, &best.metrics),
                metrics,
            };
            self.reporting.closeups.clear();
            let images = &self.setup.data.val;
            self.reporting
                .finished(&measured, "val", images, observer, stop);
            self.reporting.thresholds.clone_from(&model.thresholds);
            observer.on(Event::Rechecked {
                path: &best.path,
                difference: again.difference.as_ref(),
            });
            recheck = Some(again);
            if self.setup.data.test.is_some() {
                test = measure_again(self, &model, &mut predictor, "test", observer, stop)?;
                if test.is_none() {
                    return Ok(None);
                }
            }
            if let (Some(measured), Some(images)) = (&test, &self.setup.data.test) {
                self.reporting
                    .finished(measured, "test", images, observer, stop);
            }
            examples = show(self, &model, &mut predictor)?;
        }
        // The intervals, which take a moment, were cut short then.
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(Some(Tested {
            best,
            recheck,
            test,
            examples,
        }))
    }

    /// Ends a run whose numbers went out of range.
    pub(super) fn diverged(
        mut self,
        problem: StepError,
        observer: &mut dyn Observer,
    ) -> TrainError {
        self.keeper.settle();
        self.tell(observer);
        let best = self.keeper.best();
        let monitor = self.setup.objective.monitor().to_string();
        let epoch = self.state.epoch;
        let summary = json!({
            "ended": "diverged",
            "reason": problem.to_string(),
            "step": self.state.step,
            "epoch": epoch,
            "epochs": self.state.epochs,
        });
        // The divergence is the news, and the best is on disk already.
        if let Ok(kept) = self.keeper.finish(summary) {
            for event in &kept.events {
                observer.on(Event::Keeper(event));
            }
        }
        let kept_best = best.as_ref().map(|best| &*best.path);
        Self::close(&mut self.loggers, true, kept_best, observer, &|| true);
        self.reporting
            .write(&self.path, &self.setup.provenance, None, observer);
        let best = best.map(|best| {
            let value = keepbest_core::format_value(best.score.value);
            (
                best.path,
                format!("{monitor} {value}, epoch {}", best.epoch),
            )
        });
        TrainError::Diverged {
            epoch,
            problem,
            best,
        }
    }
}

impl Run {
    /// Measures the best of earlier sessions once more, for the page: it must not be replaced by one that shows less. What fails
    /// here is told, and stops nothing.
    pub(super) fn show_best(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) {
        let Some(best) = self.keeper.best() else {
            return;
        };
        let mut measure = || -> Result<(), TrainError> {
            let model = Model::open_trained(&best.path)?;
            let mut predictor = model.predictor(64, self.setup.config.threads)?;
            let tested = RunView::open(&self.path)
                .is_ok_and(|view| was_tested(&view))
                .then_some("test")
                .filter(|_| self.setup.data.test.is_some());
            for split in std::iter::once("val").chain(tested) {
                let measured = measure_again(self, &model, &mut predictor, split, observer, stop)?;
                let images = self.setup.data.split(split);
                let (Some(measured), Some(images)) = (measured, images) else {
                    continue;
                };
                match split {
                    "val" => self.reporting.best(&measured, images, observer),
                    _ => self
                        .reporting
                        .finished(&measured, split, images, observer, stop),
                }
            }
            self.reporting.thresholds.clone_from(&model.thresholds);
            Ok(())
        };
        if let Err(error) = measure() {
            self.reporting.tell(&error.to_string(), observer);
        }
    }
}

/// Whether the best of a run is the one that was tested when the run had come to its end.
fn was_tested(view: &RunView) -> bool {
    let latest = view
        .entries()
        .iter()
        .rev()
        .find(|entry| match &entry.event {
            store::Event::Finished(event) => event.summary["test"].is_object(),
            store::Event::Promoted(event) => event.reference == store::RefName::BEST,
            _ => false,
        });
    latest.is_some_and(|entry| matches!(entry.event, store::Event::Finished(_)))
}

/// The reloaded best on a split; `None` when told to stop.
fn measure_again(
    run: &Run,
    model: &Model,
    predictor: &mut Predictor,
    split: &'static str,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Option<Measured>, TrainError> {
    let data = &run.setup.data;
    let images = data.split(split).unwrap_or(&data.val);
    let criterion = run.setup.provenance.criterion.criterion();
    let of = images.len();
    let evaluator = Evaluator {
        keep_outcomes: true,
        options: ClassificationOptions::default().with_thresholds(model.decision().cloned()),
        ..Evaluator::new(&criterion, &data.preprocessing)
    };
    let measured = evaluator.measure(predictor, images, |done| {
        observer.on(Event::Measuring { split, done, of });
        !stop.load(Ordering::Relaxed)
    })?;
    Ok(measured)
}

/// Answers for a few images, spread over the split.
fn show(run: &Run, model: &Model, predictor: &mut Predictor) -> Result<Vec<Example>, TrainError> {
    const COUNT: usize = 6;
    let data = &run.setup.data;
    let split = data.test.as_ref().unwrap_or(&data.val);
    let input = data.preprocessing.input.size();
    let mut examples = Vec::new();
    let mut pixels = vec![0.0; input];
    let mut logits = Vec::new();
    for i in 0..COUNT.min(split.len()) {
        // An odd step meets other classes where the split is sorted by class.
        let index = i * split.len() / COUNT.min(split.len());
        let source = split.source(index);
        model
            .preprocessing
            .apply(&split.image(index)?, &mut pixels)
            .map_err(|error| {
                EvaluateError::Load(keepbest_data::LoadError::Image {
                    origin: source.clone(),
                    source: error,
                })
            })?;
        predictor
            .logits(&pixels, &mut logits)
            .map_err(EvaluateError::from)?;
        let Some(guess) = decide(&logits, &model.classes, model.decision()) else {
            continue;
        };
        let label = model.classes[split.label(index) as usize].clone();
        examples.push(Example {
            source,
            label,
            guess,
        });
    }
    Ok(examples)
}
