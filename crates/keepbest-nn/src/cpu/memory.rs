//! Memory of training steps, and what the operations of a step share.

use super::context::arena;
use crate::engine::EngineError;
use crate::ops::operation::{LearningRates, Statistics, Weights};
use crate::plan::{Place, Plan};
use keepbest_kernels::{Buffer, Context, reduce};

/// Memory of a training step, all of it allocated at the start.
pub(super) struct Memory {
    pub arena: Buffer,
    pub gradients: Buffer,
    pub statistics: StatisticsMemory,
    pub indices: Vec<u8>,
    /// Partial sums of the gradient's norm.
    pub sums: Vec<f64>,
}

/// Statistics of the batch and the affine map made from them, for all batch norms in a row.
pub(super) struct StatisticsMemory {
    pub mean: Buffer,
    pub variance: Buffer,
    pub inv_std: Buffer,
    pub scale: Buffer,
    pub shift: Buffer,
}

impl Memory {
    pub(super) fn new(plan: &Plan, batch: usize, trained: usize) -> Result<Self, EngineError> {
        Ok(Memory {
            arena: arena(plan, batch)?,
            gradients: Buffer::zeroed(trained),
            statistics: StatisticsMemory::zeroed(plan.channels_len),
            indices: vec![0; plan.indices_len],
            sums: vec![0.0; reduce::sum_squares_scratch_len(trained)],
        })
    }
}

impl StatisticsMemory {
    pub(super) fn zeroed(channels: usize) -> Self {
        StatisticsMemory {
            mean: Buffer::zeroed(channels),
            variance: Buffer::zeroed(channels),
            inv_std: Buffer::zeroed(channels),
            scale: Buffer::zeroed(channels),
            shift: Buffer::zeroed(channels),
        }
    }

    /// Statistics of one operation.
    pub(super) fn of(&mut self, channels: &Place) -> Statistics<'_> {
        Statistics {
            mean: &mut self.mean[channels.clone()],
            variance: &mut self.variance[channels.clone()],
            inv_std: &mut self.inv_std[channels.clone()],
            scale: &mut self.scale[channels.clone()],
            shift: &mut self.shift[channels.clone()],
        }
    }
}

/// What every operation of a pass over a batch shares.
pub(super) struct Pass<'a> {
    pub ctx: &'a Context,
    /// Images in the batch.
    pub n: usize,
    pub weights: Weights<'a>,
    pub rates: LearningRates<'a>,
    /// Key of this step's dropout.
    pub dropout: u64,
}
