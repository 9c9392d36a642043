//! Local response normalisation (Krizhevsky, Sutskever and Hinton 2012), `torch.nn.LocalResponseNorm`: each value is divided by
//! a power of the mean square of the channels around it.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::per_image::{for_images, image};
use crate::{ActShape, Context};
use std::ops::Range;

/// The numbers of a local response norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResponseNorm {
    /// Channels of a window: half of them before the channel, and half of one less behind it.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f32,
    /// The power.
    pub beta: f32,
    /// What is added to the mean square.
    pub k: f32,
}

impl ResponseNorm {
    /// The channels of the window around `channel`.
    #[inline(always)]
    fn window(&self, channel: usize, c: usize) -> Range<usize> {
        let last = channel + (self.size - 1) / 2;
        channel.saturating_sub(self.size / 2)..c.min(last + 1)
    }

    /// The channels whose windows hold `channel`.
    #[inline(always)]
    fn windows_with(&self, channel: usize, c: usize) -> Range<usize> {
        let last = channel + self.size / 2;
        channel.saturating_sub((self.size - 1) / 2)..c.min(last + 1)
    }

    /// `k + alpha * mean square` around a channel; channels that are not there count as zeros.
    #[inline(always)]
    fn base(&self, x: &[f32], channel: usize) -> f32 {
        let mut sum = 0.0;
        for &v in &x[self.window(channel, x.len())] {
            sum = v.mul_add(v, sum);
        }
        (self.alpha / self.size as f32).mul_add(sum, self.k)
    }

    /// `base` to the power of `-beta`.
    #[inline(always)]
    fn power(&self, base: f32) -> f32 {
        // The usual power, by exact roots.
        if self.beta == 0.75 {
            let root = base.sqrt();
            1.0 / (root * root.sqrt())
        } else {
            libm::powf(base, -self.beta)
        }
    }
}

multiversion! {
    fn forward_image(norm: ResponseNorm, x: &[f32], c: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for (channel, y) in y.iter_mut().enumerate() {
                *y = x[channel] * norm.power(norm.base(x, channel));
            }
        }
    }
}

multiversion! {
    /// `terms` has room for one pixel.
    fn backward_image(norm: ResponseNorm, x: &[f32], dy: &[f32], c: usize, terms: &mut [f32], dx: &mut [f32]) {
        let factor = 2.0 * norm.alpha * norm.beta / norm.size as f32;
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for channel in 0..c {
                let base = norm.base(x, channel);
                let power = norm.power(base);
                dx[channel] = dy[channel] * power;
                terms[channel] = dx[channel] * x[channel] / base;
            }
            for channel in 0..c {
                let mut sum = 0.0;
                for term in &terms[norm.windows_with(channel, c)] {
                    sum += term;
                }
                dx[channel] = (factor * x[channel]).mul_add(-sum, dx[channel]);
            }
        }
    }
}

/// `y = x / (k + alpha * mean square of the window)^beta` over the channels of each pixel.
///
/// # Panics
///
/// When a slice is too short or `size` is 0.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    norm: ResponseNorm,
    x: &[f32],
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    for_images(ctx, n, shape, y, &|index, y| {
        forward_image(ctx.isa(), norm, image(x, shape, index), shape.c, y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    norm: ResponseNorm,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_activation("dx", dx, n, shape);
    let out = Disjoint::new(dx);
    ctx.pool().run(n, &|index, worker| {
        // SAFETY: images are disjoint.
        let dx = unsafe { out.part(index * shape.image_stride(), shape.values()) };
        let (x, dy) = (image(x, shape, index), image(dy, shape, index));
        ctx.with_scratch(worker, shape.c, |terms| {
            backward_image(ctx.isa(), norm, x, dy, shape.c, terms, dx);
        });
    });
}
