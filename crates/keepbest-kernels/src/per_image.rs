//! What kernels have in common that take an image a task: the values of an image, sums over its pixels, sums over images.

use crate::chunks::activation_len;
use crate::disjoint::Disjoint;
use crate::{ActShape, Context};

/// Channels summed side by side.
const BLOCK: usize = 64;

/// The values of one image of an activation.
pub(crate) fn image(x: &[f32], shape: ActShape, index: usize) -> &[f32] {
    &x[index * shape.image_stride()..][..shape.values()]
}

/// Runs `body(image, its part of y)` for each of `n` images of an activation of `shape`.
pub(crate) fn for_images(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    y: &mut [f32],
    body: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    assert!(y.len() >= activation_len(n, shape), "y: too short");
    let out = Disjoint::new(y);
    ctx.pool().run(n, &|index, _| {
        // SAFETY: images are disjoint.
        let y = unsafe { out.part(index * shape.image_stride(), shape.values()) };
        body(index, y);
    });
}

/// What is done with an image: its place, its part of the output, its scratch.
type WithSums<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

/// [`for_images`] with `len` floats of scratch for each image, [`merge`]d over the images into the first `len`.
pub(crate) fn for_images_with_sums(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    y: &mut [f32],
    scratch: &mut [f32],
    len: usize,
    body: &WithSums<'_>,
) {
    let partials = Disjoint::new(&mut scratch[..n * len]);
    for_images(ctx, n, shape, y, &|index, y| {
        // SAFETY: each image takes its own part.
        let sums = unsafe { partials.part(index * len, len) };
        body(index, y, sums);
    });
    merge(n, len, scratch);
}

/// Adds up the parts of `n` images, each `len` floats, in f64 and in their order, into the first part.
fn merge(n: usize, len: usize, parts: &mut [f32]) {
    for at in 0..len {
        let values = parts[..n * len].iter().skip(at).step_by(len);
        parts[at] = values.map(|&v| f64::from(v)).sum::<f64>() as f32;
    }
}

/// For each channel the sum of `term(place, channel)` over the pixels of an image of `values` floats, in f64 and in their
/// order.
#[inline(always)]
pub(crate) fn channel_sums(values: usize, out: &mut [f32], term: impl Fn(usize, usize) -> f64) {
    let c = out.len();
    for first in (0..c).step_by(BLOCK) {
        let out = &mut out[first..c.min(first + BLOCK)];
        let mut sums = [0.0f64; BLOCK];
        for pixel in (0..values).step_by(c) {
            for (lane, sum) in sums[..out.len()].iter_mut().enumerate() {
                *sum += term(pixel + first + lane, first + lane);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum as f32;
        }
    }
}
