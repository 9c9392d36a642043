//! Weights in several files (shards) with an index, as Hugging Face's libraries write large models: `model.safetensors.index.json`
//! beside `model-00001-of-00002.safetensors`, or the same with `.bin` files of PyTorch.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::pth::{PthError, PthFile};
use crate::safetensors::{self, SafetensorsError};
use crate::sniff::{FileKind, sniff};
use crate::{DuplicateTensor, StateDict, map_file, read_text};

/// What names of indices end with.
pub const INDEX_ENDING: &str = ".index.json";

/// Longest index read, in bytes: 100,000 tensors take a tenth of it.
const INDEX_LIMIT: u64 = 64 << 20;

/// Shards of one model at most.
const SHARDS_LIMIT: usize = 10_000;

/// Why weights in several files cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardedError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The index is no JSON with a `weight_map` of names to files.
    #[error("`{}` is no index of shards", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// The fault, in words.
        source: serde_json::Error,
    },
    /// The index names no tensor.
    #[error("`{}` names no tensors", path.display())]
    Empty {
        /// The index.
        path: PathBuf,
    },
    /// More shards than any model has.
    #[error("there are {found} shards, more than the limit of {limit}")]
    TooMany {
        /// The value in the index.
        found: usize,
        /// The most read.
        limit: usize,
    },
    /// A shard that is not beside the index.
    #[error("the index names the shard {name:?}, which is no name of a file beside it")]
    Name {
        /// The value in the index.
        name: String,
    },
    /// A shard is of another kind.
    #[error("the shard `{}` holds {holds}, neither safetensors nor a PyTorch checkpoint", path.display())]
    AnotherKind {
        /// The shard.
        path: PathBuf,
        /// The content, in words.
        holds: FileKind,
    },
    /// A shard of safetensors is malformed.
    #[error("the shard `{}` is not well-formed", path.display())]
    Safetensors {
        /// The shard.
        path: PathBuf,
        /// Why.
        source: SafetensorsError,
    },
    /// A shard of PyTorch cannot be read.
    #[error("the shard `{}` cannot be read", path.display())]
    Pth {
        /// The shard.
        path: PathBuf,
        /// Why.
        source: Box<PthError>,
    },
    /// Index and shard contradict each other.
    #[error("tensor `{tensor}` is {what} the shard `{}`", path.display())]
    Tensor {
        /// The tensor.
        tensor: String,
        /// `not in`, or `not listed for`.
        what: &'static str,
        /// The shard.
        path: PathBuf,
    },
    /// Two shards have a tensor of one name.
    #[error("two shards have a tensor of one name")]
    Duplicate(#[from] DuplicateTensor),
}

/// The index as it stands in the file; other keys are of no consequence.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Weights read from several files.
#[derive(Debug, Clone)]
pub struct Sharded {
    /// All of them, in the order of the files and of the tensors in each.
    pub weights: StateDict,
    /// The number of files.
    pub shards: usize,
}

/// Whether a file's name is that of an index.
#[must_use]
pub fn is_index(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(INDEX_ENDING))
}

/// Reads the weights that an index leads to: files beside it, each tensor from where the index says that it is.
///
/// # Errors
/// [`ShardedError`], which names the file: when one is missing, of another kind or malformed, or holds other tensors than the
/// index says.
pub fn open(index: &Path) -> Result<Sharded, ShardedError> {
    let text = read_text(index, INDEX_LIMIT).map_err(|source| ShardedError::Io {
        path: index.into(),
        source,
    })?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|source| ShardedError::Index {
            path: index.into(),
            source,
        })?;
    drop(text);
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    if names.is_empty() {
        return Err(ShardedError::Empty { path: index.into() });
    }
    if names.len() > SHARDS_LIMIT {
        return Err(ShardedError::TooMany {
            found: names.len(),
            limit: SHARDS_LIMIT,
        });
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut weights = StateDict::new();
    for name in &names {
        let mut parts = Path::new(name).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(ShardedError::Name {
                name: (*name).into(),
            });
        }
        let path = folder.join(name);
        for (tensor, value) in shard(&path)?.iter() {
            if weight_map.get(tensor).map(String::as_str) != Some(name) {
                return Err(ShardedError::Tensor {
                    tensor: tensor.into(),
                    what: "not listed for",
                    path,
                });
            }
            weights.insert(tensor, value.clone())?;
        }
    }
    if let Some((tensor, name)) = weight_map
        .iter()
        .find(|(tensor, _)| !weights.contains(tensor))
    {
        return Err(ShardedError::Tensor {
            tensor: tensor.clone(),
            what: "not in",
            path: folder.join(name),
        });
    }
    Ok(Sharded {
        weights,
        shards: names.len(),
    })
}

/// The tensors of one file.
fn shard(path: &Path) -> Result<StateDict, ShardedError> {
    let file = map_file(path).map_err(|source| ShardedError::Io {
        path: path.into(),
        source,
    })?;
    match sniff(&file) {
        FileKind::Safetensors => match safetensors::read(&file) {
            Ok(read) => Ok(read.tensors),
            Err(source) => Err(ShardedError::Safetensors {
                path: path.into(),
                source,
            }),
        },
        kind if PthFile::reads(kind) => {
            let read = PthFile::from_bytes(file, Default::default());
            match read.and_then(|file| file.weights_as_named(None)) {
                Ok(found) => Ok(found.weights),
                Err(source) => Err(ShardedError::Pth {
                    path: path.into(),
                    source: Box::new(source),
                }),
            }
        }
        holds => Err(ShardedError::AnotherKind {
            path: path.into(),
            holds,
        }),
    }
}
