//! What the splits of a data set are, and what they share.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::{DataError, Dataset as _, Fingerprint, Prepared, Watch};

/// The fingerprint of each split, and the images that stand in more than one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// By the split's name.
    pub fingerprints: BTreeMap<String, Fingerprint>,
    /// Which images each split has, in its order: [`Dataset::digest`](crate::Dataset::digest).
    pub digests: BTreeMap<String, Vec<u64>>,
    /// What makes a measurement look better than it is.
    pub shared: Vec<SharedImages>,
}

/// Images of one split that are, pixel for pixel, in another one too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedImages {
    /// The split that is measured on.
    pub split: &'static str,
    /// The split that has them too.
    pub also_in: &'static str,
    /// The number of images of `split`.
    pub count: usize,
    /// One of them, in both.
    pub example: (String, String),
}

impl fmt::Display for SharedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (images, are) = match self.count {
            1 => ("image", "is"),
            _ => ("images", "are"),
        };
        write!(
            f,
            "{} {images} of {} {are} in {} too, such as {} ({})",
            self.count, self.split, self.also_in, self.example.0, self.example.1
        )
    }
}

const SPLITS: [&str; 3] = ["train", "val", "test"];

impl Prepared {
    /// Reads every image once: for the fingerprints of the splits, and to find those that are in two of them.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn identify(&self) -> Result<Identity, DataError> {
        self.identify_watched(Watch::none())
    }

    /// As [`identify`](Self::identify), watched.
    ///
    /// # Errors
    /// When an image cannot be read; and [`DataError::Interrupted`] when told to stop.
    pub fn identify_watched(&self, watch: Watch<'_>) -> Result<Identity, DataError> {
        let mut fingerprints = BTreeMap::new();
        let mut digests = BTreeMap::new();
        let mut shared: Vec<SharedImages> = Vec::new();
        // The first place of every image, by the digest of shape and pixels.
        let mut places: HashMap<[u8; 32], (&'static str, usize)> = HashMap::new();
        for split in SPLITS {
            let Some(images) = self.split(split) else {
                continue;
            };
            let mut found: BTreeMap<&'static str, (usize, (usize, usize))> = BTreeMap::new();
            let fingerprint = Fingerprint::of_with(images, watch, |index, image| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(image.shape().to_string().as_bytes());
                hasher.update(image.pixels());
                let digest = *hasher.finalize().as_bytes();
                let (first, place) = *places.entry(digest).or_insert((split, index));
                if first != split {
                    found.entry(first).or_insert((0, (index, place))).0 += 1;
                }
            })?;
            fingerprints.insert(split.to_owned(), fingerprint);
            // Just read, so that no image is decoded again for it.
            digests.insert(split.to_owned(), images.digests()?);
            for (also_in, (count, (index, place))) in found {
                let other = self.split(also_in).unwrap_or(images);
                shared.push(SharedImages {
                    split,
                    also_in,
                    count,
                    example: (images.source(index), other.source(place)),
                });
            }
        }
        Ok(Identity {
            fingerprints,
            digests,
            shared,
        })
    }
}
