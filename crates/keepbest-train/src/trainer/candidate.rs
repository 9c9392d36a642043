//! What a step has to offer: its weights, and their moving average where one is kept. The better one is offered.

use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::{Metrics, ObjectiveError};
use keepbest_formats::SnapshotHandle;
use keepbest_keeper::Evaluation;
use keepbest_model::average::{better, statistics_batches};
use keepbest_model::{Evaluator, Measured};
use keepbest_nn::{Role, WhichWeights};

use super::error::TrainError;
use super::events::{Event, Observer};
use super::run::Run;

/// Weights of a step, measured on val.
pub(super) struct Candidate {
    /// What is offered to the keeper.
    pub evaluation: Evaluation,
    pub measured: Measured,
}

impl Run {
    /// Measures the weights as they are, and their average; gives the better of them by the objective, the weights
    /// themselves when they are as good. `None` when told to stop in between.
    pub(super) fn candidate(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Candidate>, TrainError> {
        let averages = match self.setup.config.swa {
            Some(from) => {
                let begun = self.state.step as f64 >= from * self.steps_planned() as f64;
                if begun && !self.average(stop)? {
                    return Ok(None);
                }
                begun.then_some("swa")
            }
            None => Some("ema"),
        };
        self.share_state()?;
        let snapshot = self.setup.engine.snapshot();
        let averaged = averages.and_then(|which| Some((which, self.setup.engine.averaged()?)));
        let Some(mut raw) = self.measured(snapshot, false, observer, stop)? else {
            return Ok(None);
        };
        let Some((which, averaged)) = averaged else {
            return Ok(Some(raw));
        };
        let Some(mut averaged) = self.measured(averaged, true, observer, stop)? else {
            return Ok(None);
        };
        raw.evaluation = raw.evaluation.of_weights("raw");
        averaged.evaluation = averaged.evaluation.of_weights(which);
        let metrics = [&raw, &averaged].map(|of| of.evaluation.metrics());
        let better = better(&self.setup.goals.objective, metrics[1], metrics[0])?;
        let both = [beside("raw", metrics[0]), beside(which, metrics[1])].concat();
        let mut chosen = if better { averaged } else { raw };
        chosen.evaluation = chosen.evaluation.with_metrics(both);
        Ok(Some(chosen))
    }

    /// Takes the weights into the average and measures its batch norm's statistics anew. `false` when told to stop in between.
    fn average(&mut self, stop: &AtomicBool) -> Result<bool, TrainError> {
        // What comes is of this rank alone.
        self.is_shared = false;
        let engine = &mut self.setup.engine;
        if let Some(taken) = self.state.average() {
            engine.average_weights(taken);
        }
        let mut tensors = engine.network().layout().tensors().iter();
        if !tensors.any(|tensor| tensor.role == Role::Buffer) {
            return Ok(true);
        }
        let batches = statistics_batches(
            &self.setup.data,
            self.setup.config.batch_size,
            engine.threads(),
        )?;
        for (seen, batch) in batches.enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            engine
                .measure_statistics(WhichWeights::Average, &batch?.images, seen as u64)
                .map_err(TrainError::Step)?;
        }
        Ok(true)
    }

    fn measured(
        &mut self,
        snapshot: SnapshotHandle,
        averaged: bool,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Candidate>, TrainError> {
        self.share_scoring(averaged)?;
        let ranks = self.setup.ranks();
        let setup = &mut self.setup;
        let scorer = &mut *setup.scorer;
        scorer
            .load_snapshot(&snapshot)
            .map_err(|source| keepbest_model::ModelError::Weights {
                path: self.path.clone(),
                network: setup.spec.name.clone(),
                source: Box::new(source),
            })?;
        let criterion = setup.provenance.criterion.criterion();
        let evaluator = Evaluator {
            keep_outcomes: true,
            tune: setup.config.thresholds,
            ranks: &*ranks,
            ..Evaluator::new(&criterion, &setup.data.preprocessing)
        };
        let of = setup.data.val.len();
        let measured = evaluator.measure(scorer, &setup.data.val, |done| {
            observer.on(Event::Measuring {
                split: "val",
                done,
                of,
            });
            !stop.load(Ordering::Relaxed)
        })?;
        let Some(measured) = measured else {
            return Ok(None);
        };
        let mut metrics: Metrics = measured.metrics("val");
        metrics.insert("train/loss", self.state.running.loss());
        metrics.insert("train/accuracy", self.state.running.accuracy());
        setup.costs.add(&mut metrics, scorer)?;
        if let Some(smoothing) = &setup.goals.smoothing {
            smoothing
                .add(&mut metrics, self.keeper.evaluations())
                .map_err(ObjectiveError::from)?;
        }
        Ok(Some(Candidate {
            evaluation: Evaluation::of(&snapshot, self.state.epoch, metrics),
            measured,
        }))
    }
}

/// What is recorded of weights beside those that are chosen: `ema/accuracy`, `raw/loss`.
fn beside(which: &str, metrics: &Metrics) -> Vec<(String, f64)> {
    let metric = |name| {
        let value = metrics.get(&format!("val/{name}"))?;
        Some((format!("{which}/{name}"), value))
    };
    ["accuracy", "loss"]
        .into_iter()
        .filter_map(metric)
        .collect()
}
