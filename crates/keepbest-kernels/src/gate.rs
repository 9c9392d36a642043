//! A map times one factor for each image and channel: squeeze-and-excitation (Hu et al., arXiv 1709.01507).

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::{ActShape, Context};

/// Channels a task takes.
const BLOCK: usize = 64;

multiversion! {
    fn forward_image(x: &[f32], factors: &[f32], y: &mut [f32]) {
        let c = factors.len();
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for ((y, &x), &factor) in y.iter_mut().zip(x).zip(factors) {
                *y = x * factor;
            }
        }
    }
}

multiversion! {
    /// Adds `dy * x` over the pixels of an image, for channels from `first` on.
    fn factor_gradient(x: &[f32], dy: &[f32], c: usize, first: usize, out: &mut [f32]) {
        let width = out.len();
        let mut sums = [0.0f64; BLOCK];
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            let (x, dy) = (&x[first..first + width], &dy[first..first + width]);
            for ((sum, &x), &dy) in sums[..width].iter_mut().zip(x).zip(dy) {
                *sum += f64::from(x) * f64::from(dy);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum as f32;
        }
    }
}

fn one_pixel(shape: ActShape) -> ActShape {
    ActShape::new(1, 1, shape.c)
}

/// `y[n][pixel][c] = x[n][pixel][c] * factors[n][c]`; `factors` is an activation of one pixel.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    factors: &[f32],
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("factors", factors, n, one_pixel(shape));
    check_activation("y", y, n, shape);
    let out = Disjoint::new(y);
    ctx.pool().run(n, &|image, _| {
        let start = image * shape.image_stride();
        // SAFETY: images are disjoint.
        let y = unsafe { out.part(start, shape.values()) };
        let factors = &factors[image * one_pixel(shape).image_stride()..][..shape.c];
        forward_image(ctx.isa(), &x[start..][..shape.values()], factors, y);
    });
}

/// The gradient of `x` of [`forward`] is [`forward`] of `dy`; this is the gradient of its factors:
/// `dfactors[n][c]` = sum over pixels of `x * dy`.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward_factors(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    dy: &[f32],
    dfactors: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_activation("dfactors", dfactors, n, one_pixel(shape));
    let blocks = shape.c.div_ceil(BLOCK);
    let out = Disjoint::new(dfactors);
    ctx.pool().run(n * blocks, &|task, _| {
        let (image, first) = (task / blocks, task % blocks * BLOCK);
        let start = image * shape.image_stride();
        let (x, dy) = (
            &x[start..][..shape.values()],
            &dy[start..][..shape.values()],
        );
        let place = image * one_pixel(shape).image_stride() + first;
        // SAFETY: images and blocks of channels are disjoint.
        let out = unsafe { out.part(place, BLOCK.min(shape.c - first)) };
        factor_gradient(ctx.isa(), x, dy, shape.c, first, out);
    });
}
