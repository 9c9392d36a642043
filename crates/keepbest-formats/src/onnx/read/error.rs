//! Why bytes are no ONNX model.

use std::io;
use std::path::PathBuf;

use crate::{Dtype, TensorError};

/// Why an ONNX file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The bytes are cut short or no protocol buffer where one is expected.
    #[error("{what} is cut short or malformed")]
    Malformed {
        /// The part of the model.
        what: String,
    },
    /// More of something than any model has.
    #[error("the model has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The most that is read.
        limit: usize,
    },
    /// The model has no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// An element type that is not read.
    #[error("tensor `{tensor}` has elements of type {number}, which keepbest does not read")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// `TensorProto.DataType`.
        number: i64,
    },
    /// A side of a shape that is no length.
    #[error("tensor `{tensor}` has a side of {side}")]
    Side {
        /// The tensor.
        tensor: String,
        /// The side.
        side: i64,
    },
    /// Shape and data contradict each other.
    #[error("tensor `{tensor}` does not fit together")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// In what.
        source: TensorError,
    },
    /// A number that the element type does not have.
    #[error("tensor `{tensor}` of {dtype} holds {value}, which that type does not have")]
    Range {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
        /// The number.
        value: i64,
    },
    /// Data in another file that cannot be taken.
    #[error("tensor `{tensor}` has its data in {location:?}: {problem}")]
    External {
        /// The tensor.
        tensor: String,
        /// The place that the model names.
        location: String,
        /// Why not.
        problem: String,
    },
}

impl ReadError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }
}
