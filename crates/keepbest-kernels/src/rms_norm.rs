//! Division of each pixel's channels by their root mean square (Zhang and Sennrich, arXiv 1910.07467): `torch.nn.RMSNorm` on
//! channels-last maps.

use crate::chunks::{check_activation, check_len};
use crate::per_image::{for_images, for_images_with_sums, image};
use crate::{ActShape, Context};

/// `f32` values of scratch that [`backward`] needs for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    n * shape.c
}

/// `1 / sqrt(mean of squares + eps)` of a pixel.
#[inline(always)]
fn inverse_root(x: &[f32], eps: f64) -> f32 {
    let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (1.0 / (squares / x.len() as f64 + eps).sqrt()) as f32
}

multiversion! {
    fn forward_image(x: &[f32], gamma: &[f32], eps: f64, y: &mut [f32]) {
        let c = gamma.len();
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            let inverse = inverse_root(x, eps);
            for ((y, &x), &gamma) in y.iter_mut().zip(x).zip(gamma) {
                *y = x * inverse * gamma;
            }
        }
    }
}

multiversion! {
    /// Also gives this image's share of the gradient of gamma.
    fn backward_image(x: &[f32], dy: &[f32], gamma: &[f32], eps: f64, dx: &mut [f32], dgamma: &mut [f32]) {
        let c = gamma.len();
        dgamma.fill(0.0);
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            let inverse = inverse_root(x, eps);
            let mut sum = 0.0f64;
            for ((&x, &dy), &gamma) in x.iter().zip(dy).zip(gamma) {
                sum += f64::from(x * inverse) * f64::from(dy * gamma);
            }
            let mean = (sum / c as f64) as f32;
            for i in 0..c {
                let normal = x[i] * inverse;
                dx[i] = inverse * normal.mul_add(-mean, dy[i] * gamma[i]);
                dgamma[i] = dy[i].mul_add(normal, dgamma[i]);
            }
        }
    }
}

/// `y = x / sqrt(mean of squares + eps) * gamma` with the mean over the channels of each pixel.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    gamma: &[f32],
    eps: f64,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_len("gamma", gamma, shape.c);
    for_images(ctx, n, shape, y, &|index, y| {
        let x = image(x, shape, index);
        forward_image(ctx.isa(), x, &gamma[..shape.c], eps, y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`, and the first floats of `scratch` with the gradient of gamma.
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
    let body = |index: usize, dx: &mut [f32], dgamma: &mut [f32]| {
        let (x, dy) = (image(x, shape, index), image(dy, shape, index));
        backward_image(ctx.isa(), x, dy, &gamma[..shape.c], eps, dx, dgamma);
    };
    for_images_with_sums(ctx, n, shape, dx, scratch, shape.c, &body);
}
