//! Global response normalisation (Woo et al., ConvNeXt V2, arXiv 2301.00808): each channel of an image is weighed by its norm
//! over all pixels, relative to the mean of the channels' norms.

use crate::chunks::{check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::per_image::{channel_sums, for_images_with_sums, image};
use crate::{ActShape, Context};

/// `f32` values of scratch that [`backward`] needs for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    n * 4 * shape.c
}

/// The 2-norm of each channel over the pixels; gives their mean plus `eps`.
#[inline(always)]
fn norms(x: &[f32], eps: f64, norms: &mut [f32]) -> f64 {
    channel_sums(x.len(), norms, |at, _| f64::from(x[at]) * f64::from(x[at]));
    for norm in norms.iter_mut() {
        *norm = norm.sqrt();
    }
    norms.iter().map(|&v| f64::from(v)).sum::<f64>() / norms.len() as f64 + eps
}

multiversion! {
    fn forward_image(x: &[f32], gamma: &[f32], beta: &[f32], eps: f64, factors: &mut [f32], y: &mut [f32]) {
        let c = gamma.len();
        let mean = norms(x, eps, factors);
        for (factor, &gamma) in factors.iter_mut().zip(gamma) {
            let relative = (f64::from(*factor) / mean) as f32;
            *factor = gamma.mul_add(relative, 1.0);
        }
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for (((y, &x), &factor), &beta) in y.iter_mut().zip(x).zip(&*factors).zip(beta) {
                *y = x.mul_add(factor, beta);
            }
        }
    }
}

multiversion! {
    /// `sums` receives this image's share of the gradients of gamma and beta, and has as much room again.
    fn backward_image(x: &[f32], dy: &[f32], gamma: &[f32], eps: f64, dx: &mut [f32], sums: &mut [f32]) {
        let c = gamma.len();
        let (of_gamma, rest) = sums.split_at_mut(c);
        let (of_beta, rest) = rest.split_at_mut(c);
        let (norms_of, slopes) = rest.split_at_mut(c);
        let mean = norms(x, eps, norms_of);
        // The sums of x dy: the gradient of what each channel is multiplied by.
        channel_sums(x.len(), slopes, |at, _| f64::from(x[at]) * f64::from(dy[at]));
        channel_sums(x.len(), of_beta, |at, _| f64::from(dy[at]));
        let mut of_mean = 0.0f64;
        for i in 0..c {
            of_mean += f64::from(slopes[i]) * f64::from(gamma[i]) * f64::from(norms_of[i]);
        }
        let of_mean = of_mean / (mean * mean * c as f64);
        for i in 0..c {
            let norm = f64::from(norms_of[i]);
            of_gamma[i] = (f64::from(slopes[i]) * norm / mean) as f32;
            let of_norm = f64::from(slopes[i]) * f64::from(gamma[i]) / mean - of_mean;
            // The norm of nothing but zeros has the slope 0, as PyTorch's.
            slopes[i] = if norm > 0.0 { (of_norm / norm) as f32 } else { 0.0 };
            norms_of[i] = gamma[i].mul_add((norm / mean) as f32, 1.0);
        }
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for i in 0..c {
                dx[i] = dy[i].mul_add(norms_of[i], x[i] * slopes[i]);
            }
        }
    }
}

/// `y = x * (1 + gamma * norm / (mean of norms + eps)) + beta` with each channel's 2-norm over the pixels of an image.
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
    ctx.pool().run(n, &|index, worker| {
        // SAFETY: images are disjoint.
        let y = unsafe { out.part(index * shape.image_stride(), shape.values()) };
        let x = image(x, shape, index);
        ctx.with_scratch(worker, shape.c, |factors| {
            forward_image(ctx.isa(), x, gamma, beta, eps, factors, y);
        });
    });
}

/// Gradient of [`forward`]; overwrites `dx`, and the first floats of `scratch` with the gradients of gamma and, behind them, of
/// beta.
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
    dx: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_len("gamma", gamma, shape.c);
    check_len("scratch", scratch, scratch_len(n, shape));
    let body = |index: usize, dx: &mut [f32], sums: &mut [f32]| {
        let (x, dy) = (image(x, shape, index), image(dy, shape, index));
        backward_image(ctx.isa(), x, dy, &gamma[..shape.c], eps, dx, sums);
    };
    for_images_with_sums(ctx, n, shape, dx, scratch, 4 * shape.c, &body);
}
