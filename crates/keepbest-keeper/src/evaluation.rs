//! Metrics of a snapshot.

use keepbest_core::{EvaluationRecord, Judgement, Metrics};
use keepbest_formats::SnapshotHandle;
use keepbest_formats::model_file::Attachments;

/// Metrics measured on one snapshot. It carries the snapshot, so metrics of one and weights of another cannot be saved together.
#[derive(Clone, Debug)]
pub struct Evaluation {
    snapshot: SnapshotHandle,
    epoch: u64,
    metrics: Metrics,
    withheld: Option<String>,
    weights: Option<String>,
    unscheduled: bool,
    attachments: Attachments,
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
            attachments: Attachments::default(),
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

    /// The same, with what its file is to hold beside what every file of the run holds, such as the thresholds that decided when it was
    /// measured.
    #[must_use]
    pub fn with_attachments(mut self, attachments: Attachments) -> Self {
        self.attachments = attachments;
        self
    }

    /// The same, with further metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: impl IntoIterator<Item = (String, f64)>) -> Self {
        self.metrics.extend(metrics);
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

    /// Which weights of the step were measured, where there are several.
    #[must_use]
    pub fn weights(&self) -> Option<&str> {
        self.weights.as_deref()
    }

    pub(crate) fn why_withheld(&self) -> Option<&str> {
        self.withheld.as_deref()
    }

    /// The snapshot, the record of it once it is judged, and what its file is to hold.
    pub(crate) fn judged(
        self,
        judgement: Judgement,
    ) -> (SnapshotHandle, EvaluationRecord, Attachments) {
        let step = self.step();
        let record = EvaluationRecord {
            weights: self.weights,
            unscheduled: self.unscheduled,
            ..EvaluationRecord::new(step, self.epoch, self.metrics, judgement)
        };
        (self.snapshot, record, self.attachments)
    }
}
