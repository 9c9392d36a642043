//! The contract of a training engine.

use super::batch::Batch;
use super::device::CPU;
use super::error::{EngineError, StepError};
use super::scorer::Scorer;
use crate::network::Network;
use crate::params::WeightsError;
use crate::profile::Profile;
use keepbest_formats::{SnapshotHandle, StateDict};

/// The results of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutput {
    /// Mean criterion of the batch, before the update.
    pub loss: f64,
    /// Images whose highest score was their label's.
    pub correct: u32,
    /// Images of the batch, of all ranks together.
    pub images: usize,
    /// 2-norm of the gradient before clipping, when clipping is on.
    pub grad_norm: Option<f64>,
}

/// What an engine promises of two runs with the same settings and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Determinism {
    /// The same bits on every machine, with any number of threads and any instructions.
    Everywhere,
    /// The same bits on machines alike, with the same software.
    SameMachine,
    /// Nothing: sums may be taken in another order each time.
    Nothing,
}

/// The weights of an engine that keeps an average of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichWeights {
    /// The weights that are trained.
    Trained,
    /// Their average.
    Average,
}

/// A training engine: what a trainer needs, whatever device computes.
///
/// What goes in and out is plain: images and labels as memory, weights and training state as named tensors in PyTorch's names and
/// layouts. Whatever the next step depends on beside settings, batch and learning rate is in the training state (the optimizer's
/// tensors, averages, the state of random generators under [`RNG_PREFIX`](crate::RNG_PREFIX)): an engine that is
/// [restored](Self::restore) from a snapshot goes on as the one that made it, as far as it promises
/// [the same bits](Self::determinism).
pub trait Engine: Send {
    /// The network being trained.
    fn network(&self) -> &Network;

    /// What it computes with, for the record: an instruction set, or the model of a device.
    fn processor(&self) -> String;

    /// The device, as [`DEVICES`](crate::DEVICES) names it.
    fn device(&self) -> &str {
        CPU
    }

    /// The software that computes, with its versions, for the record: `PyTorch 2.9 (CUDA 12.9, cuDNN 9.1)`; `None` for code of ours.
    fn software(&self) -> Option<String> {
        None
    }

    /// Threads of this machine that it is worth making batches on.
    fn threads(&self) -> usize;

    /// What it promises of two runs that are alike.
    fn determinism(&self) -> Determinism;

    /// Steps taken.
    fn steps(&self) -> u64;

    /// Takes one optimizer step on a batch.
    ///
    /// # Errors
    /// [`StepError`]; the weights are then those from before the step.
    fn step(&mut self, batch: Batch<'_>, learning_rate: f64) -> Result<StepOutput, StepError>;

    /// [`step`](Self::step), with the batch of the step after it where that is made already: an engine whose device has memory of its own
    /// brings it there meanwhile. The next step then is on that batch, which stays where it is.
    ///
    /// # Errors
    /// As of [`step`](Self::step).
    fn step_before(
        &mut self,
        batch: Batch<'_>,
        learning_rate: f64,
        _next: Option<Batch<'_>>,
    ) -> Result<StepOutput, StepError> {
        self.step(batch, learning_rate)
    }

    /// Whether it makes use of knowing the next batch.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// An immutable handle on the weights and training state as they are now.
    fn snapshot(&self) -> SnapshotHandle;

    /// The same with the average of the weights for weights; `None` when none is kept. Its training state has the trained weights, so
    /// that an engine can be restored from either.
    fn averaged(&self) -> Option<SnapshotHandle>;

    /// Replaces all weights and buffers, the average by them. The optimizer's state and the step stay.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors; nothing is changed then.
    fn load_weights(&mut self, weights: &StateDict) -> Result<(), WeightsError>;

    /// Takes up where a snapshot was, either of [`snapshot`](Self::snapshot) or of [`averaged`](Self::averaged): its weights and
    /// training state, and its step. All that a resumed run needs.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors.
    fn restore(
        &mut self,
        weights: &StateDict,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError>;

    /// Takes the weights as they are into the mean of those of some steps, of which `taken` are in it; for
    /// [`Averaging::Swa`](crate::Averaging::Swa). Batch norm's statistics are not those of the mean before they are
    /// [measured anew](Self::measure_statistics).
    fn average_weights(&mut self, taken: u64);

    /// Measures the statistics of all batch norms anew, for weights that were not trained with the ones they have (averages), as
    /// `torch.optim.swa_utils.update_bn`: they become the mean over the batches, of which `seen` were there before. The weights, the
    /// optimizer's state and the step stay. `images` is `[n, height, width, channels]`, dense, normalised.
    ///
    /// # Errors
    /// [`StepError`], as of a step.
    fn measure_statistics(
        &mut self,
        of: WhichWeights,
        images: &[f32],
        seen: u64,
    ) -> Result<(), StepError>;

    /// A scorer of the same network on the same device, for batches of up to `batch_size` images; load a snapshot into it.
    ///
    /// # Errors
    /// [`EngineError::Setting`] for a batch size of 0.
    fn scorer(&self, batch_size: usize) -> Result<Box<dyn Scorer>, EngineError>;

    /// Times every layer of every step from now on, where the engine can. Measuring the machine may take a moment.
    fn start_profile(&mut self) {}

    /// Time and work since [`start_profile`](Self::start_profile); `None` when it was not called, or for an engine without one.
    fn profile(&self) -> Option<Profile> {
        None
    }
}
