//! The gradient.

// Loops over registers, indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::{MERGE, add_wide, scratch_len};
use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::{LANES, Simd, blocks};
use crate::{ActShape, Context, PoolShape, max_pool};

/// The source of the gradient of a batch norm's output.
#[derive(Clone, Copy)]
pub enum Upstream<'a> {
    /// From the output itself.
    Output {
        /// The gradient.
        dy: &'a [f32],
        /// The output, when ReLU was fused: the gradient passes where it is above 0.
        y: Option<&'a [f32]>,
    },
    /// From a max pooling whose windows tile what ReLU made of the output:
    /// [`max_pool::forward_normalised`](crate::max_pool::forward_normalised).
    Pooled {
        /// The pooling.
        pool: &'a PoolShape,
        /// Gradient of what it gave.
        dy: &'a [f32],
        /// The pooling's output.
        y: &'a [f32],
        /// The winners.
        indices: &'a [u8],
    },
}

impl Upstream<'_> {
    /// Panics unless there is a gradient for `n` images of `shape`.
    #[track_caller]
    fn check(&self, ctx: &Context, n: usize, shape: ActShape) {
        match *self {
            Upstream::Output { dy, y } => {
                check_activation("dy", dy, n, shape);
                if let Some(y) = y {
                    check_activation("y", y, n, shape);
                }
            }
            Upstream::Pooled {
                pool,
                dy,
                y,
                indices,
            } => {
                assert!(pool.input == shape, "pooling of another shape");
                max_pool::check_winners(n, pool, dy, y, indices);
                let longest = PixelChunks::new(n, shape).longest_span();
                ctx.reserve_scratch(longest);
            }
        }
    }

    /// Hands the gradient of a span of floats, and the output where it is still to be masked by that.
    fn of_span(
        &self,
        ctx: &Context,
        worker: usize,
        shape: ActShape,
        span: &Range<usize>,
        body: impl FnOnce(&[f32], Option<&[f32]>),
    ) {
        match *self {
            Upstream::Output { dy, y } => body(&dy[span.clone()], y.map(|y| &y[span.clone()])),
            Upstream::Pooled {
                pool,
                dy,
                y,
                indices,
            } => ctx.with_scratch(worker, span.len(), |gradient| {
                let stride = shape.image_stride();
                let (image, start) = (span.start / stride, span.start % stride);
                let first = start / shape.c;
                max_pool::spread(ctx.isa(), pool, image, (dy, y, indices), first, gradient);
                body(gradient, None);
            }),
        }
    }
}

/// The places of the gradient's inputs: `y` only when ReLU was fused.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
}

impl Inputs<'_> {
    /// The gradient that passes the rectifier.
    #[inline(always)]
    fn masked<S: Simd, const RELU: bool>(&self, s: S, at: usize, len: usize) -> S::F {
        let g = s.load(self.dy, at, len);
        if RELU {
            s.mask(s.load(self.y, at, len), g)
        } else {
            g
        }
    }
}

#[inline(always)]
fn sums_block<S: Simd, const RELU: bool, const K: usize>(
    s: S,
    inputs: Inputs<'_>,
    (first, last): (usize, usize),
    mean: &[f32],
    dot: &mut [f32],
    sum: &mut [f32],
) {
    let c = mean.len();
    let len = |v: usize| if v == K - 1 { last } else { LANES };
    let m: [S::F; K] = std::array::from_fn(|v| s.load(mean, first + v * LANES, len(v)));
    let mut acc: [S::F; K] = std::array::from_fn(|v| s.load(sum, first + v * LANES, len(v)));
    let mut acc2: [S::F; K] = std::array::from_fn(|v| s.load(dot, first + v * LANES, len(v)));
    for at in (0..inputs.x.len()).step_by(c) {
        for v in 0..K {
            let at = at + first + v * LANES;
            let g = inputs.masked::<S, RELU>(s, at, len(v));
            acc[v] = s.add(acc[v], g);
            acc2[v] = s.mul_add(g, s.sub(s.load(inputs.x, at, len(v)), m[v]), acc2[v]);
        }
    }
    for v in 0..K {
        s.store(acc[v], sum, first + v * LANES, len(v));
        s.store(acc2[v], dot, first + v * LANES, len(v));
    }
}

#[inline(always)]
fn sums_body<S: Simd, const RELU: bool>(
    s: S,
    inputs: Inputs<'_>,
    mean: &[f32],
    dot: &mut [f32],
    sum: &mut [f32],
) {
    let c = mean.len();
    let mut first = 0;
    while S::ROOMY && first + 4 * LANES <= c {
        sums_block::<S, RELU, 4>(s, inputs, (first, LANES), mean, dot, sum);
        first += 4 * LANES;
    }
    while S::ROOMY && first + 2 * LANES <= c {
        sums_block::<S, RELU, 2>(s, inputs, (first, LANES), mean, dot, sum);
        first += 2 * LANES;
    }
    while first < c {
        sums_block::<S, RELU, 1>(s, inputs, (first, LANES.min(c - first)), mean, dot, sum);
        first += LANES;
    }
}

vectorised! {
    /// Adds per channel the masked gradients, and their products with the deviations from the mean.
    fn sums_span(s, x: &[f32], y: Option<&[f32]>, dy: &[f32], mean: &[f32], dot: &mut [f32], sum: &mut [f32]) {
        match y {
            Some(y) => sums_body::<S, true>(s, Inputs { x, y, dy }, mean, dot, sum),
            None => sums_body::<S, false>(s, Inputs { x, y: x, dy }, mean, dot, sum),
        }
    }
}

/// Per-channel coefficients of `dx = masked dy * of_dy + (x - mean) * of_x + constant`.
#[derive(Clone, Copy)]
struct Coefficients<'a> {
    mean: &'a [f32],
    of_dy: &'a [f32],
    of_x: &'a [f32],
    constant: &'a [f32],
}

#[inline(always)]
fn gradient_body<S: Simd, const RELU: bool, const RESIDUAL: bool>(
    s: S,
    inputs: Inputs<'_>,
    k: Coefficients<'_>,
    dx: &mut [f32],
    dresidual: &mut [f32],
) {
    let c = k.mean.len();
    for at in (0..dx.len()).step_by(c) {
        for (first, len) in blocks(c) {
            let g = inputs.masked::<S, RELU>(s, at + first, len);
            let d = s.sub(
                s.load(inputs.x, at + first, len),
                s.load(k.mean, first, len),
            );
            let v = s.mul_add(
                d,
                s.load(k.of_x, first, len),
                s.load(k.constant, first, len),
            );
            s.store(
                s.mul_add(g, s.load(k.of_dy, first, len), v),
                dx,
                at + first,
                len,
            );
            if RESIDUAL {
                s.store(g, dresidual, at + first, len);
            }
        }
    }
}

vectorised! {
    fn gradient_span(
        s,
        x: &[f32],
        y: Option<&[f32]>,
        dy: &[f32],
        k: Coefficients<'_>,
        dx: &mut [f32],
        dresidual: Option<&mut [f32]>,
    ) {
        let inputs = Inputs { x, y: y.unwrap_or(x), dy };
        match (y, dresidual) {
            (None, None) => gradient_body::<S, false, false>(s, inputs, k, dx, &mut []),
            (Some(_), None) => gradient_body::<S, true, false>(s, inputs, k, dx, &mut []),
            (None, Some(dr)) => gradient_body::<S, false, true>(s, inputs, k, dx, dr),
            (Some(_), Some(dr)) => gradient_body::<S, true, true>(s, inputs, k, dx, dr),
        }
    }
}

/// Gradient of batch norm in training mode, where mean and variance depend on `x`.
///
/// `mean` and `inv_std` are those of the batch (`inv_std = 1 / sqrt(var + eps)`). Writes `dgamma`, `dbeta`, `dx`, and the masked `dy` to `dresidual` when given.
///
/// # Panics
///
/// When a slice is too short, or `n` is 0.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    upstream: Upstream<'_>,
    mean: &[f32],
    inv_std: &[f32],
    gamma: &[f32],
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dx: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let c = shape.c;
    parameter_gradients(
        ctx, n, shape, x, upstream, mean, inv_std, scratch, dgamma, dbeta,
    );
    check_len("gamma", gamma, c);
    let (of_dy, rest) = scratch.split_at_mut(c);
    let (of_x, constant) = rest.split_at_mut(c);
    let count = (n * shape.pixels()) as f64;
    for channel in 0..c {
        let k = gamma[channel] * inv_std[channel];
        of_dy[channel] = k;
        let share = -f64::from(k) / count;
        of_x[channel] = (share * f64::from(dgamma[channel]) * f64::from(inv_std[channel])) as f32;
        constant[channel] = (share * f64::from(dbeta[channel])) as f32;
    }
    let k = Coefficients {
        mean: &mean[..c],
        of_dy,
        of_x,
        constant: &constant[..c],
    };
    gradient(ctx, n, shape, x, upstream, k, dx, dresidual);
}

/// Gradient of batch norm whose statistics are held fixed (evaluation mode): `dx = masked dy * scale`, and `dgamma`, `dbeta`.
///
/// # Panics
///
/// When a slice is too short, or `n` is 0.
#[allow(clippy::too_many_arguments)]
pub fn backward_frozen(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    upstream: Upstream<'_>,
    mean: &[f32],
    inv_std: &[f32],
    gamma: &[f32],
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dx: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let c = shape.c;
    parameter_gradients(
        ctx, n, shape, x, upstream, mean, inv_std, scratch, dgamma, dbeta,
    );
    check_len("gamma", gamma, c);
    let (of_dy, zero) = scratch.split_at_mut(c);
    for channel in 0..c {
        of_dy[channel] = gamma[channel] * inv_std[channel];
    }
    zero[..c].fill(0.0);
    let k = Coefficients {
        mean: &mean[..c],
        of_dy,
        of_x: &zero[..c],
        constant: &zero[..c],
    };
    gradient(ctx, n, shape, x, upstream, k, dx, dresidual);
}

#[allow(clippy::too_many_arguments)]
fn parameter_gradients(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    upstream: Upstream<'_>,
    mean: &[f32],
    inv_std: &[f32],
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = shape.c;
    assert!(n > 0, "batch norm: no images");
    check_activation("x", x, n, shape);
    upstream.check(ctx, n, shape);
    for (name, slice) in [
        ("mean", mean),
        ("inv_std", inv_std),
        ("dgamma", &*dgamma),
        ("dbeta", &*dbeta),
    ] {
        check_len(name, slice, c);
    }
    check_len("scratch", scratch, scratch_len(n, shape));
    let chunks = PixelChunks::new(n, shape);
    let partials = Disjoint::new(scratch);
    ctx.pool().run(chunks.count(), &|chunk, worker| {
        // SAFETY: each task takes its own chunk's part.
        let part = unsafe { partials.part(chunk * 2 * c, 2 * c) };
        part.fill(0.0);
        let (dot, sum) = part.split_at_mut(c);
        for span in chunks.spans(chunk) {
            upstream.of_span(ctx, worker, shape, &span, |dy, y| {
                let x = &x[span.clone()];
                sums_span(ctx.isa(), x, y, dy, &mean[..c], dot, sum);
            });
        }
    });
    let partials = &scratch[..chunks.count() * 2 * c];
    let (dgamma, dbeta) = (Disjoint::new(dgamma), Disjoint::new(dbeta));
    ctx.pool().run(c.div_ceil(MERGE), &|task, _| {
        let first = task * MERGE;
        let width = MERGE.min(c - first);
        let mut dot = [0.0f64; MERGE];
        let mut sum = [0.0f64; MERGE];
        for part in partials.chunks_exact(2 * c) {
            add_wide(ctx.isa(), &part[first..first + width], &mut dot[..width]);
            add_wide(
                ctx.isa(),
                &part[c + first..c + first + width],
                &mut sum[..width],
            );
        }
        // SAFETY: tasks take disjoint channels.
        let (dgamma, dbeta) = unsafe { (dgamma.part(first, width), dbeta.part(first, width)) };
        for lane in 0..width {
            dgamma[lane] = (dot[lane] * f64::from(inv_std[first + lane])) as f32;
            dbeta[lane] = sum[lane] as f32;
        }
    });
}

#[allow(clippy::too_many_arguments)]
fn gradient(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    upstream: Upstream<'_>,
    k: Coefficients<'_>,
    dx: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    check_activation("dx", dx, n, shape);
    if let Some(dresidual) = &dresidual {
        check_activation("dresidual", dresidual, n, shape);
    }
    let chunks = PixelChunks::new(n, shape);
    let dx = Disjoint::new(dx);
    let dresidual = dresidual.map(Disjoint::new);
    ctx.pool().run(chunks.count(), &|chunk, worker| {
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let dx = unsafe { dx.part(span.start, span.len()) };
            // SAFETY: as above.
            let dresidual = dresidual
                .as_ref()
                .map(|d| unsafe { d.part(span.start, span.len()) });
            upstream.of_span(ctx, worker, shape, &span, |dy, y| {
                let x = &x[span.clone()];
                gradient_span(ctx.isa(), x, y, dy, k, dx, dresidual);
            });
        }
    });
}
