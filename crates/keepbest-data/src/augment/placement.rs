//! The places of the pixels of an image that is shifted and mirrored.

use super::{Augmentation, Draw};
use crate::rng::{CounterRng, Stream};
use crate::{Image, ImageShape};

impl Augmentation {
    /// Shift and mirror of one image.
    pub(super) fn placement(&self, draw: Draw) -> Placement {
        let counters = [draw.epoch, draw.image as u64];
        let mut rng = CounterRng::new(draw.seed, Stream::Augment, &counters);
        // Every draw is made whether it is used or not, so switching one of them on does not change the other.
        let mut shift = || rng.below(2 * u64::from(self.shift) + 1) as i64 - i64::from(self.shift);
        let (down, right) = (shift(), shift());
        Placement {
            down,
            right,
            flip: rng.coin() && self.flip,
        }
    }
}

/// The places that the pixels of an augmented image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Placement {
    /// Rows to go down in the source.
    pub down: i64,
    /// Columns to go right in the source.
    pub right: i64,
    /// Mirror left and right, after shifting.
    pub flip: bool,
}

impl Placement {
    /// The image with its pixels moved; 0 where they come from outside.
    pub(super) fn apply(&self, image: Image) -> Image {
        if *self == Self::default() {
            return image;
        }
        let shape = image.shape();
        let ImageShape {
            channels,
            height,
            width,
        } = shape;
        let stride = width * channels;
        let mut out = vec![0; shape.size()];
        for (y, out_row) in out.chunks_exact_mut(stride).enumerate() {
            let Some(row) = self.row(y, height) else {
                continue;
            };
            let row = &image.pixels()[row * stride..(row + 1) * stride];
            for (x, pixel) in out_row.chunks_exact_mut(channels).enumerate() {
                if let Some(x) = self.column(x, width) {
                    pixel.copy_from_slice(&row[x * channels..(x + 1) * channels]);
                }
            }
        }
        Image::new(shape, out).expect("as large as before")
    }

    /// The source row of row `y`, or `None` when it is outside.
    fn row(&self, y: usize, height: usize) -> Option<usize> {
        inside(y as i64 + self.down, height)
    }

    /// The source column of column `x`, or `None` when it is outside.
    fn column(&self, x: usize, width: usize) -> Option<usize> {
        let x = if self.flip { width - 1 - x } else { x };
        inside(x as i64 + self.right, width)
    }
}

fn inside(position: i64, length: usize) -> Option<usize> {
    usize::try_from(position)
        .ok()
        .filter(|&position| position < length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_cover_every_shift_and_both_flips() {
        let augmentation = Augmentation {
            flip: true,
            shift: 2,
            ..Augmentation::default()
        };
        let draw = |epoch, image| {
            let seed = 1;
            augmentation.placement(Draw { seed, epoch, image })
        };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..2_000 {
            let placement = draw(5, index);
            assert!(placement.down.abs() <= 2 && placement.right.abs() <= 2);
            seen.insert((placement.down, placement.right, placement.flip));
        }
        assert_eq!(seen.len(), 5 * 5 * 2);
        assert_eq!(draw(5, 17), draw(5, 17));
        let epoch = |epoch| (0..20).map(|i| draw(epoch, i)).collect::<Vec<_>>();
        assert_ne!(epoch(5), epoch(6));
    }

    #[test]
    fn nothing_is_done_by_default() {
        assert!(Augmentation::default().is_none());
        let draw = Draw {
            seed: 3,
            epoch: 1,
            image: 4,
        };
        assert_eq!(
            Augmentation::default().placement(draw),
            Placement::default()
        );
    }

    #[test]
    fn pixels_move_and_zeros_come_in() {
        let shape = ImageShape::new(2, 3, 1);
        let image = Image::new(shape, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let placed = |down, right, flip| {
            let placement = Placement { down, right, flip };
            placement.apply(image.clone()).pixels().to_vec()
        };
        assert_eq!(placed(0, 0, false), [1, 2, 3, 4, 5, 6]);
        assert_eq!(placed(0, 0, true), [3, 2, 1, 6, 5, 4]);
        assert_eq!(placed(1, 0, false), [4, 5, 6, 0, 0, 0]);
        assert_eq!(placed(0, -1, false), [0, 1, 2, 0, 4, 5]);
        assert_eq!(placed(0, 1, true), [0, 3, 2, 0, 6, 5]);
        assert_eq!(placed(-5, 0, false), [0; 6]);
    }
}
