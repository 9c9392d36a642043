//! The identity of a data set: what a metric was measured on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::watch::Stage;
use crate::{DataError, Dataset, Image, Watch};

/// Count, classes and digest of a set of labelled images; the order counts.
///
/// The digest is BLAKE3 over, in this order and little-endian: the text `keepbest data v1`, the number of classes (u64),
/// each name (length as u64, then UTF-8), the number of images (u64), and of each image its label (u32), height, width
/// and channels (u64 each) and its pixels (u8, HWC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Number of images.
    pub count: u64,
    /// Number of classes.
    pub classes: u64,
    /// BLAKE3, 64 hexadecimal digits.
    pub blake3: String,
}

impl Fingerprint {
    /// Reads every image of `dataset` once. Where the images are fitted ([`crate::Cached`], [`crate::Prepared`]) the
    /// digest is of what the network is shown, before normalisation.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn of(dataset: &dyn Dataset) -> Result<Self, DataError> {
        Self::of_with(dataset, Watch::none(), |_, _| ())
    }

    /// As [`of`](Self::of), and shows each image to `each` with its index.
    pub(crate) fn of_with(
        dataset: &dyn Dataset,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &Image),
    ) -> Result<Self, DataError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"keepbest data v1");
        let number = |hasher: &mut blake3::Hasher, value: usize| {
            hasher.update(&(value as u64).to_le_bytes());
        };
        number(&mut hasher, dataset.classes().len());
        for class in dataset.classes() {
            number(&mut hasher, class.len());
            hasher.update(class.as_bytes());
        }
        number(&mut hasher, dataset.len());
        for index in 0..dataset.len() {
            watch.tell(Stage::Identifying, index, dataset.len())?;
            let image = dataset.image(index)?;
            hasher.update(&dataset.label(index).to_le_bytes());
            let shape = image.shape();
            for side in [shape.height, shape.width, shape.channels] {
                number(&mut hasher, side);
            }
            hasher.update(image.pixels());
            each(index, &image);
        }
        Ok(Self {
            count: dataset.len() as u64,
            classes: dataset.classes().len() as u64,
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} images, {} classes, {}",
            self.count,
            self.classes,
            &self.blake3[..8.min(self.blake3.len())]
        )
    }
}
