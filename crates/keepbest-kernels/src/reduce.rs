//! Sums over whole slices, in fixed chunks.

use crate::Context;
use crate::chunks::check_len;
use crate::disjoint::Disjoint;
use crate::relu::ELEMENT_CHUNK;

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
