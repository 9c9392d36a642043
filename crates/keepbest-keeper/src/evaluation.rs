//! Metrics of a snapshot.

use keepbest_core::Metrics;

use crate::snapshot::SnapshotHandle;

/// Metrics measured on one snapshot. It carries the snapshot, so metrics of one and weights of another cannot be saved together.
#[derive(Clone, Debug)]
pub struct Evaluation {
    snapshot: SnapshotHandle,
    epoch: u64,
    metrics: Metrics,
    withheld: Option<String>,
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
        }
    }

    /// The same, never to replace the best by the first objective, for this reason: what it measured may be luck.
    #[must_use]
    pub fn withheld(mut self, reason: impl Into<String>) -> Self {
        self.withheld = Some(reason.into());
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

    pub(crate) fn into_parts(self) -> (SnapshotHandle, u64, Metrics) {
        (self.snapshot, self.epoch, self.metrics)
    }
}
