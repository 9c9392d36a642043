//! Activations as pairs of `bf16`, for the products of [`Element::Bf16Pair`](crate::gemm::Element).

use crate::disjoint::Disjoint;
use crate::simd::blocks;
use crate::{ActShape, Context};

/// Floats of an image a task takes.
const CHUNK: usize = 16 << 10;

/// The shape of an image whose channels are paired. `shape.c` is even.
pub(super) fn paired(shape: ActShape) -> ActShape {
    ActShape::new(shape.h, shape.w, shape.c / 2)
}

/// Images of pairs of images: the last is paired with zeros where there is an odd one.
pub(super) fn pairs_of(n: usize) -> usize {
    n.div_ceil(2)
}

/// Neighbouring channels of `n` images of `shape` as words of images of [`paired`] shape.
pub(super) fn channel_pairs(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    src: &[f32],
    words: &mut [f32],
) {
    let stride = paired(shape).image_stride();
    let chunks = shape.values().div_ceil(CHUNK);
    let out = Disjoint::new(words);
    ctx.pool().run(n * chunks, &|task, _| {
        let (image, first) = (task / chunks, task % chunks * CHUNK);
        let len = CHUNK.min(shape.values() - first);
        let from = &src[image * shape.image_stride() + first..][..len];
        // SAFETY: each task fills its own words.
        let to = unsafe { out.part(image * stride + first / 2, len / 2) };
        pair_neighbours(ctx.isa(), from, to);
    });
}

/// The same value of two images as one word, for `n` images of `shape`.
pub(super) fn image_pairs(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    src: &[f32],
    words: &mut [f32],
) {
    let stride = shape.image_stride();
    let chunks = shape.values().div_ceil(CHUNK);
    let out = Disjoint::new(words);
    ctx.pool().run(pairs_of(n) * chunks, &|task, _| {
        let (pair, first) = (task / chunks, task % chunks * CHUNK);
        let len = CHUNK.min(shape.values() - first);
        let image = |image: usize| &src[image * stride + first..][..len];
        let second = (2 * pair + 1 < n).then(|| image(2 * pair + 1));
        // SAFETY: each task fills its own words.
        let to = unsafe { out.part(pair * stride + first, len) };
        pair_images(ctx.isa(), image(2 * pair), second, to);
    });
}

vectorised! {
    fn pair_neighbours(s, from: &[f32], to: &mut [f32]) {
        for (first, count) in blocks(from.len()) {
            s.store_bf16(s.load(from, first, count), to, first / 2, count);
        }
    }
}

vectorised! {
    fn pair_images(s, low: &[f32], high: Option<&[f32]>, to: &mut [f32]) {
        for (first, count) in blocks(low.len()) {
            let mut words = s.bf16_low(s.load(low, first, count));
            if let Some(high) = high {
                words = s.bf16_high(words, s.load(high, first, count));
            }
            s.store(words, to, first, count);
        }
    }
}
