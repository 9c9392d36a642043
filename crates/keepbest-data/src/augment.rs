//! Augmentation: shifted crop and horizontal flip, drawn per (seed, epoch, image index).

use serde::{Deserialize, Serialize};

use crate::rng::{CounterRng, Stream};

/// What is done to a training image at random. The default does nothing.
///
/// Shift first, then flip: torchvision's `RandomCrop(size, padding=shift)` and `RandomHorizontalFlip()`, on the 8-bit
/// image of the model's size, so what moves in from outside has pixel value 0 before normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror left and right with probability one half.
    pub flip: bool,
    /// Shift by up to this many pixels, up or down and left or right, each whole number of pixels as likely.
    pub shift: u32,
}

impl Augmentation {
    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What happens to image `index` in `epoch`: a pure function of the arguments.
    pub(crate) fn draw(&self, seed: u64, epoch: u64, index: usize) -> Placement {
        let mut rng = CounterRng::new(seed, Stream::Augment, &[epoch, index as u64]);
        // Every draw is made whether it is used or not, so switching one augmentation on does not change another.
        let mut shift = || rng.below(2 * u64::from(self.shift) + 1) as i64 - i64::from(self.shift);
        let (down, right) = (shift(), shift());
        Placement {
            down,
            right,
            flip: rng.coin() && self.flip,
        }
    }
}

/// Where the pixels of an augmented image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// Rows to go down in the source.
    pub down: i64,
    /// Columns to go right in the source.
    pub right: i64,
    /// Mirror left and right, after shifting.
    pub flip: bool,
}

impl Placement {
    /// The source row of row `y`, or `None` when it is outside.
    pub fn row(&self, y: usize, height: usize) -> Option<usize> {
        inside(y as i64 + self.down, height)
    }

    /// The source column of column `x`, or `None` when it is outside.
    pub fn column(&self, x: usize, width: usize) -> Option<usize> {
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
    use crate::{Image, ImageShape, Normaliser, Preprocessing};

    #[test]
    fn draws_cover_every_shift_and_both_flips() {
        let augmentation = Augmentation {
            flip: true,
            shift: 2,
        };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..2_000 {
            let placement = augmentation.draw(1, 5, index);
            assert!(placement.down.abs() <= 2 && placement.right.abs() <= 2);
            seen.insert((placement.down, placement.right, placement.flip));
        }
        assert_eq!(seen.len(), 5 * 5 * 2);
        assert_eq!(augmentation.draw(1, 5, 17), augmentation.draw(1, 5, 17));
        assert_ne!(
            (0..20)
                .map(|i| augmentation.draw(1, 5, i))
                .collect::<Vec<_>>(),
            (0..20)
                .map(|i| augmentation.draw(1, 6, i))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn nothing_is_done_by_default() {
        assert!(Augmentation::default().is_none());
        assert_eq!(Augmentation::default().draw(3, 1, 4), Placement::default());
    }

    #[test]
    fn pixels_move_and_zeros_come_in() {
        let shape = ImageShape::new(2, 3, 1);
        let image = Image::new(shape, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let mut preprocessing = Preprocessing::new(shape).with_normalisation(vec![10.0], vec![1.0]);
        preprocessing.divide_by = 1.0;
        let normaliser = Normaliser::new(&preprocessing).unwrap();
        let placed = |down, right, flip| {
            let mut out = [0.0; 6];
            normaliser
                .apply_placed(&image, Placement { down, right, flip }, &mut out)
                .unwrap();
            out.map(|value| value + 10.0)
        };
        assert_eq!(placed(0, 0, false), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(placed(0, 0, true), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        assert_eq!(placed(1, 0, false), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        assert_eq!(placed(0, -1, false), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
        assert_eq!(placed(0, 1, true), [0.0, 3.0, 2.0, 0.0, 6.0, 5.0]);
        assert_eq!(placed(-5, 0, false), [0.0; 6]);
    }
}
