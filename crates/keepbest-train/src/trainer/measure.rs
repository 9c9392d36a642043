//! An evaluation: a snapshot is measured, offered to the keeper, and told of.

use std::sync::atomic::AtomicBool;

use keepbest_formats::model_file::Attachments;
use keepbest_model::TunedThresholds;

use super::candidate::Candidate;
use super::error::TrainError;
use super::events::{Event, Judged, Observer};
use super::run::Run;
use crate::log::{Logged, now_ms};

impl Run {
    /// Measures a snapshot and offers it to the keeper. `false` when told to stop in between.
    pub(super) fn measure(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        let Some(candidate) = self.candidate(observer, stop)? else {
            return Ok(false);
        };
        self.clock.lap(|spent| &mut spent.evaluating);
        let Candidate {
            mut evaluation,
            measured,
        } = candidate;
        let metrics = evaluation.metrics().clone();
        let weights = evaluation.weights().map(ToOwned::to_owned);
        let value = self
            .setup
            .goals
            .objective
            .monitor()
            .evaluate(&metrics)
            .map_err(keepbest_core::ObjectiveError::from)?;
        let epoch = self.state.epoch;
        if !self.state.is_scheduled(&self.setup.timetable) {
            evaluation = evaluation.unscheduled();
        }
        self.state.measured();
        self.rates.observe(value, &mut self.state.plateau);

        let decided = measured.tuned.clone().zip(self.setup.config.thresholds);
        let thresholds = decided.map(|(tuned, metric)| TunedThresholds::new(tuned, metric, "val"));
        evaluation = evaluation.with_attachments(Attachments {
            thresholds: thresholds.as_ref().map(TunedThresholds::to_json),
            ..Attachments::default()
        });
        let trace = self.significance.trace(&measured, &self.setup.provenance);
        if let Some(reason) = trace
            .as_ref()
            .and_then(|trace| self.significance.holds_back(trace))
        {
            evaluation = evaluation.withheld(reason);
        }
        let verdict = self.keeper.offer(evaluation, self.training_json())?;
        if verdict.is_improved() {
            let images = &self.setup.data.val;
            self.reporting.best(&measured, images, observer);
            self.reporting.thresholds = thresholds;
        }
        if let Some(trace) = trace {
            let improved = verdict.is_improved();
            if let Err(error) =
                self.significance
                    .keep(&self.path, trace, self.state.step, epoch, improved)
            {
                self.reporting.tell(&error.to_string(), observer);
            }
        }
        let images_per_second = self.throughput.take();
        observer.on(Event::Measured(&Judged {
            step: self.state.step,
            epoch,
            epochs: self.state.epochs,
            metrics,
            value,
            verdict,
            weights,
            images_per_second,
        }));
        let history = self.keeper.history();
        self.loggers.evaluated(Logged {
            history: history.clone(),
            learning_rate: self.rates.at(self.state.step, self.state.plateau.as_ref()),
            images_per_second,
            time_ms: now_ms(),
        });
        let provenance = &self.setup.provenance;
        self.reporting
            .follow(&self.path, provenance, || history, observer);
        self.tell(observer);
        self.clock.lap(|spent| &mut spent.keeping);
        Ok(true)
    }
}
