//! Errors of model files.

use std::io;
use std::path::PathBuf;

use keepbest_core::WeightsDigest;

use crate::TensorDigest;
use crate::safetensors::SafetensorsError;
use crate::sniff::FileKind;

/// Why a model file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file can be read but is not a model that can be used.
    #[error("`{}` is not a usable model", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModelFileError,
    },
}

/// Why bytes are not a model that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The file is no safetensors file at all.
    #[error("it holds {holds}, not a model")]
    AnotherKind {
        /// The content, in words.
        holds: FileKind,
    },
    /// The file breaks a rule of safetensors.
    #[error("it is not well-formed safetensors")]
    Safetensors(#[from] SafetensorsError),
    /// The file has no tensors.
    #[error("it holds no tensors")]
    NoTensors,
    /// The file has training state but no weights.
    #[error("it holds only optimizer state ({tensors} tensors such as `{example}`), no weights")]
    OnlyTrainingState {
        /// The number of tensors.
        tensors: usize,
        /// One of their names as in the file.
        example: String,
    },
    /// The header is not what was written.
    #[error("the header is damaged: its digest is {found}, {expected} was recorded")]
    HeaderDamaged {
        /// Digest in the file.
        expected: String,
        /// Digest of what is there.
        found: String,
    },
    /// keepbest's metadata is there without the digest that protects it, or not where keepbest puts
    /// it: another tool wrote the file anew.
    #[error(
        "it carries keepbest metadata but was not written by keepbest, so nothing can be verified: {reason}"
    )]
    NotSealed {
        /// What gives it away.
        reason: &'static str,
    },
    /// A tensor is not what was written.
    #[error("tensor `{tensor}` is damaged: its digest is {found}, {expected} was recorded")]
    TensorDamaged {
        /// Name as in the file.
        tensor: String,
        /// Digest in the file.
        expected: TensorDigest,
        /// Digest of what is there.
        found: TensorDigest,
    },
    /// A tensor's place in the file cannot be read.
    #[error("tensor `{tensor}` cannot be read")]
    TensorUnreadable {
        /// Name as in the file.
        tensor: String,
        /// The system's error.
        source: io::Error,
    },
    /// A tensor has no digest recorded.
    #[error("no digest is recorded for tensor `{tensor}`")]
    TensorUnlisted {
        /// Name as in the file.
        tensor: String,
    },
    /// A digest is recorded for a tensor that is not there.
    #[error("tensor `{tensor}` has a digest recorded but is not there")]
    TensorMissing {
        /// Name as in the file.
        tensor: String,
    },
    /// All tensors are as recorded, the digest of the whole is not.
    #[error("the weights digest is {found}, {expected} was recorded")]
    WeightsDigest {
        /// Digest in the file.
        expected: WeightsDigest,
        /// Digest of what is there.
        found: WeightsDigest,
    },
    /// The file's schema is newer than this keepbest.
    #[error(
        "its metadata has schema {schema} and this keepbest reads up to {newest}: it takes {producer} or newer"
    )]
    UnknownSchema {
        /// Schema of the file.
        schema: u64,
        /// Newest schema that this build reads.
        newest: u32,
        /// Who wrote the file.
        producer: String,
    },
    /// A key that the file's schema does not have.
    #[error(
        "its metadata has the key `{key}`, which schema {schema} does not have: it takes {producer} or newer"
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// Schema of the file.
        schema: u64,
        /// Who wrote the file.
        producer: String,
    },
    /// A key stands twice in the metadata.
    #[error("its metadata has the key `{key}` twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// More values in the metadata than any model has.
    #[error("its metadata has more than {limit} values, the limit")]
    TooManyValues {
        /// The most read.
        limit: usize,
    },
    /// keepbest's metadata is not JSON of the right form.
    #[error("its metadata is malformed")]
    Metadata(#[source] serde_json::Error),
    /// A params-only file with what only a full model has.
    #[error("it says it is params-only but holds {what}")]
    NotOnlyParams {
        /// The other content, in words.
        what: &'static str,
    },
}
