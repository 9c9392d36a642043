//! Batch normalisation over the images and pixels of each channel (Ioffe and Szegedy 2015).
//!
//! Training: [`statistics`], then [`apply`] with `scale = gamma / sqrt(var + eps)` and `shift = beta - mean * scale`, and
//! [`backward`]. Evaluation: [`apply`] with the running statistics, and [`backward_frozen`]. Where a ReLU and max pooling
//! follow, [`max_pool::forward_normalised`](crate::max_pool::forward_normalised) does all in one pass.

mod apply;
mod backward;
mod statistics;

use crate::ActShape;
use crate::chunks::PixelChunks;

pub use apply::apply;
pub use backward::{Upstream, backward, backward_frozen};
pub use statistics::statistics;
pub(crate) use statistics::{add_wide, sum_span};

/// Channels a task of the merge takes.
const MERGE: usize = 64;

/// `f32` values of scratch that [`statistics`] and [`backward`] need for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    (PixelChunks::new(n, shape).count() + 1) * 3 * shape.c
}
