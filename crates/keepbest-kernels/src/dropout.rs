//! Dropout whose mask is a pure function of a key, the image's place in the batch, and the element: nothing is stored.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::{ActShape, Context, random};

/// Two 32-bit keys of one image.
fn image_keys(key: u64, image: usize) -> (u32, u32) {
    let z = random::bits(key, image as u64);
    (z as u32, (z >> 32) as u32)
}

/// A 32-bit mixer of low bias (C. Wellons, "lowbias32").
#[inline(always)]
fn mix(mut v: u32) -> u32 {
    v ^= v >> 16;
    v = v.wrapping_mul(0x7FEB_352D);
    v ^= v >> 15;
    v = v.wrapping_mul(0x846C_A68B);
    v ^ (v >> 16)
}

multiversion! {
    fn apply_part(first: u32, low: u32, high: u32, threshold: u32, scale: f32, x: &[f32], y: &mut [f32]) {
        let mut element = first;
        for (y, &x) in y.iter_mut().zip(x) {
            let random = mix(mix(element.wrapping_add(low)) ^ high) >> 8;
            *y = if random >= threshold { x * scale } else { 0.0 };
            element = element.wrapping_add(1);
        }
    }
}

/// Zeroes each value with probability `p` and multiplies the others by `1 / (1 - p)` (PyTorch's inverted dropout).
///
/// The mask depends on `key`, the image's index in the batch and the element in `[h][w][c]` order; it is not PyTorch's mask.
///
/// # Panics
///
/// When a slice is too short, or `p` is not within `0..=1`.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    p: f64,
    key: u64,
    x: &[f32],
    y: &mut [f32],
) {
    let (threshold, scale) = threshold_and_scale(p);
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    let values = shape.values();
    const PART: usize = 16384;
    let parts = values.div_ceil(PART).max(1);
    let images = if parts == 1 {
        (PART / values.max(1)).max(1)
    } else {
        1
    };
    let out = Disjoint::new(y);
    ctx.pool().run(n.div_ceil(images) * parts, &|task, _| {
        let (group, part) = (task / parts, task % parts);
        for image in group * images..n.min((group + 1) * images) {
            let first = part * PART;
            let len = PART.min(values - first);
            let start = image * shape.image_stride() + first;
            let (low, high) = image_keys(key, image);
            // SAFETY: parts of images are disjoint.
            let y = unsafe { out.part(start, len) };
            apply_part(
                ctx.isa(),
                first as u32,
                low,
                high,
                threshold,
                scale,
                &x[start..start + len],
                y,
            );
        }
    });
}

/// Random numbers below the first become zero, others multiply by the second.
fn threshold_and_scale(p: f64) -> (u32, f32) {
    assert!(
        (0.0..=1.0).contains(&p),
        "dropout probability {p} is not within 0..=1"
    );
    // 24 random bits, as many as a float's significand.
    let threshold = (p * f64::from(1 << 24)).round() as u32;
    let scale = if p < 1.0 {
        (1.0 / (1.0 - p)) as f32
    } else {
        0.0
    };
    (threshold, scale)
}

/// Stochastic depth (Huang et al., arXiv 1603.09382; torchvision's `StochasticDepth(p, "row")`): zeroes a whole image with
/// probability `p` and multiplies the others by `1 / (1 - p)`. The gradient is the same on `dy`.
///
/// # Panics
///
/// As [`forward`].
pub fn whole_images(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    p: f64,
    key: u64,
    x: &[f32],
    y: &mut [f32],
) {
    let (threshold, scale) = threshold_and_scale(p);
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    let out = Disjoint::new(y);
    ctx.pool().run(n, &|image, _| {
        let (low, high) = image_keys(key, image);
        let kept = mix(mix(low) ^ high) >> 8 >= threshold;
        let start = image * shape.image_stride();
        // SAFETY: images are disjoint.
        let y = unsafe { out.part(start, shape.values()) };
        for (y, &x) in y.iter_mut().zip(&x[start..]) {
            *y = if kept { x * scale } else { 0.0 };
        }
    });
}

/// The gradient of [`forward`] with the same `p` and `key`: the same mask and factor on `dy`.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    p: f64,
    key: u64,
    dy: &[f32],
    dx: &mut [f32],
) {
    forward(ctx, n, shape, p, key, dy, dx);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn keeps_the_right_share_independently() {
        let shape = ActShape::new(13, 11, 7);
        let n = 40;
        let ctx = Context::new(Isa::fastest(), 2).unwrap();
        let x = vec![1.0; shape.len(n)];
        for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let mut y = vec![0.0; shape.len(n)];
            forward(&ctx, n, shape, p, 42, &x, &mut y);
            let values = (0..n).flat_map(|i| {
                y[i * shape.image_stride()..][..shape.values()]
                    .iter()
                    .copied()
            });
            let kept = values.clone().filter(|&v| v != 0.0).count() as f64;
            let total = (n * shape.values()) as f64;
            assert!(
                (kept / total - (1.0 - p)).abs() < 4.0 * (p * (1.0 - p) / total).sqrt() + 1e-12,
                "p {p} kept {kept}"
            );
            // Neighbours agree as often as independent draws do.
            let same = values
                .clone()
                .zip(values.skip(1))
                .filter(|(a, b)| (*a == 0.0) == (*b == 0.0))
                .count() as f64;
            let expected = p * p + (1.0 - p) * (1.0 - p);
            assert!(
                (same / total - expected).abs() < 0.02,
                "p {p}: {same} of {total}"
            );
        }
    }
}
