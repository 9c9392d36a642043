//! The rectifier, `max(x, 0)`. NaN stays NaN, as in PyTorch.

use crate::Context;
use crate::chunks::check_len;
use crate::disjoint::Disjoint;

pub(crate) const ELEMENT_CHUNK: usize = 32768;

/// `v` where it is not negative, else zero; NaN stays NaN.
#[inline(always)]
pub(crate) fn rectify(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}

/// `dy` where the rectifier let its input through, judged by its output `y`.
#[inline(always)]
pub(crate) fn mask(y: f32, dy: f32) -> f32 {
    if y <= 0.0 { 0.0 } else { dy }
}

multiversion! {
    fn forward_chunk(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = rectify(x);
        }
    }
}

multiversion! {
    fn backward_chunk(y: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = mask(y, dy);
        }
    }
}

/// `y = max(x, 0)`, element by element over slices of one length.
///
/// # Panics
///
/// When the lengths differ.
pub fn forward(ctx: &Context, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "relu: lengths differ");
    let out = Disjoint::new(y);
    ctx.for_ranges(x.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let y = unsafe { out.part(range.start, range.len()) };
        forward_chunk(ctx.isa(), &x[range], y);
    });
}

/// `dx = dy` where `y > 0`, else 0; `y` is the output of [`forward`].
///
/// # Panics
///
/// When the lengths differ.
pub fn backward(ctx: &Context, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    check_len("y", y, dx.len());
    assert_eq!(dy.len(), dx.len(), "relu: lengths differ");
    assert_eq!(y.len(), dx.len(), "relu: lengths differ");
    let out = Disjoint::new(dx);
    ctx.for_ranges(dy.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let dx = unsafe { out.part(range.start, range.len()) };
        backward_chunk(ctx.isa(), &y[range.clone()], &dy[range], dx);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn nan_and_signs_as_pytorch() {
        let ctx = Context::new(Isa::fastest(), 2).unwrap();
        let x = [-1.0, 0.0, 2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let mut y = [7.0; 6];
        forward(&ctx, &x, &mut y);
        assert_eq!(y[..3], [0.0, 0.0, 2.0]);
        assert!(y[3].is_nan());
        assert_eq!(y[4..], [f32::INFINITY, 0.0]);
        let mut dx = [7.0; 6];
        backward(&ctx, &y, &[1.0; 6], &mut dx);
        assert_eq!(dx, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }
}
