//! The end of a run: the best read back from disk, measured again, and tested.

use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::classification::ClassificationOptions;
use keepbest_core::text::with_causes;
use keepbest_data::Dataset as _;
use keepbest_keeper::{BestRecord, FinishError, RunView, store};
use keepbest_model::{
    EvaluateError, Evaluator, Measured, MetricDifference, Model, RunSummary, decide,
    engine_tolerance,
};
use keepbest_nn::{Scorer, StepError};

use super::error::TrainError;
use super::events::{Event, Observer};
use super::keeping::in_words;
use super::outcome::{Ending, Example, Finished, Outcome, Recheck};
use super::run::Run;
use crate::noise::Selection;

/// The results of a run at its end.
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
        let intervals = self.reporting.intervals("test");
        let summary = RunSummary {
            ended: Some(ending.name().into()),
            reason: ending.reason().map(Into::into),
            cut_short: matches!(ending, Ending::CutShort(_)),
            step: self.state.step,
            epoch: self.state.epoch,
            epochs: Some(self.state.epochs),
            test: test.as_ref().map(|test| test.metrics("test")),
            seen_before: self.setup.provenance.seen_before.clone(),
            test_intervals: intervals.map(|of| of.metrics.clone()),
        };
        // What was trained and saved is told all the same where the end cannot be journalled, as on a full disk.
        let (kept, mut end_error) = match self.keeper.finish(summary.to_json()) {
            Ok(kept) => (kept, None),
            Err(FinishError::Journal { error, summary, .. }) => (*summary, Some(error)),
            Err(error) => return Err(error.into()),
        };
        for event in &kept.events {
            observer.on(Event::Keeper(event));
        }
        let kept_best = best.as_ref().map(|best| &*best.path);
        Self::close(&mut self.loggers, true, kept_best, observer, &|| {
            !stop.load(Ordering::Relaxed)
        });
        // Somebody may have changed what lies there while it trained: then no other verb would open it.
        let opened = RunView::open(&self.path);
        if let Err(error) = &opened {
            end_error.get_or_insert_with(|| with_causes(error));
        }
        self.reporting.selection = opened.ok().and_then(|view| Selection::of(&view));
        self.reporting
            .write(&self.path, &self.setup.provenance, None, observer);
        self.clock.end(&*self.setup.engine, observer);
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
            end_error,
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
            let mut scorer = self.predictor(&model)?;
            let Some(measured) = measure_again(self, &model, &mut *scorer, "val", observer, stop)?
            else {
                return Ok(None);
            };
            let metrics = measured.metrics("val");
            let again = Recheck {
                difference: MetricDifference::first_beyond(
                    self.tolerance(),
                    "val",
                    &metrics,
                    &best.metrics,
                ),
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
                test = measure_again(self, &model, &mut *scorer, "test", observer, stop)?;
                if test.is_none() {
                    return Ok(None);
                }
            }
            if let (Some(measured), Some(images)) = (&test, &self.setup.data.test) {
                self.reporting
                    .finished(measured, "test", images, observer, stop);
            }
            examples = show(self, &model, &mut *scorer)?;
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

    /// What answers for a model that was read back from disk, on the run's device.
    fn predictor(&self, model: &Model) -> Result<Box<dyn Scorer>, TrainError> {
        let config = &self.setup.config;
        Ok(model.predictor_on(&config.device, 64, config.threads)?)
    }

    /// What a second measurement may differ by: nothing, by an engine of ours.
    fn tolerance(&self) -> f64 {
        match self.setup.engine.software() {
            None => 0.0,
            Some(_) => engine_tolerance(self.setup.data.val.len()),
        }
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
        let monitor = self.setup.goals.objective.monitor().to_string();
        let epoch = self.state.epoch;
        let summary = RunSummary {
            ended: Some("diverged".into()),
            reason: Some(problem.to_string()),
            step: self.state.step,
            epoch,
            epochs: Some(self.state.epochs),
            ..RunSummary::default()
        };
        // The divergence is the news, and the best is on disk already.
        if let Ok(kept) = self.keeper.finish(summary.to_json()) {
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
            let mut scorer = self.predictor(&model)?;
            let tested = RunView::open(&self.path)
                .is_ok_and(|view| was_tested(&view))
                .then_some("test")
                .filter(|_| self.setup.data.test.is_some());
            for split in std::iter::once("val").chain(tested) {
                let measured = measure_again(self, &model, &mut *scorer, split, observer, stop)?;
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
            store::Event::Finished(event) => RunSummary::read(&event.summary).test.is_some(),
            store::Event::Promoted(event) => event.reference == store::RefName::BEST,
            _ => false,
        });
    latest.is_some_and(|entry| matches!(entry.event, store::Event::Finished(_)))
}

/// The reloaded best on a split; `None` when told to stop.
fn measure_again(
    run: &Run,
    model: &Model,
    scorer: &mut dyn Scorer,
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
    let measured = evaluator.measure(scorer, images, |done| {
        observer.on(Event::Measuring { split, done, of });
        !stop.load(Ordering::Relaxed)
    })?;
    Ok(measured)
}

/// Answers for a few images, spread over the split.
fn show(run: &Run, model: &Model, scorer: &mut dyn Scorer) -> Result<Vec<Example>, TrainError> {
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
        scorer
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
