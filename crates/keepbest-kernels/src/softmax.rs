//! Softmax over the channels of each pixel, and its logarithm: `torch.nn.Softmax2d`, `torch.nn.LogSoftmax`.

use crate::chunks::check_activation;
use crate::per_image::{for_images, image};
use crate::pointwise::exp_unbounded as exp;
use crate::{ActShape, Context};

multiversion! {
    fn forward_image(x: &[f32], c: usize, log: bool, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            // NaN passes through the differences.
            let largest = x.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            for (y, &x) in y.iter_mut().zip(x) {
                *y = exp(x - largest);
            }
            let sum: f64 = y.iter().map(|&v| f64::from(v)).sum();
            if log {
                let shift = (f64::from(largest) + libm::log(sum)) as f32;
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x - shift;
                }
            } else {
                let share = (1.0 / sum) as f32;
                for y in y {
                    *y *= share;
                }
            }
        }
    }
}

multiversion! {
    fn backward_image(y: &[f32], dy: &[f32], c: usize, log: bool, dx: &mut [f32]) {
        for ((y, dy), dx) in y.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            if log {
                let sum = dy.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = exp(y).mul_add(-sum, dy);
                }
            } else {
                let terms = y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy));
                let sum = terms.sum::<f64>() as f32;
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = y * (dy - sum);
                }
            }
        }
    }
}

/// `y = e^x / sum of e^x` over the channels of each pixel, or its logarithm.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(ctx: &Context, n: usize, shape: ActShape, log: bool, x: &[f32], y: &mut [f32]) {
    check_activation("x", x, n, shape);
    for_images(ctx, n, shape, y, &|index, y| {
        forward_image(ctx.isa(), image(x, shape, index), shape.c, log, y);
    });
}

/// Gradient of [`forward`], whose output is `y`; overwrites `dx`.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    log: bool,
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    check_activation("y", y, n, shape);
    check_activation("dy", dy, n, shape);
    for_images(ctx, n, shape, dx, &|index, dx| {
        let (y, dy) = (image(y, shape, index), image(dy, shape, index));
        backward_image(ctx.isa(), y, dy, shape.c, log, dx);
    });
}
