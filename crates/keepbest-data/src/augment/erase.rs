//! Random erasing (Zhong et al., arXiv 1708.04896), as torchvision's `RandomErasing` after `Normalize`.

use super::crop::Rectangle;
use crate::ImageShape;
use crate::rng::CounterRng;

/// Sets a rectangle of 2 to 33 % of the area, of aspect ratio 0.3 to 3.3, to 0: the mean of each channel. An image too small
/// for one stays.
pub(super) fn random(input: &mut [f32], shape: ImageShape, numbers: &mut CounterRng) {
    let smaller = |height, width| height < shape.height && width < shape.width;
    // torchvision's ratio is of height to width; the range is not symmetric.
    let ratio = 1.0 / 3.3..=1.0 / 0.3;
    let Some(part) = Rectangle::random(shape, 0.02..=0.33, ratio, numbers, smaller) else {
        return;
    };
    let channels = shape.channels;
    let rows = input.chunks_exact_mut(shape.width * channels);
    for row in rows.skip(part.top).take(part.height) {
        row[part.left * channels..(part.left + part.width) * channels].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn a_rectangle_of_some_share_is_erased() {
        let shape = ImageShape::new(32, 24, 3);
        for seed in 0..200 {
            let mut input = vec![1.0; shape.size()];
            random(
                &mut input,
                shape,
                &mut CounterRng::new(seed, Stream::Augment, &[]),
            );
            let erased = input.iter().filter(|x| **x == 0.0).count() as f64 / input.len() as f64;
            // Each side is off by half a pixel at most.
            assert!((0.01..0.38).contains(&erased), "{erased}");
        }
    }

    #[test]
    fn a_tiny_image_stays_or_loses_a_part() {
        for (height, width) in [(1, 1), (1, 9), (2, 2)] {
            let shape = ImageShape::new(height, width, 1);
            for seed in 0..50 {
                let mut input = vec![1.0; shape.size()];
                random(
                    &mut input,
                    shape,
                    &mut CounterRng::new(seed, Stream::Augment, &[]),
                );
                assert!(input.contains(&1.0));
            }
        }
    }
}
