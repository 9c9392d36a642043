//! Convolution along the channels of each pixel: efficient channel attention (Wang et al., arXiv 1910.03151).

use crate::chunks::{check_activation, check_len};
use crate::per_image::{for_images, for_images_with_sums, image};
use crate::{ActShape, Context};

/// `f32` values of scratch that [`backward`] needs for `n` images and a window of `kernel` taps.
pub fn scratch_len(n: usize, kernel: usize) -> usize {
    n * (kernel + 1)
}

/// The channel that tap `k` of the window at channel `at` reads: beyond the ends are zeros, or the other end.
#[inline(always)]
fn source(at: usize, k: usize, kernel: usize, c: usize, circular: bool) -> Option<usize> {
    let place = (at + k) as isize - (kernel / 2) as isize;
    if (0..c as isize).contains(&place) {
        Some(place as usize)
    } else {
        circular.then(|| place.rem_euclid(c as isize) as usize)
    }
}

multiversion! {
    fn forward_image(x: &[f32], c: usize, weights: &[f32], bias: f32, circular: bool, y: &mut [f32]) {
        let kernel = weights.len();
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for (at, y) in y.iter_mut().enumerate() {
                let mut sum = bias;
                for (k, &weight) in weights.iter().enumerate() {
                    if let Some(from) = source(at, k, kernel, c, circular) {
                        sum = x[from].mul_add(weight, sum);
                    }
                }
                *y = sum;
            }
        }
    }
}

multiversion! {
    /// Also gives this image's share of the gradients of the weights and, last, of the bias.
    fn backward_image(
        x: &[f32],
        dy: &[f32],
        c: usize,
        weights: &[f32],
        circular: bool,
        dx: &mut [f32],
        sums: &mut [f32],
    ) {
        let kernel = weights.len();
        dx.fill(0.0);
        for (dx, dy) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)) {
            for (at, &dy) in dy.iter().enumerate() {
                for (k, &weight) in weights.iter().enumerate() {
                    if let Some(from) = source(at, k, kernel, c, circular) {
                        dx[from] = dy.mul_add(weight, dx[from]);
                    }
                }
            }
        }
        for (k, out) in sums[..kernel].iter_mut().enumerate() {
            let mut sum = 0.0f64;
            for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                for (at, &dy) in dy.iter().enumerate() {
                    if let Some(from) = source(at, k, kernel, c, circular) {
                        sum += f64::from(x[from]) * f64::from(dy);
                    }
                }
            }
            *out = sum as f32;
        }
        sums[kernel] = dy.iter().map(|&dy| f64::from(dy)).sum::<f64>() as f32;
    }
}

/// `y[c] = sum over k of x[c + k - kernel / 2] * weights[k]`, plus `bias`, for each pixel. The window has an odd number of taps.
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
    weights: &[f32],
    bias: f32,
    circular: bool,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    for_images(ctx, n, shape, y, &|index, y| {
        let x = image(x, shape, index);
        forward_image(ctx.isa(), x, shape.c, weights, bias, circular, y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`, and the first floats of `scratch` with the gradients of the weights and, behind
/// them, of the bias.
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
    weights: &[f32],
    circular: bool,
    scratch: &mut [f32],
    dx: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_len("scratch", scratch, scratch_len(n, weights.len()));
    let body = |index: usize, dx: &mut [f32], sums: &mut [f32]| {
        let (x, dy) = (image(x, shape, index), image(dy, shape, index));
        backward_image(ctx.isa(), x, dy, shape.c, weights, circular, dx, sums);
    };
    for_images_with_sums(ctx, n, shape, dx, scratch, weights.len() + 1, &body);
}
