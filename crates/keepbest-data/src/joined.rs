//! Several splits as one set.

use std::sync::Arc;

use crate::{DataError, Dataset, Image, ImageShape, Subset};

/// Splits one after the other, such as all images of a source to measure on.
pub struct Joined {
    parts: Vec<Subset>,
    classes: Arc<[String]>,
}

impl Joined {
    /// All images of these sets, which are of the same classes. One set is left as it is.
    pub fn all(parts: impl IntoIterator<Item = Subset>) -> Option<Subset> {
        let mut parts: Vec<Subset> = parts.into_iter().collect();
        if parts.len() < 2 {
            return parts.pop();
        }
        let classes = parts[0].classes().into();
        Some(Subset::all(Arc::new(Self { parts, classes })))
    }

    /// The part that holds image `index`, and its place there.
    fn at(&self, mut index: usize) -> Option<(&Subset, usize)> {
        for part in &self.parts {
            if index < part.len() {
                return Some((part, index));
            }
            index -= part.len();
        }
        None
    }

    fn try_at(&self, index: usize) -> Result<(&Subset, usize), DataError> {
        self.at(index).ok_or_else(|| DataError::NoSuchImage {
            origin: "all splits".to_owned(),
            index,
            len: self.len(),
        })
    }
}

impl Dataset for Joined {
    fn len(&self) -> usize {
        self.parts.iter().map(Subset::len).sum()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        let (part, index) = self.at(index).expect("the index is below the length");
        part.label(index)
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let (part, index) = self.try_at(index)?;
        part.image(index)
    }

    fn shape(&self) -> Option<ImageShape> {
        let shape = self.parts.first()?.shape()?;
        let same = |part: &Subset| part.shape() == Some(shape);
        self.parts.iter().all(same).then_some(shape)
    }

    fn image_shape(&self, index: usize) -> Option<ImageShape> {
        let (part, index) = self.at(index)?;
        part.image_shape(index)
    }

    fn digest(&self, index: usize) -> Result<u64, DataError> {
        let (part, index) = self.try_at(index)?;
        part.digest(index)
    }

    fn source(&self, index: usize) -> String {
        let (part, index) = self.at(index).expect("the index is below the length");
        part.source(index)
    }

    fn in_memory(&self) -> bool {
        self.parts.iter().all(Subset::in_memory)
    }
}
