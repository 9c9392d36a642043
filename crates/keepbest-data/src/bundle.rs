//! What a reader finds: a training set, and validation and test sets where the source has its own.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{DataError, Dataset, PrepareError};

/// The sets of one source. All have the same classes in the same order.
#[derive(Clone)]
#[non_exhaustive]
pub struct DataBundle {
    /// The source's name: as asked for, or the folder.
    pub name: String,
    /// The name of its layout on disk, such as `idx` or `folders`; `embedded` or `memory` without one.
    pub kind: &'static str,
    /// Whether a mirror image shows the same class, as far as the layout tells.
    pub(crate) layout_mirrored: Mirrored,
    /// The training set.
    pub train: Arc<dyn Dataset>,
    /// The source's own validation set; without one, [`DataBundle::prepare`] takes it out of the training set.
    pub val: Option<Arc<dyn Dataset>>,
    /// The source's own test set.
    pub test: Option<Arc<dyn Dataset>>,
    /// `test` or `val` where the source has nothing to train on: then `train` is that split. Only
    /// [`open_to_measure`](crate::open_to_measure) gives such a bundle.
    pub only: Option<&'static str>,
    /// What the user should know, such as files that were left out.
    pub notes: Vec<String>,
    /// Images that were left out because they cannot be read ([`crate::open_with`]), each with its path and why.
    pub skipped: Vec<String>,
}

impl DataBundle {
    /// A bundle of data sets of one's own.
    pub fn new(
        name: impl Into<String>,
        train: Arc<dyn Dataset>,
        val: Option<Arc<dyn Dataset>>,
        test: Option<Arc<dyn Dataset>>,
    ) -> Self {
        Self {
            name: name.into(),
            kind: "memory",
            layout_mirrored: Mirrored::Unknown,
            train,
            val,
            test,
            only: None,
            notes: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// The bundle of what a reader found at a path: the splits that there are. Where nothing is to be trained on, the first of test
    /// and val takes its place.
    ///
    /// # Errors
    /// [`DataError::Empty`] when there are none.
    pub(crate) fn of_splits(
        path: &Path,
        [train, val, test]: [Option<Arc<dyn Dataset>>; 3],
    ) -> Result<Self, DataError> {
        let (train, val, test, only) = match (train, val, test) {
            (Some(train), val, test) => (train, val, test, None),
            (None, val, Some(test)) => (test, val, None, Some("test")),
            (None, Some(val), None) => (val, None, None, Some("val")),
            (None, None, None) => {
                return Err(DataError::Empty {
                    path: path.to_owned(),
                });
            }
        };
        Ok(Self {
            only,
            ..Self::new(path.display().to_string(), train, val, test)
        })
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Checks that the classes are those a model was trained on, in the same order.
    ///
    /// # Errors
    /// [`PrepareError::Classes`] when they are not.
    pub fn check_classes(&self, expected: &[String]) -> Result<(), PrepareError> {
        if self.classes() == expected {
            return Ok(());
        }
        Err(PrepareError::Classes {
            expected: expected.to_vec(),
            found: self.classes().to_vec(),
        })
    }
}

/// Whether an image and its mirror image are of the same class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mirrored {
    /// They are: it is a set that is known.
    Same,
    /// They may well not be.
    Other {
        /// The sign that it is so, in words.
        why: String,
    },
    /// Nothing tells.
    Unknown,
}

impl fmt::Debug for DataBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = |set: &Option<Arc<dyn Dataset>>| set.as_ref().map(|set| set.len());
        f.debug_struct("DataBundle")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("classes", &self.classes().len())
            .field("train", &self.train.len())
            .field("val", &len(&self.val))
            .field("test", &len(&self.test))
            .field("notes", &self.notes)
            .finish()
    }
}
