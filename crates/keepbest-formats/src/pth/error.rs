//! Errors of PyTorch files.

use std::io;
use std::path::PathBuf;

use super::DangerousCall;
use super::pickle::PickleError;
use crate::sniff::FileKind;
use crate::zip::ZipError;
use crate::{DuplicateTensor, TensorError};

/// Why a PyTorch file cannot be read, or no weights found in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PthError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is something else.
    #[error("it holds {holds}, not a PyTorch checkpoint")]
    AnotherKind {
        /// The content, in words.
        holds: FileKind,
    },
    /// The zip archive is malformed or damaged.
    #[error("its zip archive cannot be read")]
    Zip(#[from] ZipError),
    /// The pickle is malformed or too large.
    #[error("its pickle cannot be read")]
    Pickle(#[from] PickleError),
    /// An archive without what every PyTorch archive has.
    #[error("the archive has no `data.pkl`")]
    NoPickle,
    /// A record with another content than PyTorch writes.
    #[error("its {what} is not what PyTorch writes")]
    Malformed {
        /// Which record.
        what: &'static str,
    },
    /// The file ends early.
    #[error("truncated: {what} is missing")]
    Truncated {
        /// The missing part, in words.
        what: String,
    },
    /// The pickle calls dangerous functions: the file was made to attack who opens it.
    #[error("refused: its pickle would call {}", called(.calls))]
    Dangerous {
        /// The function that it would call.
        calls: Vec<DangerousCall>,
    },
    /// A dangerous call makes the weights, or gets them as an argument: what they are depends on what it does.
    #[error("the weights depend on what {} does", called(.calls))]
    Touched {
        /// The function that it would call.
        calls: Vec<DangerousCall>,
    },
    /// A tensor whose description makes no sense.
    #[error("a tensor is described with {what}")]
    MalformedTensor {
        /// The fault, in words.
        what: &'static str,
    },
    /// A tensor reaches past the end of its storage.
    #[error("it reaches past the end of storage `{storage}`, which has {elements} elements")]
    OutsideStorage {
        /// The storage.
        storage: String,
        /// Its elements.
        elements: usize,
    },
    /// A storage has another size than the pickle says.
    #[error("storage `{storage}` has {found} elements, the pickle says {expected}")]
    StorageSize {
        /// The storage.
        storage: String,
        /// Elements by the pickle.
        expected: i64,
        /// Elements in the file.
        found: usize,
    },
    /// A storage that the file does not hold.
    #[error("storage `{storage}` is not in the file")]
    NoStorage {
        /// The storage.
        storage: String,
    },
    /// Copies beyond the limit.
    #[error("a tensor would be copied to {bytes} bytes, {left} are left of the limit")]
    TooManyCopies {
        /// Bytes of the tensor.
        bytes: u64,
        /// Bytes left.
        left: u64,
    },
    /// More tensors than the limit.
    #[error("there are more than {limit} tensors")]
    TooManyTensors {
        /// [`Limits::tensors`](super::Limits::tensors).
        limit: usize,
    },
    /// Modules share others so often that following them takes too long.
    #[error("modules refer to values in more than {limit} places")]
    TooManyPlaces {
        /// [`Limits::values`](super::Limits::values).
        limit: usize,
    },
    /// A name beyond any that a model has.
    #[error("a tensor's name has {bytes} bytes, more than {limit}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// Modules in one another beyond the limit.
    #[error("modules are nested more than {limit} deep")]
    TooDeep {
        /// [`Limits::depth`](super::Limits::depth).
        limit: usize,
    },
    /// A tensor cannot be read.
    #[error("tensor `{tensor}` cannot be read")]
    InTensor {
        /// Its name.
        tensor: String,
        /// Why.
        source: Box<PthError>,
    },
    /// A tensor that cannot exist on this machine.
    #[error("a tensor cannot be represented")]
    Tensor(#[from] TensorError),
    /// Two tensors of one name.
    #[error("two tensors have one name")]
    Duplicate(#[from] DuplicateTensor),
    /// There is no state dict.
    #[error("no weights found: it holds {holds}")]
    NoWeights {
        /// The content, in words.
        holds: String,
        /// Keys that lead to weights further in, such as `state.model`.
        nested: Vec<String>,
    },
    /// The key asked for is not there.
    #[error("there is no `{key}`; {}", there_are(.found))]
    NoSuchKey {
        /// The key.
        key: String,
        /// Keys that are there.
        found: Vec<String>,
    },
    /// Several state dicts and none that is known to be the one.
    #[error("it holds several state dicts and does not say which is the model: {}", list(.found))]
    Ambiguous {
        /// Their keys.
        found: Vec<String>,
    },
}

fn called(calls: &[DangerousCall]) -> String {
    const SHOWN: usize = 4;
    let shown = calls.iter().take(SHOWN).map(ToString::to_string);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if calls.len() > SHOWN {
        text.push_str(&format!(" and {} more", calls.len() - SHOWN));
    }
    text
}

fn there_are(keys: &[String]) -> String {
    match keys {
        [] => "it has no keys with weights under them".into(),
        keys => format!("there are {}", list(keys)),
    }
}

/// Names in backticks, shortened.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
