//! Copies between dense images and activations, whose images are [`ActShape::image_stride`] apart.

use crate::chunks::{check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::{ActShape, Context};

/// Copies `n` dense images `[n][h][w][c]` into an activation.
///
/// # Panics
///
/// When a slice is too short.
pub fn pack_images(ctx: &Context, n: usize, shape: ActShape, images: &[f32], y: &mut [f32]) {
    check_len("images", images, n * shape.values());
    check_activation("y", y, n, shape);
    let values = shape.values();
    let out = Disjoint::new(y);
    let group = group(values);
    ctx.for_ranges(n, group, &|range| {
        for image in range {
            // SAFETY: images are disjoint.
            let y = unsafe { out.part(image * shape.image_stride(), values) };
            y.copy_from_slice(&images[image * values..(image + 1) * values]);
        }
    });
}

/// Copies an activation of `n` images into dense images `[n][h][w][c]`.
///
/// # Panics
///
/// When a slice is too short.
pub fn unpack_images(ctx: &Context, n: usize, shape: ActShape, x: &[f32], images: &mut [f32]) {
    check_activation("x", x, n, shape);
    check_len("images", images, n * shape.values());
    let values = shape.values();
    let out = Disjoint::new(images);
    ctx.for_ranges(n, group(values), &|range| {
        for image in range {
            // SAFETY: images are disjoint.
            let images = unsafe { out.part(image * values, values) };
            images.copy_from_slice(&x[image * shape.image_stride()..][..values]);
        }
    });
}

fn group(values: usize) -> usize {
    (32768 / values.max(1)).max(1)
}
