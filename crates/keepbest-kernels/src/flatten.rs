//! Maps as vectors in PyTorch's order, `[channel][row][column]`, and back.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::{ActShape, Context};

/// The shape of a map as a vector.
pub fn flat(shape: ActShape) -> ActShape {
    ActShape::new(1, 1, shape.values())
}

/// `y` = each image of `x` as a vector, an activation of one pixel.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], y: &mut [f32]) {
    transpose(
        ctx,
        n,
        (shape.pixels(), shape.c),
        (shape, x),
        (flat(shape), y),
    );
}

/// The map of `shape` that [`forward`] made `x` of; so also its gradient. Overwrites `y`.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], y: &mut [f32]) {
    transpose(
        ctx,
        n,
        (shape.c, shape.pixels()),
        (flat(shape), x),
        (shape, y),
    );
}

/// Matrices `[rows][columns]`, one an image, transposed.
fn transpose(
    ctx: &Context,
    n: usize,
    (rows, columns): (usize, usize),
    (from_shape, from): (ActShape, &[f32]),
    (to_shape, to): (ActShape, &mut [f32]),
) {
    check_activation("from", from, n, from_shape);
    check_activation("to", to, n, to_shape);
    let out = Disjoint::new(to);
    ctx.for_ranges(n, 1, &|images| {
        for image in images {
            let from = &from[image * from_shape.image_stride()..][..rows * columns];
            // SAFETY: images are disjoint.
            let to = unsafe { out.part(image * to_shape.image_stride(), rows * columns) };
            for (row, from) in from.chunks_exact(columns).enumerate() {
                for (column, &value) in from.iter().enumerate() {
                    to[column * rows + row] = value;
                }
            }
        }
    });
}
