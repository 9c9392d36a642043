//! Batch normalisation over the images and pixels of each channel (Ioffe and Szegedy 2015).
//!
//! Training: [`statistics`], then [`apply`] with `scale = gamma / sqrt(var + eps)` and `shift = beta - mean * scale`, and
//! [`backward`]. Evaluation: [`apply`] with the running statistics, and [`backward_frozen`].

use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::relu::{mask, rectify};
use crate::{ActShape, Context};

/// Channels a register block holds: two AVX-512 vectors.
const BLOCK: usize = 32;
/// Channels a task of the merge takes.
const MERGE: usize = 64;

/// `f32` values of scratch that [`statistics`] and [`backward`] need for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    (PixelChunks::new(n, shape).count() + 1) * 3 * shape.c
}

/// Adds to `sum` the values of each channel over the pixels in `x`.
#[inline(always)]
fn sum_body(x: &[f32], sum: &mut [f32]) {
    let c = sum.len();
    let mut first = 0;
    while first + BLOCK <= c {
        let mut acc = [0.0f32; BLOCK];
        acc.copy_from_slice(&sum[first..first + BLOCK]);
        for pixel in x.chunks_exact(c) {
            let pixel: &[f32; BLOCK] = pixel[first..].first_chunk().expect("a block of channels");
            for (acc, &v) in acc.iter_mut().zip(pixel) {
                *acc += v;
            }
        }
        sum[first..first + BLOCK].copy_from_slice(&acc);
        first += BLOCK;
    }
    if first < c {
        for pixel in x.chunks_exact(c) {
            for (acc, &v) in sum[first..].iter_mut().zip(&pixel[first..]) {
                *acc += v;
            }
        }
    }
}

multiversion! {
    pub(crate) fn sum_span(x: &[f32], sum: &mut [f32]) {
        sum_body(x, sum);
    }
}

multiversion! {
    /// Adds deviations from `mean` and their squares.
    fn deviations_span(x: &[f32], mean: &[f32], sum: &mut [f32], squares: &mut [f32]) {
        let c = mean.len();
        let mut first = 0;
        while first + BLOCK <= c {
            let mut s = [0.0f32; BLOCK];
            let mut q = [0.0f32; BLOCK];
            let mut m = [0.0f32; BLOCK];
            s.copy_from_slice(&sum[first..first + BLOCK]);
            q.copy_from_slice(&squares[first..first + BLOCK]);
            m.copy_from_slice(&mean[first..first + BLOCK]);
            for pixel in x.chunks_exact(c) {
                let pixel: &[f32; BLOCK] = pixel[first..].first_chunk().expect("a block of channels");
                for lane in 0..BLOCK {
                    let d = pixel[lane] - m[lane];
                    s[lane] += d;
                    q[lane] = d.mul_add(d, q[lane]);
                }
            }
            sum[first..first + BLOCK].copy_from_slice(&s);
            squares[first..first + BLOCK].copy_from_slice(&q);
            first += BLOCK;
        }
        if first < c {
            for pixel in x.chunks_exact(c) {
                let parts = pixel[first..].iter().zip(&mean[first..]).zip(&mut sum[first..]).zip(&mut squares[first..]);
                for (((&v, &m), s), q) in parts {
                    let d = v - m;
                    *s += d;
                    *q = d.mul_add(d, *q);
                }
            }
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
fn apply_body<const RELU: bool, const RESIDUAL: bool>(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: &[f32],
    y: &mut [f32],
) {
    let c = scale.len();
    let (scales, _) = scale.as_chunks::<16>();
    let (shifts, _) = shift.as_chunks::<16>();
    let whole = scales.len() * 16;
    for (index, (x, y)) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).enumerate() {
        let residual = if RESIDUAL {
            &residual[index * c..(index + 1) * c]
        } else {
            x
        };
        let (xs, _) = x.as_chunks::<16>();
        let (rs, _) = residual.as_chunks::<16>();
        let (ys, _) = y.as_chunks_mut::<16>();
        for ((((x, y), r), scale), shift) in xs.iter().zip(ys).zip(rs).zip(scales).zip(shifts) {
            for lane in 0..16 {
                let mut v = x[lane].mul_add(scale[lane], shift[lane]);
                if RESIDUAL {
                    v += r[lane];
                }
                y[lane] = if RELU { rectify(v) } else { v };
            }
        }
        for lane in whole..c {
            let mut v = x[lane].mul_add(scale[lane], shift[lane]);
            if RESIDUAL {
                v += residual[lane];
            }
            y[lane] = if RELU { rectify(v) } else { v };
        }
    }
}

multiversion! {
    fn apply_span(x: &[f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        match (residual, relu) {
            (None, false) => apply_body::<false, false>(x, scale, shift, x, y),
            (None, true) => apply_body::<true, false>(x, scale, shift, x, y),
            (Some(r), false) => apply_body::<false, true>(x, scale, shift, r, y),
            (Some(r), true) => apply_body::<true, true>(x, scale, shift, r, y),
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

#[inline(always)]
fn sums_body<const RELU: bool>(
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    mean: &[f32],
    dot: &mut [f32],
    sum: &mut [f32],
) {
    let c = mean.len();
    let mut first = 0;
    while first + BLOCK <= c {
        let mut s = [0.0f32; BLOCK];
        let mut d = [0.0f32; BLOCK];
        let mut m = [0.0f32; BLOCK];
        s.copy_from_slice(&sum[first..first + BLOCK]);
        d.copy_from_slice(&dot[first..first + BLOCK]);
        m.copy_from_slice(&mean[first..first + BLOCK]);
        for ((x, y), dy) in x
            .chunks_exact(c)
            .zip(y.chunks_exact(c))
            .zip(dy.chunks_exact(c))
        {
            let x: &[f32; BLOCK] = x[first..].first_chunk().expect("a block of channels");
            let y: &[f32; BLOCK] = y[first..].first_chunk().expect("a block of channels");
            let dy: &[f32; BLOCK] = dy[first..].first_chunk().expect("a block of channels");
            for lane in 0..BLOCK {
                let g = if RELU {
                    mask(y[lane], dy[lane])
                } else {
                    dy[lane]
                };
                s[lane] += g;
                d[lane] = g.mul_add(x[lane] - m[lane], d[lane]);
            }
        }
        sum[first..first + BLOCK].copy_from_slice(&s);
        dot[first..first + BLOCK].copy_from_slice(&d);
        first += BLOCK;
    }
    if first < c {
        for ((x, y), dy) in x
            .chunks_exact(c)
            .zip(y.chunks_exact(c))
            .zip(dy.chunks_exact(c))
        {
            for lane in first..c {
                let g = if RELU {
                    mask(y[lane], dy[lane])
                } else {
                    dy[lane]
                };
                sum[lane] += g;
                dot[lane] = g.mul_add(x[lane] - mean[lane], dot[lane]);
            }
        }
    }
}

multiversion! {
    /// Adds per channel the masked gradients, and their products with the deviations from the mean.
    fn sums_span(x: &[f32], y: Option<&[f32]>, dy: &[f32], mean: &[f32], dot: &mut [f32], sum: &mut [f32]) {
        match y {
            Some(y) => sums_body::<true>(x, y, dy, mean, dot, sum),
            None => sums_body::<false>(x, x, dy, mean, dot, sum),
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
fn gradient_body<const RELU: bool, const RESIDUAL: bool>(
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    k: Coefficients<'_>,
    dx: &mut [f32],
    dresidual: &mut [f32],
) {
    let c = k.mean.len();
    let pixels = dx.len() / c;
    for pixel in 0..pixels {
        let at = pixel * c;
        let (x, y, dy, dx) = (
            &x[at..at + c],
            &y[at..at + c],
            &dy[at..at + c],
            &mut dx[at..at + c],
        );
        let dresidual: &mut [f32] = if RESIDUAL {
            &mut dresidual[at..at + c]
        } else {
            &mut []
        };
        let mut first = 0;
        while first + 16 <= c {
            let x: &[f32; 16] = x[first..].first_chunk().expect("a block");
            let y: &[f32; 16] = y[first..].first_chunk().expect("a block");
            let dy: &[f32; 16] = dy[first..].first_chunk().expect("a block");
            let m: &[f32; 16] = k.mean[first..].first_chunk().expect("a block");
            let of_dy: &[f32; 16] = k.of_dy[first..].first_chunk().expect("a block");
            let of_x: &[f32; 16] = k.of_x[first..].first_chunk().expect("a block");
            let constant: &[f32; 16] = k.constant[first..].first_chunk().expect("a block");
            let dx: &mut [f32; 16] = dx[first..].first_chunk_mut().expect("a block");
            let mut g = [0.0f32; 16];
            for lane in 0..16 {
                g[lane] = if RELU {
                    mask(y[lane], dy[lane])
                } else {
                    dy[lane]
                };
                dx[lane] = g[lane].mul_add(
                    of_dy[lane],
                    (x[lane] - m[lane]).mul_add(of_x[lane], constant[lane]),
                );
            }
            if RESIDUAL {
                dresidual[first..first + 16].copy_from_slice(&g);
            }
            first += 16;
        }
        for lane in first..c {
            let g = if RELU {
                mask(y[lane], dy[lane])
            } else {
                dy[lane]
            };
            dx[lane] = g.mul_add(
                k.of_dy[lane],
                (x[lane] - k.mean[lane]).mul_add(k.of_x[lane], k.constant[lane]),
            );
            if RESIDUAL {
                dresidual[lane] = g;
            }
        }
    }
}

multiversion! {
    fn gradient_span(
        x: &[f32],
        y: Option<&[f32]>,
        dy: &[f32],
        k: Coefficients<'_>,
        dx: &mut [f32],
        dresidual: Option<&mut [f32]>,
    ) {
        match (y, dresidual) {
            (None, None) => gradient_body::<false, false>(x, x, dy, k, dx, &mut []),
            (Some(y), None) => gradient_body::<true, false>(x, y, dy, k, dx, &mut []),
            (None, Some(dr)) => gradient_body::<false, true>(x, x, dy, k, dx, dr),
            (Some(y), Some(dr)) => gradient_body::<true, true>(x, y, dy, k, dx, dr),
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
