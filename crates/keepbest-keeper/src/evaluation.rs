//! Metrics of a snapshot.

use keepbest_core::{EvaluationRecord, Judgement, Metrics};
use keepbest_formats::SnapshotHandle;
use serde_json::Value;

/// Metrics measured on one snapshot. It carries the snapshot, so metrics of one and weights of another cannot be saved together.
#[derive(Clone, Debug)]
pub struct Evaluation {
    snapshot: SnapshotHandle,
    epoch: u64,
    metrics: Metrics,
    withheld: Option<String>,
    weights: Option<String>,
    unscheduled: bool,
    thresholds: Option<Value>,
}

impl Evaluation {
    /// The metrics of `snapshot`, taken after `epoch` epochs.
    #[must_use]
    pub fn of(snapshot: &SnapshotHandle, epoch: u64, metrics: Metrics) -> Self {
        Self {
            snapshot: snapshot.clone(),
            epoch,
            metrics,
            withheld: None,
            weights: None,
            unscheduled: false,
            thresholds: None,
        }
    }

    /// The same, never to replace the best by the first objective, for this reason: what it measured may be luck.
    #[must_use]
    pub fn withheld(mut self, reason: impl Into<String>) -> Self {
        self.withheld = Some(reason.into());
        self
    }

    /// The same, of these weights of the step where there are several, such as `raw` and `ema`: for the record.
    #[must_use]
    pub fn of_weights(mut self, which: impl Into<String>) -> Self {
        self.weights = Some(which.into());
        self
    }

    /// The same, at a step that the run's settings have none for: whoever repeats the run has to be told of it.
    #[must_use]
    pub fn unscheduled(mut self) -> Self {
        self.unscheduled = true;
        self
    }

    /// The same, with the thresholds that decided when it was measured: they go into full models.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: Option<Value>) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// What was measured.
    #[must_use]
    pub fn snapshot(&self) -> &SnapshotHandle {
        &self.snapshot
    }

    /// Optimizer steps behind it.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.snapshot.step()
    }

    /// Epochs behind it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn why_withheld(&self) -> Option<&str> {
        self.withheld.as_deref()
    }

    /// The snapshot, the record of it once it is judged, and the thresholds.
    pub(crate) fn judged(
        self,
        judgement: Judgement,
    ) -> (SnapshotHandle, EvaluationRecord, Option<Value>) {
        let step = self.step();
        let record = EvaluationRecord {
            weights: self.weights,
            unscheduled: self.unscheduled,
            ..EvaluationRecord::new(step, self.epoch, self.metrics, judgement)
        };
        (self.snapshot, record, self.thresholds)
    }
}
