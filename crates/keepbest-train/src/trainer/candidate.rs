//! What a step has to offer: its weights, and their moving average where one is kept. The better one is offered.

use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::{Metrics, ObjectiveError};
use keepbest_model::average::{better, statistics_batches};
use keepbest_model::{Evaluator, Measured};
use keepbest_nn::{Engine as _, Role};

use super::error::TrainError;
use super::events::{Event, Observer};
use super::run::Run;

/// Weights of a step, measured on val.
pub(super) struct Candidate {
    pub snapshot: keepbest_nn::Snapshot,
    pub measured: Measured,
    pub metrics: Metrics,
    /// Which weights these are, where there are several.
    pub which: Option<&'static str>,
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
        let snapshot = self.setup.engine.snapshot();
        let averaged = averages.and_then(|which| Some((which, snapshot.averaged()?)));
        let Some(mut raw) = self.measured(snapshot, observer, stop)? else {
            return Ok(None);
        };
        let Some((which, averaged)) = averaged else {
            return Ok(Some(raw));
        };
        let Some(mut averaged) = self.measured(averaged, observer, stop)? else {
            return Ok(None);
        };
        let better = better(&self.setup.objective, &averaged.metrics, &raw.metrics)?;
        (raw.which, averaged.which) = (Some("raw"), Some(which));
        let both: Vec<_> = [&raw, &averaged]
            .into_iter()
            .flat_map(Candidate::beside)
            .collect();
        let mut chosen = if better { averaged } else { raw };
        for (name, value) in both {
            chosen.metrics.insert(name, value);
        }
        Ok(Some(chosen))
    }

    /// Takes the weights into the average and measures its batch norm's statistics anew. `false` when told to stop in between.
    fn average(&mut self, stop: &AtomicBool) -> Result<bool, TrainError> {
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
                .measure_average_statistics(&batch?.images, seen as u64)
                .map_err(TrainError::Step)?;
        }
        Ok(true)
    }

    fn measured(
        &mut self,
        snapshot: keepbest_nn::Snapshot,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Candidate>, TrainError> {
        let setup = &mut self.setup;
        let predictor = &mut setup.predictor;
        predictor.load_snapshot(&snapshot).map_err(|source| {
            keepbest_model::ModelError::Weights {
                path: self.path.clone(),
                network: setup.spec.name.clone(),
                source: Box::new(source),
            }
        })?;
        let criterion = setup.provenance.criterion.criterion();
        let evaluator = Evaluator {
            keep_outcomes: true,
            tune: setup.config.thresholds,
            ..Evaluator::new(&criterion, &setup.data.preprocessing)
        };
        let of = setup.data.val.len();
        let measured = evaluator.measure(predictor, &setup.data.val, |done| {
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
        setup.costs.add(&mut metrics, predictor)?;
        if let Some(smoothing) = &setup.smoothing {
            smoothing
                .add(&mut metrics, self.keeper.evaluations())
                .map_err(ObjectiveError::from)?;
        }
        Ok(Some(Candidate {
            snapshot,
            measured,
            metrics,
            which: None,
        }))
    }
}

impl Candidate {
    /// What is recorded of it beside the one that is chosen: `ema/accuracy`, `raw/loss`.
    fn beside(&self) -> Vec<(String, f64)> {
        let which = self.which.unwrap_or_default();
        let metric = |name| {
            let value = self.metrics.get(&format!("val/{name}"))?;
            Some((format!("{which}/{name}"), value))
        };
        ["accuracy", "loss"]
            .into_iter()
            .filter_map(metric)
            .collect()
    }
}
