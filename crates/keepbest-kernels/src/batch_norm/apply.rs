//! The affine map of each channel.

use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::{Simd, blocks};
use crate::{ActShape, Context};

#[inline(always)]
fn apply_body<S: Simd, const RELU: bool, const RESIDUAL: bool>(
    s: S,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: &[f32],
    y: &mut [f32],
) {
    let c = scale.len();
    for at in (0..y.len()).step_by(c) {
        for (first, len) in blocks(c) {
            let mut v = s.load(x, at + first, len);
            v = s.mul_add(v, s.load(scale, first, len), s.load(shift, first, len));
            if RESIDUAL {
                v = s.add(v, s.load(residual, at + first, len));
            }
            if RELU {
                v = s.rectify(v);
            }
            s.store(v, y, at + first, len);
        }
    }
}

vectorised! {
    fn apply_span(s, x: &[f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        match (residual, relu) {
            (None, false) => apply_body::<S, false, false>(s, x, scale, shift, x, y),
            (None, true) => apply_body::<S, true, false>(s, x, scale, shift, x, y),
            (Some(r), false) => apply_body::<S, false, true>(s, x, scale, shift, r, y),
            (Some(r), true) => apply_body::<S, true, true>(s, x, scale, shift, r, y),
        }
    }
}

/// `y = x * scale + shift` per channel, plus `residual`, rectified when `relu`.
///
/// # Panics
///
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn apply(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    check_len("scale", scale, shape.c);
    check_len("shift", shift, shape.c);
    if let Some(residual) = residual {
        check_activation("residual", residual, n, shape);
    }
    let (scale, shift) = (&scale[..shape.c], &shift[..shape.c]);
    let out = Disjoint::new(y);
    let chunks = PixelChunks::new(n, shape);
    ctx.pool().run(chunks.count(), &|chunk, _| {
        for span in chunks.spans(chunk) {
            // SAFETY: spans are disjoint.
            let y = unsafe { out.part(span.start, span.len()) };
            let residual = residual.map(|r| &r[span.clone()]);
            apply_span(ctx.isa(), &x[span], scale, shift, residual, relu, y);
        }
    });
}
