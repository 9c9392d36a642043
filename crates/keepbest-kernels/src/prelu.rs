//! The rectifier with a trained slope below 0 (He et al., arXiv 1502.01852), `torch.nn.PReLU`.

use crate::chunks::{check_activation, check_len};
use crate::per_image::{channel_sums, for_images, for_images_with_sums, image};
use crate::{ActShape, Context};

/// `f32` values of scratch that [`backward`] needs for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    n * shape.c
}

multiversion! {
    fn forward_image(x: &[f32], slopes: &[f32], y: &mut [f32]) {
        let c = slopes.len();
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for ((y, &x), &slope) in y.iter_mut().zip(x).zip(slopes) {
                *y = if x > 0.0 { x } else { x * slope };
            }
        }
    }
}

multiversion! {
    /// Also gives this image's share of the gradient of each channel's slope.
    fn backward_image(x: &[f32], dy: &[f32], slopes: &[f32], dx: &mut [f32], dslopes: &mut [f32]) {
        let c = slopes.len();
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for (((dx, &dy), &x), &slope) in dx.iter_mut().zip(dy).zip(x).zip(slopes) {
                *dx = if x > 0.0 { dy } else { dy * slope };
            }
        }
        channel_sums(x.len(), dslopes, |at, _| {
            let below = if x[at] > 0.0 { 0.0 } else { x[at] };
            f64::from(below) * f64::from(dy[at])
        });
    }
}

/// `y = x` above 0 and `x * slope` below, with a slope for each channel.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], slopes: &[f32], y: &mut [f32]) {
    check_activation("x", x, n, shape);
    check_len("slopes", slopes, shape.c);
    for_images(ctx, n, shape, y, &|index, y| {
        forward_image(ctx.isa(), image(x, shape, index), &slopes[..shape.c], y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`, and the first floats of `scratch` with the gradient of each channel's slope.
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
    slopes: &[f32],
    scratch: &mut [f32],
    dx: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_len("slopes", slopes, shape.c);
    check_len("scratch", scratch, scratch_len(n, shape));
    let slopes = &slopes[..shape.c];
    let body = |index: usize, dx: &mut [f32], dslopes: &mut [f32]| {
        let (x, dy) = (image(x, shape, index), image(dy, shape, index));
        backward_image(ctx.isa(), x, dy, slopes, dx, dslopes);
    };
    for_images_with_sums(ctx, n, shape, dx, scratch, shape.c, &body);
}
