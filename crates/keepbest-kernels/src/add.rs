//! Element-wise sums: residual connections and accumulated gradients.

use crate::Context;
use crate::disjoint::Disjoint;
use crate::relu::{ELEMENT_CHUNK, rectify};

multiversion! {
    fn add_chunk(a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
        if relu {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = rectify(a + b);
            }
        } else {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = a + b;
            }
        }
    }
}

multiversion! {
    fn accumulate_chunk(dst: &mut [f32], src: &[f32]) {
        for (dst, &src) in dst.iter_mut().zip(src) {
            *dst += src;
        }
    }
}

/// `y = a + b`, rectified when `relu`; all of one length. The gradient is [`relu::backward`](crate::relu::backward) to both.
///
/// # Panics
///
/// When the lengths differ.
pub fn forward(ctx: &Context, a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    assert!(
        a.len() == y.len() && b.len() == y.len(),
        "add: lengths differ"
    );
    let out = Disjoint::new(y);
    ctx.for_ranges(a.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let y = unsafe { out.part(range.start, range.len()) };
        add_chunk(ctx.isa(), &a[range.clone()], &b[range], relu, y);
    });
}

/// `dst += src`, both of one length.
///
/// # Panics
///
/// When the lengths differ.
pub fn accumulate(ctx: &Context, dst: &mut [f32], src: &[f32]) {
    assert_eq!(dst.len(), src.len(), "accumulate: lengths differ");
    let out = Disjoint::new(dst);
    ctx.for_ranges(src.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let dst = unsafe { out.part(range.start, range.len()) };
        accumulate_chunk(ctx.isa(), dst, &src[range]);
    });
}
