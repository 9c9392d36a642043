//! Reading and verifying model files.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::{HEADER_DIGEST_KEY, Kind, METADATA_KEY, ModelFile, ModelFileError, OpenError};
use super::{Seal, TRAINING_PREFIX, metadata, seal};
use crate::digest::{combine, digest_parts, digest_tensors};
use crate::map::{map_open_file, open_regular};
use crate::safetensors::{self, Safetensors};
use crate::sniff::{FileKind, sniff};
use crate::{StateDict, Tensor};

/// Whether to look at every byte, and where.
#[derive(Clone, Copy)]
enum Verify<'a> {
    InMemory,
    /// By reading the file and not through its mapping, which would make every page of it part of this process's memory.
    InFile(&'a File),
    Nothing,
}

impl ModelFile {
    /// Opens and verifies a model file: header and every tensor against the digests that it
    /// carries. A foreign safetensors file has none and is checked for its form alone.
    ///
    /// The file is read once, piece by piece, and then mapped: tensors take memory when they are used. See
    /// [`map_file`](crate::map_file) for what that asks of others.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, is of another kind, or holds no weights: the error
    /// says which, and names the tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let file = open(path)?;
        read_mapped(path, &file, Verify::InFile(&file))
    }

    /// Reads and verifies a model file that is open; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read_open(path: &Path, file: &File) -> Result<Self, OpenError> {
        read_mapped(path, file, Verify::InFile(file))
    }

    /// Opens a model file without verifying digests: only the header is read.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that damaged bytes go unnoticed.
    pub fn open_unverified(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        read_mapped(path, &open(path)?, Verify::Nothing)
    }

    /// Reads and verifies a model file that is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(file: Bytes) -> Result<Self, ModelFileError> {
        read(&file, Verify::InMemory)
    }

    /// Reads a model file that is in memory without verifying digests.
    ///
    /// # Errors
    /// As [`open_unverified`](Self::open_unverified).
    pub fn from_bytes_unverified(file: Bytes) -> Result<Self, ModelFileError> {
        read(&file, Verify::Nothing)
    }
}

fn open(path: &Path) -> Result<File, OpenError> {
    open_regular(path).map_err(|source| OpenError::Io {
        path: path.into(),
        source,
    })
}

fn read_mapped(path: &Path, file: &File, verify: Verify<'_>) -> Result<ModelFile, OpenError> {
    let bytes = map_open_file(file).map_err(|source| OpenError::Io {
        path: path.into(),
        source,
    })?;
    read(&bytes, verify).map_err(|source| OpenError::Model {
        path: path.into(),
        source,
    })
}

fn read(file: &Bytes, verify: Verify<'_>) -> Result<ModelFile, ModelFileError> {
    match sniff(file) {
        FileKind::Safetensors => {}
        holds => return Err(ModelFileError::AnotherKind { holds }),
    }
    let header = safetensors::header_bytes(file)?;
    if !matches!(verify, Verify::Nothing) {
        seal::check(header)?;
    }
    let Safetensors {
        tensors,
        metadata: mut other,
    } = safetensors::read(file)?;
    let sealed = match (other.remove(HEADER_DIGEST_KEY), other.remove(METADATA_KEY)) {
        (None, None) => None,
        (Some(digest), Some(json)) if seal::is_sealed(header) => {
            let digest = digest.parse().map_err(|_| ModelFileError::NotSealed {
                reason: "the header's digest is not one",
            })?;
            Some(metadata::from_json(&json, digest)?)
        }
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
        check_tensors(file, &tensors, seal, verify)?;
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

/// The place in the file of a tensor, which is a view of the file.
fn place(file: &Bytes, tensor: &Tensor) -> Range<usize> {
    let bytes = tensor.bytes();
    // An empty view need not point into the file.
    let start = match bytes.len() {
        0 => 0,
        _ => bytes.as_ptr() as usize - file.as_ptr() as usize,
    };
    start..start + bytes.len()
}

/// Every tensor has its digest, every digest its tensor; and if asked, they match.
fn check_tensors(
    file: &Bytes,
    tensors: &StateDict,
    seal: &Seal,
    verify: Verify<'_>,
) -> Result<(), ModelFileError> {
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
    let digests = match verify {
        Verify::Nothing => return Ok(()),
        Verify::InMemory => digest_tensors(&tensors.iter().map(|(_, t)| t).collect::<Vec<_>>()),
        Verify::InFile(source) => {
            let parts: Vec<_> = tensors.iter().map(|(_, t)| place(file, t)).collect();
            let digests = digest_parts(source, &parts)
                .into_iter()
                .zip(tensors.names());
            digests
                .map(|(digest, name)| {
                    digest.map_err(|source| ModelFileError::TensorUnreadable {
                        tensor: name.into(),
                        source,
                    })
                })
                .collect::<Result<_, _>>()?
        }
    };
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
