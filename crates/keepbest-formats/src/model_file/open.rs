//! Reading and verifying model files.

use std::path::Path;

use bytes::Bytes;

use super::{HEADER_DIGEST_KEY, Kind, METADATA_KEY, ModelFile, ModelFileError, OpenError};
use super::{Seal, TRAINING_PREFIX, metadata, seal};
use crate::StateDict;
use crate::digest::{combine, digest_tensors};
use crate::map::map_file;
use crate::safetensors::{self, Safetensors};
use crate::sniff::{FileKind, sniff};

/// Whether to look at every byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verify {
    All,
    Nothing,
}

impl ModelFile {
    /// Opens and verifies a model file: header and every tensor against the digests that it
    /// carries. A foreign safetensors file has none and is checked for its form alone.
    ///
    /// The file is mapped, not read into memory; see [`map_file`] for what that
    /// asks of others.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, is of another kind, or holds no weights: the error
    /// says which, and names the tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        open(path.as_ref(), Verify::All)
    }

    /// Opens a model file without verifying digests: only the header is read.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that damaged bytes go unnoticed.
    pub fn open_unverified(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        open(path.as_ref(), Verify::Nothing)
    }

    /// Reads and verifies a model file that is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(file: Bytes) -> Result<Self, ModelFileError> {
        read(&file, Verify::All)
    }

    /// Reads a model file that is in memory without verifying digests.
    ///
    /// # Errors
    /// As [`open_unverified`](Self::open_unverified).
    pub fn from_bytes_unverified(file: Bytes) -> Result<Self, ModelFileError> {
        read(&file, Verify::Nothing)
    }
}

fn open(path: &Path, verify: Verify) -> Result<ModelFile, OpenError> {
    let file = map_file(path).map_err(|source| OpenError::Io {
        path: path.into(),
        source,
    })?;
    read(&file, verify).map_err(|source| OpenError::Model {
        path: path.into(),
        source,
    })
}

fn read(file: &Bytes, verify: Verify) -> Result<ModelFile, ModelFileError> {
    match sniff(file) {
        FileKind::Safetensors => {}
        holds => return Err(ModelFileError::AnotherKind { holds }),
    }
    let header = safetensors::header_bytes(file)?;
    if verify == Verify::All {
        seal::check(header)?;
    }
    let Safetensors {
        tensors,
        metadata: mut other,
    } = safetensors::read(file)?;
    let sealed = match (other.remove(HEADER_DIGEST_KEY), other.remove(METADATA_KEY)) {
        (None, None) => None,
        (Some(_), Some(json)) if seal::is_sealed(header) => Some(metadata::from_json(&json)?),
        (Some(_), Some(_)) => {
            return Err(ModelFileError::NotSealed {
                reason: "the header's digest is not at its place",
            });
        }
        (None, Some(_)) => {
            return Err(ModelFileError::NotSealed {
                reason: "the header's digest is missing",
            });
        }
        (Some(_), None) => {
            return Err(ModelFileError::NotSealed {
                reason: "there is a header's digest but no metadata",
            });
        }
    };
    if let Some((_, seal)) = &sealed {
        check_tensors(&tensors, seal, verify)?;
    }
    let example = tensors.names().next().map(str::to_owned);
    let count = tensors.len();
    let (training, weights) = tensors.split_prefix(TRAINING_PREFIX);
    match example {
        None => return Err(ModelFileError::NoTensors),
        Some(example) if weights.is_empty() => {
            return Err(ModelFileError::OnlyTrainingState {
                tensors: count,
                example,
            });
        }
        Some(_) => {}
    }
    let (metadata, seal) = sealed.unzip();
    if let Some(metadata) = &metadata
        && metadata.kind == Kind::Params
        && let Some(what) = metadata.beyond_params(&training)
    {
        return Err(ModelFileError::NotOnlyParams { what });
    }
    Ok(ModelFile {
        metadata,
        seal,
        weights,
        training,
        other,
    })
}

/// Every tensor has its digest, every digest its tensor; and if asked, they match.
fn check_tensors(tensors: &StateDict, seal: &Seal, verify: Verify) -> Result<(), ModelFileError> {
    for name in tensors.names() {
        if !seal.tensors.contains_key(name) {
            return Err(ModelFileError::TensorUnlisted {
                tensor: name.into(),
            });
        }
    }
    if let Some(name) = seal.tensors.keys().find(|name| !tensors.contains(name)) {
        return Err(ModelFileError::TensorMissing {
            tensor: name.clone(),
        });
    }
    if verify == Verify::Nothing {
        return Ok(());
    }
    let digests = digest_tensors(&tensors.iter().map(|(_, tensor)| tensor).collect::<Vec<_>>());
    for ((name, _), found) in tensors.iter().zip(&digests) {
        let expected = seal.tensors[name];
        if expected != *found {
            return Err(ModelFileError::TensorDamaged {
                tensor: name.into(),
                expected,
                found: *found,
            });
        }
    }
    let mut weights = StateDict::new();
    let mut weights_digests = Vec::new();
    for ((name, tensor), digest) in tensors.iter().zip(digests) {
        if !name.starts_with(TRAINING_PREFIX) {
            // Names are unique: they come from a state dict.
            if weights.insert(name, tensor.clone()).is_ok() {
                weights_digests.push(digest);
            }
        }
    }
    let found = combine(&weights, &weights_digests);
    if found != seal.weights_digest {
        return Err(ModelFileError::WeightsDigest {
            expected: seal.weights_digest,
            found,
        });
    }
    Ok(())
}
