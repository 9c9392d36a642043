//! Sums over whole slices, in fixed chunks.

use crate::batch_norm::{add_wide, sum_span};
use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::relu::ELEMENT_CHUNK;
use crate::{ActShape, Context};

const SUM_CHUNK: usize = 16384;
const LANES: usize = 16;

/// `f64` values of scratch that [`sum_squares`] needs for `len` values.
pub fn sum_squares_scratch_len(len: usize) -> usize {
    len.div_ceil(SUM_CHUNK)
}

multiversion! {
    fn sum_squares_chunk(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (lane, &v) in lanes.iter_mut().zip(block) {
                let v = f64::from(v);
                *lane = v.mul_add(v, *lane);
            }
        }
        for (lane, &v) in lanes.iter_mut().zip(rest) {
            let v = f64::from(v);
            *lane = v.mul_add(v, *lane);
        }
        let mut sum = 0.0;
        for lane in lanes {
            sum += lane;
        }
        sum
    }
}

/// Sum of squares in `f64`, for the norm of a gradient.
///
/// # Panics
///
/// When `scratch` is shorter than [`sum_squares_scratch_len`].
pub fn sum_squares(ctx: &Context, x: &[f32], scratch: &mut [f64]) -> f64 {
    let chunks = sum_squares_scratch_len(x.len());
    check_len("scratch", scratch, chunks);
    let partial = Disjoint::new(&mut scratch[..chunks]);
    ctx.pool().run(chunks, &|chunk, _| {
        let start = chunk * SUM_CHUNK;
        let sum = sum_squares_chunk(ctx.isa(), &x[start..x.len().min(start + SUM_CHUNK)]);
        // SAFETY: one element a task.
        unsafe { partial.set(chunk, sum) };
    });
    scratch[..chunks].iter().sum()
}

multiversion! {
    fn scale_chunk(x: &mut [f32], factor: f32) {
        for v in x {
            *v *= factor;
        }
    }
}

/// `x *= factor`.
pub fn scale(ctx: &Context, x: &mut [f32], factor: f32) {
    let len = x.len();
    let out = Disjoint::new(x);
    ctx.for_ranges(len, ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        scale_chunk(
            ctx.isa(),
            unsafe { out.part(range.start, range.len()) },
            factor,
        );
    });
}

/// Floats of scratch that [`channel_sums`] needs for up to `n` images.
pub fn channel_sums_scratch_len(n: usize, shape: ActShape) -> usize {
    PixelChunks::new(n, shape).count() * shape.c
}

/// Sum of each channel over images and pixels: the gradient of a bias. Overwrites `sums`.
///
/// # Panics
///
/// When a slice is too short.
pub fn channel_sums(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    scratch: &mut [f32],
    sums: &mut [f32],
) {
    let c = shape.c;
    check_activation("x", x, n, shape);
    check_len("sums", sums, c);
    let chunks = PixelChunks::new(n, shape);
    check_len("scratch", scratch, chunks.count() * c);
    let partials = Disjoint::new(scratch);
    ctx.pool().run(chunks.count(), &|chunk, _| {
        // SAFETY: each task takes its own chunk's part.
        let sum = unsafe { partials.part(chunk * c, c) };
        sum.fill(0.0);
        for span in chunks.spans(chunk) {
            sum_span(ctx.isa(), &x[span], sum);
        }
    });
    const WIDTH: usize = 64;
    for first in (0..c).step_by(WIDTH) {
        let width = WIDTH.min(c - first);
        let mut sum = [0.0f64; WIDTH];
        for part in scratch[..chunks.count() * c].chunks_exact(c) {
            add_wide(ctx.isa(), &part[first..first + width], &mut sum[..width]);
        }
        for (to, sum) in sums[first..first + width].iter_mut().zip(sum) {
            *to = sum as f32;
        }
    }
}
