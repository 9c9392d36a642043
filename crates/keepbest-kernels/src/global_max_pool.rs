//! Maximum over all pixels of each channel, `torch.nn.AdaptiveMaxPool2d(1)`.

use crate::chunks::check_activation;
use crate::per_image::{for_images, image};
use crate::{ActShape, Context};

/// Channels compared side by side.
const BLOCK: usize = 64;

/// Calls `take(first channel, largest values, their pixels)` for each block of channels of an image. The first of equals
/// wins and NaN propagates, as in PyTorch.
#[inline(always)]
fn largest(x: &[f32], c: usize, mut take: impl FnMut(usize, &[f32], &[usize])) {
    for first in (0..c).step_by(BLOCK) {
        let width = BLOCK.min(c - first);
        let (mut best, mut at) = ([f32::NEG_INFINITY; BLOCK], [0; BLOCK]);
        for (pixel, x) in x.chunks_exact(c).enumerate() {
            for (lane, &x) in x[first..first + width].iter().enumerate() {
                if x > best[lane] || x.is_nan() {
                    (best[lane], at[lane]) = (x, pixel);
                }
            }
        }
        take(first, &best[..width], &at[..width]);
    }
}

multiversion! {
    fn forward_image(x: &[f32], c: usize, y: &mut [f32]) {
        largest(x, c, |first, best, _| y[first..][..best.len()].copy_from_slice(best));
    }
}

multiversion! {
    fn backward_image(x: &[f32], dy: &[f32], c: usize, dx: &mut [f32]) {
        dx.fill(0.0);
        largest(x, c, |first, _, at| {
            for (lane, &pixel) in at.iter().enumerate() {
                dx[pixel * c + first + lane] = dy[first + lane];
            }
        });
    }
}

fn one_pixel(shape: ActShape) -> ActShape {
    ActShape::new(1, 1, shape.c)
}

/// `y[n][c]` = the largest value of the map, as an activation of shape `1 x 1 x c`.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], y: &mut [f32]) {
    check_activation("x", x, n, shape);
    for_images(ctx, n, one_pixel(shape), y, &|index, y| {
        forward_image(ctx.isa(), image(x, shape, index), shape.c, y);
    });
}

/// Gradient of [`forward`], whose input is `x`; overwrites `dx`.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, one_pixel(shape));
    for_images(ctx, n, shape, dx, &|index, dx| {
        let (x, dy) = (image(x, shape, index), image(dy, one_pixel(shape), index));
        backward_image(ctx.isa(), x, dy, shape.c, dx);
    });
}
