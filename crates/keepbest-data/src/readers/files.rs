//! Image files with labels, wherever their list comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::{probe_image, read_image};
use crate::watch::Stage;
use crate::{DataError, Dataset, Image, ImageShape, Watch};

/// What to do about images that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreadable {
    /// They are an error.
    #[default]
    Refuse,
    /// They are left out. To find them, every image is decoded once when the set is opened.
    Skip,
}

/// Takes in image files one by one, and leaves out those that cannot be read where that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Intake<'a> {
    pub unreadable: Unreadable,
    watch: Watch<'a>,
    /// What was left out, in words: the path and why.
    pub skipped: Vec<String>,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(unreadable: Unreadable, watch: Watch<'a>) -> Self {
        Self {
            unreadable,
            watch,
            skipped: Vec::new(),
        }
    }

    /// The shape of a file's image; `None` when it is left out.
    fn shape(&mut self, path: &Path) -> Result<Option<ImageShape>, DataError> {
        if self.unreadable == Unreadable::Refuse {
            return probe_image(path).map(Some);
        }
        Ok(match read_image(path) {
            Ok(image) => Some(image.shape()),
            Err(error) => {
                let why = std::error::Error::source(&error).map(|source| format!(": {source}"));
                self.skipped
                    .push(format!("{error}{}", why.unwrap_or_default()));
                None
            }
        })
    }

    /// One line about what was left out.
    pub(crate) fn note(&self) -> Option<String> {
        const SHOWN: usize = 3;
        let first = self.skipped.first()?;
        let others = self.skipped.iter().skip(1).take(SHOWN - 1);
        let shown = others.fold(first.clone(), |text, next| text + "; " + next);
        let more = if self.skipped.len() > SHOWN {
            "; ..."
        } else {
            ""
        };
        let plural = if self.skipped.len() == 1 { "" } else { "s" };
        let count = self.skipped.len();
        Some(format!(
            "left out {count} image{plural} that cannot be read: {shown}{more}"
        ))
    }
}

/// Labelled image files, decoded at each request.
#[derive(Debug)]
pub(crate) struct FileDataset {
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
        read_image(&file.path)
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
    /// When headers cannot be read: the first file is named, the others are counted; and when none is left of those that are left
    /// out. `place` is the folder or table that the files are of.
    pub(crate) fn open(
        origin: &'static str,
        place: &Path,
        classes: &[String],
        labelled: Vec<(PathBuf, u32)>,
        intake: &mut Intake<'_>,
    ) -> Result<Self, DataError> {
        let mut files = Vec::with_capacity(labelled.len());
        let mut broken: Vec<DataError> = Vec::new();
        let (of, skipped) = (labelled.len(), intake.skipped.len());
        for (done, (path, label)) in labelled.into_iter().enumerate() {
            intake.watch.tell(Stage::Opening, done, of)?;
            match intake.shape(&path) {
                Ok(Some(shape)) => files.push(File { path, label, shape }),
                Ok(None) => {}
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
        if let (true, Some(first)) = (files.is_empty(), intake.skipped.get(skipped)) {
            return Err(DataError::NoneReadable {
                path: place.to_owned(),
                count: of,
                first: first.clone(),
            });
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
