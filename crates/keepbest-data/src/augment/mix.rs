//! Mixing the images of a batch: mixup (Zhang et al., arXiv 1710.09412) and cutmix (Yun et al., arXiv 1905.04899), as
//! torchvision's `MixUp` and `CutMix`: each image with its neighbour in the (shuffled) batch, the first with the last.

use super::Augmentation;
use crate::ImageShape;
use crate::rng::{CounterRng, Stream};

/// What was mixed into the images of a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mixed {
    /// The label of what was mixed in, `[n]`.
    pub others: Vec<u32>,
    /// The share of the image's own label, `[n]`; the rest is the other's.
    pub shares: Vec<f64>,
}

impl Augmentation {
    /// Whether the images of a batch are mixed.
    pub(crate) fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Mixes the images of a batch: `inputs` is `[n, height, width, channels]`, `first` the position of the batch's first
    /// image in the epoch. `None` without mixup and cutmix.
    pub(crate) fn mix(
        &self,
        inputs: &mut [f32],
        labels: &[u32],
        shape: ImageShape,
        (seed, epoch, first): (u64, u64, usize),
    ) -> Option<Mixed> {
        let mut numbers = CounterRng::new(seed, Stream::Mix, &[epoch, first as u64]);
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => numbers.coin(),
            (_, cut) => cut,
        };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let share = symmetric_beta(alpha, &mut numbers);
        let share = if cut {
            let part = Part::random(share, shape, &mut numbers);
            for_neighbours(inputs, shape.size(), |own, other| {
                part.copy(own, other, shape)
            });
            part.rest(shape)
        } else {
            blend(inputs, shape.size(), share);
            share
        };
        let before = labels.iter().cycle().skip(labels.len() - 1);
        Some(Mixed {
            others: before.take(labels.len()).copied().collect(),
            shares: vec![share; labels.len()],
        })
    }
}

/// Each image times `share`, and the one before it times the rest.
pub(super) fn blend(inputs: &mut [f32], size: usize, share: f64) {
    let (own_share, other_share) = (share as f32, (1.0 - share) as f32);
    for_neighbours(inputs, size, |own, other| {
        for (own, other) in own.iter_mut().zip(other) {
            *own = *other * other_share + *own * own_share;
        }
    });
}

/// Calls `mix` with every image and, as it was, the one before it; before the first is the last.
fn for_neighbours(inputs: &mut [f32], size: usize, mut mix: impl FnMut(&mut [f32], &[f32])) {
    let images = inputs.len() / size;
    let last = inputs[(images - 1) * size..].to_vec();
    for image in (1..images).rev() {
        let (before, from) = inputs.split_at_mut(image * size);
        mix(&mut from[..size], &before[(image - 1) * size..]);
    }
    mix(&mut inputs[..size], &last);
}

/// The rectangle of an image that the other one fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Part {
    /// One of `1 - share` of the area, its centre anywhere, cut off at the edges.
    fn random(share: f64, shape: ImageShape, numbers: &mut CounterRng) -> Self {
        let (height, width) = (shape.height, shape.width);
        let x = numbers.below(width as u64) as usize;
        let y = numbers.below(height as u64) as usize;
        let half = 0.5 * libm::sqrt(1.0 - share);
        let half_width = (half * width as f64) as usize;
        let half_height = (half * height as f64) as usize;
        Self {
            top: y.saturating_sub(half_height),
            left: x.saturating_sub(half_width),
            bottom: (y + half_height).min(height),
            right: (x + half_width).min(width),
        }
    }

    fn copy(self, own: &mut [f32], other: &[f32], shape: ImageShape) {
        for y in self.top..self.bottom {
            let row = y * shape.width;
            let range = (row + self.left) * shape.channels..(row + self.right) * shape.channels;
            own[range.clone()].copy_from_slice(&other[range]);
        }
    }

    /// The share of the image that is left.
    fn rest(self, shape: ImageShape) -> f64 {
        let area = (self.right - self.left) * (self.bottom - self.top);
        1.0 - area as f64 / (shape.width * shape.height) as f64
    }
}

/// A number of the distribution Beta(alpha, alpha): the first of two gamma variates' share in their sum, from their
/// logarithms, which do not underflow for small alphas.
fn symmetric_beta(alpha: f64, numbers: &mut CounterRng) -> f64 {
    let (a, b) = (
        log_gamma_variate(alpha, numbers),
        log_gamma_variate(alpha, numbers),
    );
    1.0 / (1.0 + libm::exp(b - a))
}

/// The logarithm of a variate of Gamma(alpha, 1): Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables"
/// (2000), for alpha + 1, times `u^(1/alpha)`.
fn log_gamma_variate(alpha: f64, numbers: &mut CounterRng) -> f64 {
    // Above 0, for the logarithm.
    let positive = |numbers: &mut CounterRng| 1.0 - numbers.unit();
    let d = alpha + 1.0 - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        // Box and Muller.
        let radius = libm::sqrt(-2.0 * libm::log(positive(numbers)));
        let normal = radius * libm::cos(std::f64::consts::TAU * numbers.unit());
        let v = 1.0 + c * normal;
        let u = positive(numbers);
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        if libm::log(u) < 0.5 * normal * normal + d - d * v + d * libm::log(v) {
            return libm::log(d * v) + libm::log(positive(numbers)) / alpha;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_moments_of_beta() {
        for alpha in [0.05, 0.2, 1.0, 4.0] {
            let mut numbers = CounterRng::new(5, Stream::Mix, &[]);
            let count = 20_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..count {
                let share = symmetric_beta(alpha, &mut numbers);
                assert!((0.0..=1.0).contains(&share));
                sum += share;
                squares += (share - 0.5) * (share - 0.5);
            }
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            // Five standard deviations of the mean, and of the mean square (its own is below 0.25).
            assert!((sum / f64::from(count) - 0.5).abs() < 5.0 * (variance / 20_000.0f64).sqrt());
            assert!((squares / f64::from(count) - variance).abs() < 5.0 * 0.125 / 141.0);
        }
    }

    #[test]
    fn each_is_mixed_with_the_one_before() {
        let shape = ImageShape::new(2, 2, 1);
        let labels = [3, 4, 5];
        let before: Vec<f32> = [1.0f32, 2.0, 4.0].iter().flat_map(|x| [*x; 4]).collect();
        let mixup = Augmentation {
            mixup: 1.0,
            ..Augmentation::default()
        };
        let mut inputs = before.clone();
        let mixed = mixup.mix(&mut inputs, &labels, shape, (1, 2, 0)).unwrap();
        assert_eq!(mixed.others, [5, 3, 4]);
        let own = mixed.shares[0] as f32;
        for (image, (mine, other)) in [(1.0, 4.0), (2.0, 1.0), (4.0, 2.0)].iter().enumerate() {
            let expected = other * (1.0 - own) + mine * own;
            assert!((inputs[image * 4] - expected).abs() < 1e-6);
        }
        assert_eq!(
            Augmentation::default().mix(&mut inputs, &labels, shape, (1, 2, 0)),
            None
        );
    }

    #[test]
    fn the_share_of_cutmix_is_that_of_the_pixels() {
        let shape = ImageShape::new(7, 9, 3);
        let cutmix = Augmentation {
            cutmix: 1.0,
            ..Augmentation::default()
        };
        for first in 0..100 {
            let mut inputs: Vec<f32> = (0..4).flat_map(|x| vec![x as f32; shape.size()]).collect();
            let mixed = cutmix
                .mix(&mut inputs, &[0, 1, 2, 3], shape, (7, 1, first))
                .unwrap();
            for (image, pixels) in inputs.chunks_exact(shape.size()).enumerate() {
                let own = pixels.iter().filter(|x| **x == image as f32).count();
                let share = own as f64 / shape.size() as f64;
                assert!((share - mixed.shares[image]).abs() < 1e-12);
                let other = (image + 3) % 4;
                assert!(
                    pixels
                        .iter()
                        .all(|x| *x == image as f32 || *x == other as f32)
                );
            }
        }
    }

    #[test]
    fn an_image_alone_is_mixed_with_itself() {
        let shape = ImageShape::new(1, 1, 3);
        for (mixup, cutmix) in [(0.4, 0.0), (0.0, 0.4)] {
            let mut inputs = [1.0, 2.0, 3.0];
            let augmentation = Augmentation {
                mixup,
                cutmix,
                ..Augmentation::default()
            };
            let mixed = augmentation
                .mix(&mut inputs, &[2], shape, (1, 1, 1))
                .unwrap();
            assert_eq!(mixed.others, [2]);
            assert!(
                inputs
                    .iter()
                    .zip([1.0, 2.0, 3.0])
                    .all(|(a, b)| (a - b).abs() < 1e-6)
            );
        }
    }
}
