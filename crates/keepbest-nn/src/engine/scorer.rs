//! The contract of a scorer.

use super::error::ScoreError;
use crate::network::Network;
use crate::params::WeightsError;
use keepbest_formats::{SnapshotHandle, StateDict};

/// A network ready to score images: running statistics, no dropout, so an image's scores do not depend on its batch.
pub trait Scorer: Send {
    /// The network this scores with.
    fn network(&self) -> &Network;

    /// Threads of this machine that it is worth making batches on.
    fn threads(&self) -> usize;

    /// Bytes of memory that it takes on its device, by its plan: at least its weights.
    fn bytes(&self) -> u64 {
        let weights = self.network().layout().tensors().iter();
        weights.map(|tensor| 4 * tensor.len() as u64).sum()
    }

    /// Takes the weights of a state dict.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors; the weights before stay.
    fn load(&mut self, weights: &StateDict) -> Result<(), WeightsError>;

    /// Takes the weights of a snapshot, without a copy of the whole where it is one of its own device's.
    ///
    /// # Errors
    /// [`WeightsError`] when the snapshot is of another network.
    fn load_snapshot(&mut self, snapshot: &SnapshotHandle) -> Result<(), WeightsError> {
        self.load(&snapshot.weights())
    }

    /// Scores any number of images: `images` is `[n, height, width, channels]`, dense and normalised; `logits` becomes `[n, classes]`.
    ///
    /// # Errors
    /// [`ScoreError`] when no weights are loaded or `images` is no whole number of images.
    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) -> Result<(), ScoreError>;
}
