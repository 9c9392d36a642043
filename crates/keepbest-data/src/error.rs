//! Errors, one type an operation. Hints are apart from the messages: see the `hint` methods.

use std::io;
use std::path::PathBuf;

use crate::ImageShape;

/// A data set or an image could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Whoever watched said to stop.
    #[error("interrupted while the images were read")]
    Interrupted,
    /// The path does not exist.
    #[error("{}: no such file or folder", path.display())]
    NotFound {
        /// The value asked for.
        path: PathBuf,
    },
    /// Neither a known name nor a folder.
    #[error("no data set is called `{spec}`, and there is no folder of that name")]
    UnknownSource {
        /// The value asked for.
        spec: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The four files of Fashion-MNIST are in none of the folders looked at.
    #[error(
        "the full Fashion-MNIST is not on this machine (looked in {})",
        join(looked)
    )]
    FashionMnistMissing {
        /// The folders looked at, in order.
        looked: Vec<PathBuf>,
    },
    /// A file is needed, and this is something else.
    #[error("{}: it is {found}, not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, in words: a folder, a named pipe, a device, a socket.
        found: &'static str,
    },
    /// There is more than is taken in.
    #[error("{}: {found} {what}; the limit is {limit}", path.display())]
    OverLimit {
        /// The file or folder.
        path: PathBuf,
        /// The number found, or declared.
        found: u64,
        /// The thing counted, in words: bytes, classes, files.
        what: String,
        /// The most there may be.
        limit: u64,
    },
    /// The folder holds none of the layouts that can be read.
    #[error("{}: not a data set: found {found}", path.display())]
    Unrecognised {
        /// The folder.
        path: PathBuf,
        /// What is in it, in words.
        found: String,
    },
    /// The folder or file holds no image at all.
    #[error("{}: it holds no images", path.display())]
    Empty {
        /// The folder or file.
        path: PathBuf,
    },
    /// None of the images of a set can be read, where such are left out.
    #[error("none of the {count} image{} of {} can be read; the first: {first}", plural(*count), path.display())]
    NoneReadable {
        /// The folder that they are in, or the table that lists them.
        path: PathBuf,
        /// The number of images in the set.
        count: usize,
        /// The first, and why.
        first: String,
    },
    /// An archive, which is to be unpacked first.
    #[error("{}: it is an archive ({kind}), which is not read", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Its extension.
        kind: String,
    },
    /// Folders that can be meant as classes or as splits.
    #[error("{}: not clear what are classes and what are splits: {found}", path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// What was found, in words.
        found: String,
    },
    /// No array of a NumPy archive is called as images are, and no shapes tell.
    #[error("{}: no array in it is called as images and labels are; found {found}", path.display())]
    NoImageArrays {
        /// The archive.
        path: PathBuf,
        /// The arrays, with type and shape.
        found: String,
    },
    /// The source has images to measure on and none to train on.
    #[error("{origin}: there are {split} images alone, and none to train on")]
    NothingToTrainOn {
        /// The source.
        origin: String,
        /// The split that there is.
        split: &'static str,
    },
    /// A class folder of the training set holds no image.
    #[error("{}: class `{class}` has no images{}", path.display(), if found.is_empty() { String::new() } else { format!(" (found {found})") })]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
        /// Its name.
        class: String,
        /// What is in it instead, in words; empty when nothing is.
        found: String,
    },
    /// A file that belongs to the data set is missing.
    #[error("{}: missing; {needed_by} needs it", path.display())]
    MissingFile {
        /// The missing file.
        path: PathBuf,
        /// The file or layout it belongs to.
        needed_by: String,
    },
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word on it.
        source: io::Error,
    },
    /// The file is of another kind.
    #[error("{}: magic number {found:#010x}, expected {expected:#010x} ({kind})", path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// The number that was expected.
        expected: u32,
        /// The number in the file.
        found: u32,
        /// What a file with the expected number holds.
        kind: &'static str,
    },
    /// The file ends too early.
    #[error("{}: truncated: expected {expected} bytes, found {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes (uncompressed) that its header declares or its format needs.
        expected: u64,
        /// Bytes (uncompressed) there are.
        found: u64,
    },
    /// The file goes on after its declared end.
    #[error("{}: bytes after the end: expected {expected} bytes, found {}{found}", path.display(), if *at_least { "at least " } else { "" })]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes (uncompressed) that its header declares.
        expected: u64,
        /// Bytes (uncompressed) found.
        found: u64,
        /// Whether reading stopped before the real end was known.
        at_least: bool,
    },
    /// A header declares more than such a file can hold.
    #[error("{}: the header declares {dimensions:?}, more than this file can hold", path.display())]
    ImplausibleSize {
        /// The file.
        path: PathBuf,
        /// The dimensions declared.
        dimensions: Vec<u64>,
    },
    /// Images and labels do not go together.
    #[error("{} has {images} images, {} has {labels} labels", images_path.display(), labels_path.display())]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// The number that it has.
        images: u64,
        /// The file of labels.
        labels_path: PathBuf,
        /// The number that it has.
        labels: u64,
    },
    /// A label is not one of the classes.
    #[error("{origin}: label {label} at index {index} is out of range: there are {classes} classes (0 to {})", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The file or set that holds the label.
        origin: String,
        /// Position in that file or set, from 0.
        index: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A row of a table of images is not one.
    #[error("{}: line {line}{}: {reason}", path.display(), column.map_or(String::new(), |column| format!(", column {column}")))]
    Table {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1; `None` when it is about the line.
        column: Option<usize>,
        /// The fault, in words.
        reason: String,
    },
    /// Images that a table lists are not there.
    #[error("{}: {missing} of its {listed} image{} {} missing; the first is {} (line {line})", path.display(), plural(*listed), if *missing == 1 { "is" } else { "are" }, first.display())]
    MissingImages {
        /// The table.
        path: PathBuf,
        /// The number of missing files.
        missing: usize,
        /// The number of files that it lists.
        listed: usize,
        /// The first that is missing.
        first: PathBuf,
        /// The line that lists it, from 1.
        line: u64,
    },
    /// A NumPy archive cannot be read, or an array in it is not what it should be.
    #[error("{}{}: {reason}", path.display(), if array.is_empty() { String::new() } else { format!(": array `{array}`") })]
    Npz {
        /// The archive.
        path: PathBuf,
        /// The array; empty when it is about the archive.
        array: String,
        /// The fault, in words.
        reason: String,
    },
    /// An image file could not be decoded.
    #[error("cannot decode {}{}", path.display(), more(*others))]
    Image {
        /// The file (the first one, where several were found).
        path: PathBuf,
        /// The number of further files that could not be decoded either.
        others: usize,
        /// The decoder's word on it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A set to evaluate on has a class that the training set does not have.
    #[error("{}: class `{class}` is unknown to the training set", path.display())]
    UnknownClass {
        /// The class folder.
        path: PathBuf,
        /// Its name.
        class: String,
    },
    /// A folder or class name is not valid: not UTF-8, empty, or twice there.
    #[error("{}: bad class name: {reason}", path.display())]
    ClassName {
        /// The folder, or the file of class names.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
    /// There is no image with this index.
    #[error("{origin}: no image {index}: there are {len}")]
    NoSuchImage {
        /// The file or set.
        origin: String,
        /// The index asked for, from 0.
        index: usize,
        /// The number of images.
        len: usize,
    },
    /// Pixels, labels and shape given in memory do not go together.
    #[error("{origin}: {bytes} bytes of pixels for {labels} labels of {shape} images")]
    InconsistentMemory {
        /// The set's name.
        origin: String,
        /// Bytes of pixels.
        bytes: usize,
        /// Number of labels.
        labels: usize,
        /// Shape of one image.
        shape: ImageShape,
    },
}

/// A split could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The fraction is not between 0 and 1.
    #[error("split fraction {fraction} is not between 0 and 1 (both excluded)")]
    Fraction {
        /// The fraction.
        fraction: f64,
    },
    /// A class has too few images to be in every part.
    #[error("class {} has {images} image{}: a split needs at least {needed}", class_name(*class, name), plural(*images))]
    ClassTooSmall {
        /// The class's number.
        class: u32,
        /// The class's name, where known.
        name: Option<String>,
        /// The number of images that it has.
        images: usize,
        /// The number that it takes.
        needed: usize,
    },
    /// There is nothing to split.
    #[error("there are no images to split")]
    Empty,
}

impl SplitError {
    /// A remedy, where there is one.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::ClassTooSmall { .. }).then(|| {
            "add images to the class, or bring a validation set of your own (a val/ folder)"
                .to_owned()
        })
    }

    pub(crate) fn named(self, classes: &[String]) -> Self {
        match self {
            Self::ClassTooSmall {
                class,
                images,
                needed,
                ..
            } => Self::ClassTooSmall {
                class,
                name: classes.get(class as usize).cloned(),
                images,
                needed,
            },
            other => other,
        }
    }
}

/// An image does not fit the preprocessing, or the preprocessing makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessingError {
    /// Another size or number of channels, and no rule recorded that would convert it.
    #[error("image is {found}, the model expects {expected}")]
    Shape {
        /// The image's shape.
        found: ImageShape,
        /// The shape the model takes.
        expected: ImageShape,
    },
    /// The output slice has the wrong length.
    #[error("output has {found} values, one image has {expected}")]
    OutputLength {
        /// Values in an image of the model's input shape.
        expected: usize,
        /// Values in the slice.
        found: usize,
    },
    /// A field has a value that makes no sense.
    #[error("preprocessing: `{field}` {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The fault, in words.
        reason: String,
    },
    /// Statistics of no images.
    #[error("there are no images to compute the normalisation on")]
    NoImages,
}

/// A data set could not be made ready for training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// Reading failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Splitting failed.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The options or the preprocessing make no sense.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// One image does not fit.
    #[error("{origin}")]
    Image {
        /// The image: a path, or a set and an index.
        origin: String,
        /// Why it does not fit.
        source: PreprocessingError,
    },
    /// A model that was trained on other classes meets this data.
    #[error("the data has classes {found:?}, the model was trained on {expected:?}")]
    Classes {
        /// The classes of the model.
        expected: Vec<String>,
        /// The classes of the data.
        found: Vec<String>,
    },
}

impl PrepareError {
    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Data(DataError::Interrupted))
    }

    /// A remedy, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Split(error) => error.hint(),
            _ => None,
        }
    }
}

/// The loader could not deliver a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Whoever waited for a batch said to stop.
    #[error("interrupted while images were loaded")]
    Interrupted,
    /// Reading an image failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// One image does not fit the preprocessing.
    #[error("{origin}")]
    Image {
        /// The image: a path, or a set and an index.
        origin: String,
        /// Why it does not fit.
        source: PreprocessingError,
    },
    /// The preprocessing makes no sense.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// A batch of no images.
    #[error("the batch size is 0")]
    EmptyBatch,
    /// There are no images.
    #[error("there are no images to load")]
    NoImages,
    /// Fewer images than one batch takes.
    #[error("the batch size {batch_size} is larger than the training set ({images} images)")]
    BatchLargerThanData {
        /// The batch size.
        batch_size: usize,
        /// Images in the set.
        images: usize,
    },
    /// The loader's thread could not be started.
    #[error("cannot start the loader's thread")]
    Thread {
        /// The operating system's word on it.
        source: io::Error,
    },
    /// The loader's thread ended before the epoch did: a data set's own code panicked.
    #[error("the loader's thread stopped: {message}")]
    Stopped {
        /// The panic's message.
        message: String,
    },
}

impl LoadError {
    /// A remedy, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::BatchLargerThanData { images, .. } => {
                Some(format!("use a batch size of at most {images}"))
            }
            _ => None,
        }
    }
}

fn join(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn more(others: usize) -> String {
    if others == 0 {
        String::new()
    } else {
        format!(" (and {others} more)")
    }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn class_name(class: u32, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("`{name}`"),
        None => class.to_string(),
    }
}
