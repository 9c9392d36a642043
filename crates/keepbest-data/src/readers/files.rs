//! Image files with labels, wherever their list comes from.

use std::path::PathBuf;
use std::sync::Arc;

use super::read_file;
use crate::input::{decode_image, probe_image};
use crate::{DataError, Dataset, Image, ImageShape};

/// Labelled image files, decoded at each request.
#[derive(Debug)]
pub struct FileDataset {
    origin: &'static str,
    classes: Arc<[String]>,
    files: Vec<File>,
    shape: Option<ImageShape>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    label: u32,
    shape: ImageShape,
}

impl Dataset for FileDataset {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].label
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let file = self
            .files
            .get(index)
            .ok_or_else(|| DataError::NoSuchImage {
                origin: self.origin.to_owned(),
                index,
                len: self.files.len(),
            })?;
        decode_image(&read_file(&file.path)?, &file.path)
    }

    fn shape(&self) -> Option<ImageShape> {
        self.shape
    }

    fn image_shape(&self, index: usize) -> Option<ImageShape> {
        self.files.get(index).map(|file| file.shape)
    }

    fn source(&self, index: usize) -> String {
        self.files[index].path.display().to_string()
    }
}

impl FileDataset {
    /// Reads the header of every file. Labels are below the number of classes.
    ///
    /// # Errors
    /// When headers cannot be read: the first file is named, the others are counted.
    pub(crate) fn open(
        origin: &'static str,
        classes: &[String],
        labelled: Vec<(PathBuf, u32)>,
    ) -> Result<Self, DataError> {
        let mut files = Vec::with_capacity(labelled.len());
        let mut broken: Vec<DataError> = Vec::new();
        for (path, label) in labelled {
            match probe_image(&path) {
                Ok(shape) => files.push(File { path, label, shape }),
                Err(error) => broken.push(error),
            }
        }
        let others = broken.len().saturating_sub(1);
        match broken.into_iter().next() {
            Some(DataError::Image { path, source, .. }) => {
                return Err(DataError::Image {
                    path,
                    others,
                    source,
                });
            }
            Some(error) => return Err(error),
            None => {}
        }
        let first = files.first().map(|file| file.shape);
        let shape = first.filter(|first| files.iter().all(|file| file.shape == *first));
        Ok(Self {
            origin,
            classes: classes.into(),
            files,
            shape,
        })
    }
}
