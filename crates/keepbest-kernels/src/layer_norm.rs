//! Layer normalisation over the channels of each pixel (Ba, Kiros and Hinton, arXiv 1607.06450): `torch.nn.LayerNorm` on
//! channels-last maps, torchvision's `LayerNorm2d`.

use crate::batch_norm::add_wide;
use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::LANES;
use crate::{ActShape, Context};

/// Channels a task of the merge takes.
const MERGE: usize = 64;

/// `f32` values of scratch that [`backward`] needs for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    PixelChunks::new(n, shape).count() * 2 * shape.c
}

/// Sum over `x` of `term(index)`: sixteen running sums, then those in order, so that the order depends on the length alone.
#[inline(always)]
fn sum(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = len - len % LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(first + lane);
        }
    }
    for index in whole..len {
        lanes[index - whole] += term(index);
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    total
}

/// Mean and `1 / sqrt(variance + eps)` of a pixel's channels.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / count;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

multiversion! {
    fn forward_span(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
        let c = gamma.len();
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            let (mean, inv_std) = moments(x, eps);
            for (((y, &x), &gamma), &beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = ((x - mean) * inv_std).mul_add(gamma, beta);
            }
        }
    }
}

multiversion! {
    fn backward_span(
        x: &[f32],
        dy: &[f32],
        gamma: &[f32],
        eps: f32,
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let c = gamma.len();
        let count = c as f32;
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            let (mean, inv_std) = moments(x, eps);
            let of_shift = sum(c, |i| dy[i] * gamma[i]) / count;
            let of_scale = sum(c, |i| dy[i] * gamma[i] * ((x[i] - mean) * inv_std)) / count;
            for i in 0..c {
                let normal = (x[i] - mean) * inv_std;
                dx[i] = inv_std * (normal.mul_add(-of_scale, dy[i] * gamma[i]) - of_shift);
                dgamma[i] = dy[i].mul_add(normal, dgamma[i]);
                dbeta[i] += dy[i];
            }
        }
    }
}

/// `y = (x - mean) / sqrt(variance + eps) * gamma + beta` with mean and variance over the channels of each pixel.
///
/// # Panics
///
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f64,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    check_len("gamma", gamma, shape.c);
    check_len("beta", beta, shape.c);
    let (gamma, beta) = (&gamma[..shape.c], &beta[..shape.c]);
    let out = Disjoint::new(y);
    let chunks = PixelChunks::new(n, shape);
    ctx.pool().run(chunks.count(), &|chunk, _| {
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let y = unsafe { out.part(span.start, span.len()) };
            forward_span(ctx.isa(), &x[span], gamma, beta, eps as f32, y);
        }
    });
}

/// Gradient of [`forward`]; overwrites `dgamma`, `dbeta` and `dx`.
///
/// # Panics
///
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    dy: &[f32],
    gamma: &[f32],
    eps: f64,
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dx: &mut [f32],
) {
    let c = shape.c;
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_activation("dx", dx, n, shape);
    for (name, slice) in [("gamma", gamma), ("dgamma", &*dgamma), ("dbeta", &*dbeta)] {
        check_len(name, slice, c);
    }
    check_len("scratch", scratch, scratch_len(n, shape));
    let chunks = PixelChunks::new(n, shape);
    let (partials, out) = (Disjoint::new(scratch), Disjoint::new(dx));
    ctx.pool().run(chunks.count(), &|chunk, _| {
        // SAFETY: each task takes its own chunk's part.
        let part = unsafe { partials.part(chunk * 2 * c, 2 * c) };
        part.fill(0.0);
        let (dgamma, dbeta) = part.split_at_mut(c);
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let dx = unsafe { out.part(span.start, span.len()) };
            let (x, dy) = (&x[span.clone()], &dy[span]);
            backward_span(ctx.isa(), x, dy, &gamma[..c], eps as f32, dx, dgamma, dbeta);
        }
    });
    let parts = &scratch[..chunks.count() * 2 * c];
    let (dgamma, dbeta) = (Disjoint::new(dgamma), Disjoint::new(dbeta));
    ctx.pool().run(c.div_ceil(MERGE), &|task, _| {
        let first = task * MERGE;
        let width = MERGE.min(c - first);
        for (out, offset) in [(&dgamma, 0), (&dbeta, c)] {
            let mut total = [0.0f64; MERGE];
            for part in parts.chunks_exact(2 * c) {
                let part = &part[offset + first..][..width];
                add_wide(ctx.isa(), part, &mut total[..width]);
            }
            // SAFETY: tasks take disjoint channels.
            let out = unsafe { out.part(first, width) };
            for (out, total) in out.iter_mut().zip(total) {
                *out = total as f32;
            }
        }
    });
}
