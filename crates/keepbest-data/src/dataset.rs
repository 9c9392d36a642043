//! The data set trait, data sets in memory, and views of a data set.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{DataError, Image, ImageShape};

/// Labelled images, addressed by index. Every call with the same index gives the same answer.
///
/// Every label must be below `classes().len()`; the readers of this crate check it when they open a set.
pub trait Dataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; a label is an index into them.
    fn classes(&self) -> &[String];

    /// The label of image `index`.
    ///
    /// # Panics
    /// May panic when `index` is not below [`len`](Dataset::len), as a slice would.
    fn label(&self, index: usize) -> u32;

    /// Image `index`, decoded: `u8`, HWC.
    ///
    /// # Errors
    /// When the index is out of range, or the image cannot be read or decoded (the error names its path).
    fn image(&self, index: usize) -> Result<Image, DataError>;

    /// The shape that all images share; `None` when they differ.
    fn shape(&self) -> Option<ImageShape>;

    /// The shape of image `index` where it is known without decoding it.
    fn image_shape(&self, index: usize) -> Option<ImageShape> {
        let _ = index;
        self.shape()
    }

    /// Which image `index` is, as it was read: [`Image::digest`] before any rule is applied, so that it is the same for models
    /// of every size.
    ///
    /// # Errors
    /// As [`image`](Dataset::image).
    fn digest(&self, index: usize) -> Result<u64, DataError> {
        self.image(index).map(|image| image.digest())
    }

    /// The source of image `index`, for messages and reports: a path, or a set's name and an index.
    fn source(&self, index: usize) -> String;

    /// Whether [`image`](Dataset::image) is cheap because the decoded images are in memory already.
    fn in_memory(&self) -> bool {
        false
    }
}

/// Images of one shape, decoded in memory, one after the other.
#[derive(Clone)]
pub struct MemoryDataset {
    origin: String,
    shape: ImageShape,
    pixels: Bytes,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl MemoryDataset {
    /// A set from dense pixels `[n, height, width, channels]`, `n` labels and the names of the classes. `origin` names
    /// the set in messages.
    ///
    /// # Errors
    /// When the number of pixels is not `labels.len() * shape.size()`, or a label is not below the number of classes.
    pub fn new(
        origin: impl Into<String>,
        shape: ImageShape,
        pixels: impl Into<Bytes>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        let (origin, pixels) = (origin.into(), pixels.into());
        if shape.size() == 0 || labels.len().checked_mul(shape.size()) != Some(pixels.len()) {
            return Err(DataError::InconsistentMemory {
                origin,
                bytes: pixels.len(),
                labels: labels.len(),
                shape,
            });
        }
        check_labels(&origin, &labels, classes.len())?;
        Ok(Self {
            origin,
            shape,
            pixels,
            labels,
            classes: classes.into(),
        })
    }
}

/// Checks that every label is below `classes`.
pub(crate) fn check_labels(origin: &str, labels: &[u32], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(()),
        Some(index) => Err(DataError::LabelOutOfRange {
            origin: origin.to_owned(),
            index,
            label: labels[index],
            classes,
        }),
    }
}

impl Dataset for MemoryDataset {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        if index >= self.len() {
            return Err(DataError::NoSuchImage {
                origin: self.origin.clone(),
                index,
                len: self.len(),
            });
        }
        let size = self.shape.size();
        let pixels = self.pixels.slice(index * size..(index + 1) * size);
        Ok(Image::new(self.shape, pixels).expect("the slice has the size of the shape"))
    }

    fn shape(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn source(&self, index: usize) -> String {
        format!("{}#{index}", self.origin)
    }

    fn in_memory(&self) -> bool {
        true
    }
}

impl fmt::Debug for MemoryDataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MemoryDataset({}: {} x {})",
            self.origin,
            self.len(),
            self.shape
        )
    }
}

/// A view of a data set: some of its images, in some order. Cloning shares both.
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Arc<[usize]>,
}

impl Subset {
    /// The images `indices` of `dataset`.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self, DataError> {
        if let Some(&index) = indices.iter().find(|&&index| index >= dataset.len()) {
            return Err(DataError::NoSuchImage {
                origin: "subset".to_owned(),
                index,
                len: dataset.len(),
            });
        }
        Ok(Self {
            dataset,
            indices: indices.into(),
        })
    }

    /// All images of `dataset`, in its order.
    pub fn all(dataset: Arc<dyn Dataset>) -> Self {
        let indices = (0..dataset.len()).collect();
        Self { dataset, indices }
    }

    /// The data set that this is a view of.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// The indices into [`dataset`](Subset::dataset).
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The labels, in the view's order.
    pub fn labels(&self) -> Vec<u32> {
        self.indices
            .iter()
            .map(|&index| self.dataset.label(index))
            .collect()
    }

    /// Which image each is, in the view's order: [`Dataset::digest`].
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn digests(&self) -> Result<Vec<u64>, DataError> {
        (0..self.len()).map(|index| self.digest(index)).collect()
    }

    /// The first `count` images, or all when there are fewer.
    pub fn take(&self, count: usize) -> Self {
        Self {
            dataset: self.dataset.clone(),
            indices: self.indices[..count.min(self.len())].into(),
        }
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(self.indices[index])
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        match self.indices.get(index) {
            Some(&index) => self.dataset.image(index),
            None => Err(DataError::NoSuchImage {
                origin: "subset".to_owned(),
                index,
                len: self.indices.len(),
            }),
        }
    }

    fn shape(&self) -> Option<ImageShape> {
        self.dataset.shape()
    }

    fn image_shape(&self, index: usize) -> Option<ImageShape> {
        self.indices
            .get(index)
            .and_then(|&index| self.dataset.image_shape(index))
    }

    fn digest(&self, index: usize) -> Result<u64, DataError> {
        match self.indices.get(index) {
            Some(&index) => self.dataset.digest(index),
            // The error that it is.
            None => self.image(index).map(|image| image.digest()),
        }
    }

    fn source(&self, index: usize) -> String {
        self.dataset.source(self.indices[index])
    }

    fn in_memory(&self) -> bool {
        self.dataset.in_memory()
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Subset({} of {})",
            self.indices.len(),
            self.dataset.len()
        )
    }
}
