//! The shapes of the images of a data set, and the size to train at that follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Dataset, PrepareError, PreprocessingError};

/// The longest side of a size that is chosen: a small network learns photographs of it in minutes.
const LARGEST: usize = 64;

/// Chosen sides are multiples of it, so that pooling divides them.
const STEP: usize = 4;

/// What the images of some sets have in common.
pub(crate) struct Shapes {
    /// The number of images of each height and width.
    sizes: BTreeMap<(usize, usize), usize>,
    /// Whether some are grey.
    pub grey: bool,
    /// Whether some are in colour.
    pub colour: bool,
}

impl Shapes {
    pub(crate) fn of<'a>(
        sets: impl Iterator<Item = &'a Arc<dyn Dataset>>,
    ) -> Result<Self, PrepareError> {
        let mut shapes = Self {
            sizes: BTreeMap::new(),
            grey: false,
            colour: false,
        };
        for set in sets {
            // A set of one shape needs one look.
            let (looks, count) = match set.shape() {
                Some(_) => (set.len().min(1), set.len()),
                None => (set.len(), 1),
            };
            for index in 0..looks {
                let shape = match set.image_shape(index) {
                    Some(shape) => shape,
                    None => set.image(index)?.shape(),
                };
                shapes.grey |= shape.channels == 1;
                shapes.colour |= shape.channels == 3;
                *shapes.sizes.entry((shape.height, shape.width)).or_default() += count;
            }
        }
        if shapes.sizes.is_empty() {
            return Err(PreprocessingError::NoImages.into());
        }
        Ok(shapes)
    }

    /// Whether all are of this height and width.
    pub(crate) fn are_all(&self, size: (usize, usize)) -> bool {
        self.sizes.keys().all(|found| *found == size)
    }

    /// Height and width to train at: those of more than half of the images, or else a square that suits the shorter sides.
    pub(crate) fn size(&self) -> (usize, usize) {
        let all: usize = self.sizes.values().sum();
        let common = self.sizes.iter().find(|(_, count)| **count > all / 2);
        if let Some((size, _)) = common {
            return *size;
        }
        let mut shorter: BTreeMap<usize, usize> = BTreeMap::new();
        for ((height, width), count) in &self.sizes {
            *shorter.entry(*height.min(width)).or_default() += count;
        }
        let mut below = 0;
        let median = shorter.into_iter().find_map(|(side, count)| {
            below += count;
            (2 * below >= all).then_some(side)
        });
        let side = median.unwrap_or(LARGEST).min(LARGEST);
        let side = if side > STEP {
            side / STEP * STEP
        } else {
            side
        };
        (side, side)
    }

    /// What was chosen, in words; `None` where all are of one size.
    pub(crate) fn choice(&self) -> Option<String> {
        if self.sizes.len() < 2 {
            return None;
        }
        let by_area = |((height, width), _): &(&(usize, usize), &usize)| height * width;
        let least = self.sizes.iter().min_by_key(by_area)?.0;
        let most = self.sizes.iter().max_by_key(by_area)?.0;
        let size = self.size();
        let text = |(height, width): (usize, usize)| format!("{height}x{width}");
        Some(format!(
            "images differ in size ({} to {}): brought to {}; --image-size chooses another",
            text(*least),
            text(*most),
            text(size)
        ))
    }
}
