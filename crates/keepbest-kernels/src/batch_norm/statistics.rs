//! Mean and variance of each channel.

// Loops over registers, indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

use super::{MERGE, scratch_len};
use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::{LANES, Simd};
use crate::{ActShape, Context};

/// Adds to `K` vectors of `sum` from channel `first` on, over the pixels in `x`; the last vector has `last` lanes.
#[inline(always)]
fn sum_block<S: Simd, const K: usize>(s: S, x: &[f32], first: usize, last: usize, sum: &mut [f32]) {
    let c = sum.len();
    let len = |v: usize| if v == K - 1 { last } else { LANES };
    let mut acc: [S::F; K] = std::array::from_fn(|v| s.load(sum, first + v * LANES, len(v)));
    for pixel in x.chunks_exact(c) {
        for v in 0..K {
            acc[v] = s.add(acc[v], s.load(pixel, first + v * LANES, len(v)));
        }
    }
    for v in 0..K {
        s.store(acc[v], sum, first + v * LANES, len(v));
    }
}

vectorised! {
    /// Adds to `sum` the values of each channel over the pixels in `x`.
    pub(crate) fn sum_span(s, x: &[f32], sum: &mut [f32]) {
        let c = sum.len();
        let mut first = 0;
        while first + 4 * LANES <= c {
            sum_block::<S, 4>(s, x, first, LANES, sum);
            first += 4 * LANES;
        }
        while first + 2 * LANES <= c {
            sum_block::<S, 2>(s, x, first, LANES, sum);
            first += 2 * LANES;
        }
        while first < c {
            sum_block::<S, 1>(s, x, first, LANES.min(c - first), sum);
            first += LANES;
        }
    }
}

#[inline(always)]
fn deviations_block<S: Simd, const K: usize>(
    s: S,
    x: &[f32],
    first: usize,
    last: usize,
    mean: &[f32],
    sum: &mut [f32],
    squares: &mut [f32],
) {
    let c = mean.len();
    let len = |v: usize| if v == K - 1 { last } else { LANES };
    let m: [S::F; K] = std::array::from_fn(|v| s.load(mean, first + v * LANES, len(v)));
    let mut acc: [S::F; K] = std::array::from_fn(|v| s.load(sum, first + v * LANES, len(v)));
    let mut acc2: [S::F; K] = std::array::from_fn(|v| s.load(squares, first + v * LANES, len(v)));
    for pixel in x.chunks_exact(c) {
        for v in 0..K {
            let d = s.sub(s.load(pixel, first + v * LANES, len(v)), m[v]);
            acc[v] = s.add(acc[v], d);
            acc2[v] = s.mul_add(d, d, acc2[v]);
        }
    }
    for v in 0..K {
        s.store(acc[v], sum, first + v * LANES, len(v));
        s.store(acc2[v], squares, first + v * LANES, len(v));
    }
}

vectorised! {
    /// Adds deviations from `mean` and their squares.
    fn deviations_span(s, x: &[f32], mean: &[f32], sum: &mut [f32], squares: &mut [f32]) {
        let c = mean.len();
        let mut first = 0;
        while S::ROOMY && first + 4 * LANES <= c {
            deviations_block::<S, 4>(s, x, first, LANES, mean, sum, squares);
            first += 4 * LANES;
        }
        while S::ROOMY && first + 2 * LANES <= c {
            deviations_block::<S, 2>(s, x, first, LANES, mean, sum, squares);
            first += 2 * LANES;
        }
        while first < c {
            deviations_block::<S, 1>(s, x, first, LANES.min(c - first), mean, sum, squares);
            first += LANES;
        }
    }
}

/// Mean and biased variance of each channel over `n` images.
///
/// Each fixed chunk of pixels is summed twice while it is in the cache (mean, then squared deviations from it), and the
/// chunks are merged in `f64`, in order, by the formula of Chan, Golub and LeVeque (1979).
///
/// # Panics
///
/// When a slice is too short, or `n` is 0.
pub fn statistics(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    scratch: &mut [f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let c = shape.c;
    assert!(n > 0, "batch norm: no images");
    check_activation("x", x, n, shape);
    check_len("mean", mean, c);
    check_len("var", var, c);
    check_len("scratch", scratch, scratch_len(n, shape));
    let chunks = PixelChunks::new(n, shape);
    let partials = Disjoint::new(scratch);
    ctx.pool().run(chunks.count(), &|chunk, _| {
        // SAFETY: each task takes its own chunk's part.
        let part = unsafe { partials.part(chunk * 3 * c, 3 * c) };
        part.fill(0.0);
        let (mean, rest) = part.split_at_mut(c);
        let (sum, squares) = rest.split_at_mut(c);
        for span in chunks.spans(chunk) {
            sum_span(ctx.isa(), &x[span], mean);
        }
        let count = chunks.pixels(chunk) as f32;
        mean.iter_mut().for_each(|m| *m /= count);
        for span in chunks.spans(chunk) {
            deviations_span(ctx.isa(), &x[span], mean, sum, squares);
        }
    });
    let partials = &scratch[..chunks.count() * 3 * c];
    let (mean, var) = (Disjoint::new(mean), Disjoint::new(var));
    ctx.pool().run(c.div_ceil(MERGE), &|task, _| {
        let first = task * MERGE;
        let width = MERGE.min(c - first);
        let mut count = 0.0f64;
        let mut m = [0.0f64; MERGE];
        let mut q = [0.0f64; MERGE];
        for (chunk, part) in partials.chunks_exact(3 * c).enumerate() {
            merge(
                ctx.isa(),
                chunks.pixels(chunk) as f64,
                count,
                &part[first..],
                c,
                &mut m[..width],
                &mut q[..width],
            );
            count += chunks.pixels(chunk) as f64;
        }
        // SAFETY: tasks take disjoint channels.
        let (mean, var) = unsafe { (mean.part(first, width), var.part(first, width)) };
        for lane in 0..width {
            mean[lane] = m[lane] as f32;
            var[lane] = (q[lane] / count) as f32;
        }
    });
}

multiversion! {
    /// Merges a chunk's (rounded mean, sum and squares of deviations from it) into running mean and squares.
    fn merge(pixels: f64, before: f64, part: &[f32], c: usize, mean: &mut [f64], squares: &mut [f64]) {
        let total = before + pixels;
        let share = pixels / total;
        let cross = before * share;
        let width = mean.len();
        let (chunk_mean, sum, chunk_squares) = (&part[..width], &part[c..c + width], &part[2 * c..2 * c + width]);
        for lane in 0..width {
            let deviation = f64::from(sum[lane]) / pixels;
            let exact_mean = f64::from(chunk_mean[lane]) + deviation;
            let exact_squares = f64::from(chunk_squares[lane]) - f64::from(sum[lane]) * deviation;
            let delta = exact_mean - mean[lane];
            mean[lane] += delta * share;
            squares[lane] += exact_squares.max(0.0) + delta * delta * cross;
        }
    }
}

multiversion! {
    pub(crate) fn add_wide(part: &[f32], sum: &mut [f64]) {
        for (sum, &v) in sum.iter_mut().zip(part) {
            *sum += f64::from(v);
        }
    }
}
