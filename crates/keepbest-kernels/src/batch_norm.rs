//! Batch normalisation over the images and pixels of each channel (Ioffe and Szegedy 2015).
//!
//! Training: [`statistics`], then [`apply`] with `scale = gamma / sqrt(var + eps)` and `shift = beta - mean * scale`, and
//! [`backward`]. Evaluation: [`apply`] with the running statistics, and [`backward_frozen`].

// Loops over registers, indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::{LANES, Simd, blocks};
use crate::{ActShape, Context};

/// Channels a task of the merge takes.
const MERGE: usize = 64;

/// `f32` values of scratch that [`statistics`] and [`backward`] need for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    (PixelChunks::new(n, shape).count() + 1) * 3 * shape.c
}

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

#[inline(always)]
fn apply_body<S: Simd, const RELU: bool, const RESIDUAL: bool>(
    s: S,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: &[f32],
    y: &mut [f32],
) {
    let c = scale.len();
    for at in (0..y.len()).step_by(c) {
        for (first, len) in blocks(c) {
            let mut v = s.load(x, at + first, len);
            v = s.mul_add(v, s.load(scale, first, len), s.load(shift, first, len));
            if RESIDUAL {
                v = s.add(v, s.load(residual, at + first, len));
            }
            if RELU {
                v = s.rectify(v);
            }
            s.store(v, y, at + first, len);
        }
    }
}

vectorised! {
    fn apply_span(s, x: &[f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        match (residual, relu) {
            (None, false) => apply_body::<S, false, false>(s, x, scale, shift, x, y),
            (None, true) => apply_body::<S, true, false>(s, x, scale, shift, x, y),
            (Some(r), false) => apply_body::<S, false, true>(s, x, scale, shift, r, y),
            (Some(r), true) => apply_body::<S, true, true>(s, x, scale, shift, r, y),
        }
    }
}

/// `y = x * scale + shift` per channel, plus `residual`, rectified when `relu`.
///
/// # Panics
///
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn apply(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    check_len("scale", scale, shape.c);
    check_len("shift", shift, shape.c);
    if let Some(residual) = residual {
        check_activation("residual", residual, n, shape);
    }
    let (scale, shift) = (&scale[..shape.c], &shift[..shape.c]);
    let out = Disjoint::new(y);
    let chunks = PixelChunks::new(n, shape);
    ctx.pool().run(chunks.count(), &|chunk, _| {
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let y = unsafe { out.part(span.start, span.len()) };
            let residual = residual.map(|r| &r[span.clone()]);
            apply_span(ctx.isa(), &x[span], scale, shift, residual, relu, y);
        }
    });
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
/// `y` is the output when ReLU was fused (the gradient passes where `y > 0`), `mean` and `inv_std` are those of the batch
/// (`inv_std = 1 / sqrt(var + eps)`). Writes `dgamma`, `dbeta`, `dx`, and the masked `dy` to `dresidual` when given.
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
    y: Option<&[f32]>,
    dy: &[f32],
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
        ctx, n, shape, x, y, dy, mean, inv_std, scratch, dgamma, dbeta,
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
    gradient(ctx, n, shape, x, y, dy, k, dx, dresidual);
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
    y: Option<&[f32]>,
    dy: &[f32],
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
        ctx, n, shape, x, y, dy, mean, inv_std, scratch, dgamma, dbeta,
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
    gradient(ctx, n, shape, x, y, dy, k, dx, dresidual);
}

#[allow(clippy::too_many_arguments)]
fn parameter_gradients(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    y: Option<&[f32]>,
    dy: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = shape.c;
    assert!(n > 0, "batch norm: no images");
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    if let Some(y) = y {
        check_activation("y", y, n, shape);
    }
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
    ctx.pool().run(chunks.count(), &|chunk, _| {
        // SAFETY: each task takes its own chunk's part.
        let part = unsafe { partials.part(chunk * 2 * c, 2 * c) };
        part.fill(0.0);
        let (dot, sum) = part.split_at_mut(c);
        for span in chunks.spans(chunk) {
            sums_span(
                ctx.isa(),
                &x[span.clone()],
                y.map(|y| &y[span.clone()]),
                &dy[span],
                &mean[..c],
                dot,
                sum,
            );
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

multiversion! {
    pub(crate) fn add_wide(part: &[f32], sum: &mut [f64]) {
        for (sum, &v) in sum.iter_mut().zip(part) {
            *sum += f64::from(v);
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn gradient(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    y: Option<&[f32]>,
    dy: &[f32],
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
    ctx.pool().run(chunks.count(), &|chunk, _| {
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let dx = unsafe { dx.part(span.start, span.len()) };
            // SAFETY: as above.
            let dresidual = dresidual
                .as_ref()
                .map(|d| unsafe { d.part(span.start, span.len()) });
            gradient_span(
                ctx.isa(),
                &x[span.clone()],
                y.map(|y| &y[span.clone()]),
                &dy[span],
                k,
                dx,
                dresidual,
            );
        }
    });
}
