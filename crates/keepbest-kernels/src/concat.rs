//! Maps side by side: the channels of one after those of another, and apart again.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::{ActShape, Context};

/// Copies channels of each pixel from one map to another of the same size, all of the narrower one's.
fn copy(
    ctx: &Context,
    n: usize,
    (from_shape, from_first, from): (ActShape, usize, &[f32]),
    (to_shape, to_first, to): (ActShape, usize, &mut [f32]),
) {
    let width = from_shape.c.min(to_shape.c);
    assert!(
        (from_shape.h, from_shape.w) == (to_shape.h, to_shape.w)
            && from_first + width <= from_shape.c
            && to_first + width <= to_shape.c,
        "concat: {from_shape:?} does not fit {to_shape:?}"
    );
    check_activation("from", from, n, from_shape);
    check_activation("to", to, n, to_shape);
    let out = Disjoint::new(to);
    run_rows(ctx, n, to_shape.h, to_shape.w * width, &|image, y| {
        let row = |shape: ActShape| image * shape.image_stride() + y * shape.w * shape.c;
        for x in 0..to_shape.w {
            let from = &from[row(from_shape) + x * from_shape.c + from_first..][..width];
            // SAFETY: pixels are disjoint.
            let to = unsafe { out.part(row(to_shape) + x * to_shape.c + to_first, width) };
            to.copy_from_slice(from);
        }
    });
}

/// `y` = the channels of `a`, then those of `b`. The shapes' sizes are equal.
///
/// # Panics
///
/// When a slice is too short or the sizes differ.
pub fn forward(
    ctx: &Context,
    n: usize,
    (a_shape, a): (ActShape, &[f32]),
    (b_shape, b): (ActShape, &[f32]),
    y: &mut [f32],
) {
    let shape = joined(a_shape, b_shape);
    copy(ctx, n, (a_shape, 0, a), (shape, 0, y));
    copy(ctx, n, (b_shape, 0, b), (shape, a_shape.c, y));
}

/// Gradient of [`forward`] for the map whose channels start at `first` in `dy` (of `dy_shape`); overwrites `dx`.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    ctx: &Context,
    n: usize,
    (dy_shape, dy): (ActShape, &[f32]),
    first: usize,
    (shape, dx): (ActShape, &mut [f32]),
) {
    copy(ctx, n, (dy_shape, first, dy), (shape, 0, dx));
}

/// Shape of [`forward`]'s output.
pub fn joined(a: ActShape, b: ActShape) -> ActShape {
    ActShape::new(a.h, a.w, a.c + b.c)
}
