//! One number a pixel from its channels: their mean or maximum, as the spatial gate of CBAM has both (Woo et al., arXiv
//! 1807.06521).

use crate::chunks::check_activation;
use crate::per_image::{for_images, image};
use crate::{ActShape, Context};

/// What is made of the channels of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelPool {
    /// Their mean.
    Mean,
    /// The largest; the first of equals has the gradient, and NaN propagates.
    Max,
}

#[inline(always)]
fn largest(x: &[f32]) -> usize {
    let mut at = 0;
    for (channel, &v) in x.iter().enumerate() {
        if v > x[at] || v.is_nan() {
            at = channel;
        }
    }
    at
}

multiversion! {
    fn forward_image(pool: ChannelPool, x: &[f32], c: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(c).zip(y) {
            *y = match pool {
                ChannelPool::Mean => (x.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64) as f32,
                ChannelPool::Max => x[largest(x)],
            };
        }
    }
}

multiversion! {
    fn backward_image(pool: ChannelPool, x: &[f32], dy: &[f32], c: usize, dx: &mut [f32]) {
        for (pixel, (&dy, dx)) in dy.iter().zip(dx.chunks_exact_mut(c)).enumerate() {
            match pool {
                ChannelPool::Mean => dx.fill(dy / c as f32),
                ChannelPool::Max => {
                    dx.fill(0.0);
                    dx[largest(&x[pixel * c..][..c])] = dy;
                }
            }
        }
    }
}

/// Shape of the output: one channel.
pub fn output(shape: ActShape) -> ActShape {
    ActShape::new(shape.h, shape.w, 1)
}

/// Mean or maximum over the channels of each pixel.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    pool: ChannelPool,
    x: &[f32],
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    for_images(ctx, n, output(shape), y, &|index, y| {
        forward_image(ctx.isa(), pool, image(x, shape, index), shape.c, y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`. `x` is only read for a maximum.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    pool: ChannelPool,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    if pool == ChannelPool::Max {
        check_activation("x", x, n, shape);
    }
    check_activation("dy", dy, n, output(shape));
    for_images(ctx, n, shape, dx, &|index, dx| {
        let x = match pool {
            ChannelPool::Max => image(x, shape, index),
            ChannelPool::Mean => &[],
        };
        let dy = image(dy, output(shape), index);
        backward_image(ctx.isa(), pool, x, dy, shape.c, dx);
    });
}
