//! Which images to measure on.

use std::path::PathBuf;

/// The place where images lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSource {
    /// A set's name, or a folder; by default what the model was trained with.
    pub data: Option<String>,
    /// The place of a named set, when not at its usual one.
    pub dir: Option<PathBuf>,
}

/// A part of the data, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was trained on.
    Train,
    /// What the best was chosen on.
    Val,
    /// What nothing was chosen on.
    Test,
    /// All of it.
    All,
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::All => "all",
        }
    }
}

/// Which images to measure on.
#[derive(Debug, Clone, Default)]
pub struct ImageChoice {
    /// The place where they lie; by default that of the images of the training.
    pub source: ImageSource,
    /// Which part of them. By default test where the data has one, and else val of the data the model was trained on and all of any
    /// other.
    pub split: Option<Part>,
    /// Whether images of classes that the model does not know are left out.
    pub skip_extra_classes: bool,
    /// Whether images of a size or kind that the model has not seen are refused instead of converted.
    pub strict: bool,
}
