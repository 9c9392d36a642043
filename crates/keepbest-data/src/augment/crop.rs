//! Random resized crop (Szegedy et al., arXiv 1409.4842), as torchvision's `RandomResizedCrop`.

use std::ops::RangeInclusive;

use crate::resize::resize_bilinear;
use crate::rng::CounterRng;
use crate::{Image, ImageShape};

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Rectangle {
    /// One of a random share of the area and a random aspect ratio (width to height) that `fits`, at a random place; `None`
    /// when ten draws give none.
    pub(super) fn random(
        shape: ImageShape,
        share: RangeInclusive<f64>,
        ratio: RangeInclusive<f64>,
        numbers: &mut CounterRng,
        fits: impl Fn(usize, usize) -> bool,
    ) -> Option<Self> {
        let area = (shape.height * shape.width) as f64;
        for _ in 0..10 {
            let area = area * numbers.uniform(*share.start(), *share.end());
            let ratio =
                libm::exp(numbers.uniform(libm::log(*ratio.start()), libm::log(*ratio.end())));
            let width = rounded(libm::sqrt(area * ratio));
            let height = rounded(libm::sqrt(area / ratio));
            if fits(height, width) && height <= shape.height && width <= shape.width {
                return Some(Self {
                    top: numbers.below((shape.height - height + 1) as u64) as usize,
                    left: numbers.below((shape.width - width + 1) as u64) as usize,
                    height,
                    width,
                });
            }
        }
        None
    }

    /// The largest of an aspect ratio in the range, in the middle.
    fn central(shape: ImageShape, ratio: RangeInclusive<f64>) -> Self {
        let (mut height, mut width) = (shape.height, shape.width);
        let own = width as f64 / height as f64;
        if own < *ratio.start() {
            height = rounded(width as f64 / ratio.start()).clamp(1, height);
        } else if own > *ratio.end() {
            width = rounded(height as f64 * ratio.end()).clamp(1, width);
        }
        Self {
            top: (shape.height - height) / 2,
            left: (shape.width - width) / 2,
            height,
            width,
        }
    }
}

/// As Python's `round`: halves to the even neighbour.
fn rounded(x: f64) -> usize {
    x.round_ties_even() as usize
}

/// A random part of the image of at least `least` of its area, brought to a size: `[height, width]`.
pub(super) fn random(image: &Image, to: [usize; 2], least: f64, numbers: &mut CounterRng) -> Image {
    let shape = image.shape();
    let ratio = 3.0 / 4.0..=4.0 / 3.0;
    let some = |height, width| height > 0 && width > 0;
    let part = Rectangle::random(shape, least..=1.0, ratio.clone(), numbers, some)
        .unwrap_or_else(|| Rectangle::central(shape, ratio));
    resized(image, part, to)
}

/// A part of the image at another size.
pub(super) fn resized(image: &Image, part: Rectangle, [height, width]: [usize; 2]) -> Image {
    let ImageShape {
        channels,
        width: across,
        ..
    } = image.shape();
    let rows = image.pixels().chunks_exact(across * channels);
    let cut: Vec<u8> = rows
        .skip(part.top)
        .take(part.height)
        .flat_map(|row| &row[part.left * channels..(part.left + part.width) * channels])
        .copied()
        .collect();
    let from = (part.height, part.width);
    let pixels = resize_bilinear(&cut, from, channels, (height, width));
    Image::new(ImageShape::new(height, width, channels), pixels).expect("resized to that")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn rectangles_keep_to_their_ranges() {
        let shape = ImageShape::new(40, 60, 1);
        let mut numbers = CounterRng::new(1, Stream::Augment, &[]);
        let mut smallest = f64::INFINITY;
        for _ in 0..2_000 {
            let part =
                Rectangle::random(shape, 0.08..=1.0, 0.75..=4.0 / 3.0, &mut numbers, |_, _| {
                    true
                });
            let Some(part) = part else { continue };
            assert!(part.top + part.height <= 40 && part.left + part.width <= 60);
            let ratio = part.width as f64 / part.height as f64;
            // A side is off by half a pixel at most; the shortest is 12 pixels.
            assert!((0.70..1.43).contains(&ratio), "{part:?}");
            smallest = smallest.min((part.height * part.width) as f64 / 2_400.0);
        }
        assert!((0.07..0.1).contains(&smallest), "{smallest}");
    }

    #[test]
    fn what_is_too_narrow_is_cut_in_the_middle() {
        let part =
            |height, width| Rectangle::central(ImageShape::new(height, width, 1), 0.75..=4.0 / 3.0);
        assert_eq!(
            part(9, 90),
            Rectangle {
                top: 0,
                left: 39,
                height: 9,
                width: 12
            }
        );
        assert_eq!(
            part(90, 9),
            Rectangle {
                top: 39,
                left: 0,
                height: 12,
                width: 9
            }
        );
        assert_eq!(part(1, 1).height, 1);
    }

    #[test]
    fn parts_of_any_image_come_to_any_size() {
        for (height, width) in [(1, 1), (1, 50), (50, 1), (3, 2), (28, 28)] {
            let shape = ImageShape::new(height, width, 3);
            let image = Image::new(shape, vec![7; shape.size()]).unwrap();
            for seed in 0..50 {
                for to in [[height, width], [5, 7], [1, 1]] {
                    let mut numbers = CounterRng::new(seed, Stream::Augment, &[]);
                    let shape = ImageShape::new(to[0], to[1], 3);
                    let expected = Image::new(shape, vec![7; shape.size()]).unwrap();
                    assert_eq!(random(&image, to, 0.08, &mut numbers), expected);
                }
            }
        }
    }
}
