//! PyTorch's files (`.pth`, `.pt`, `.ckpt`), read without running anything, and written as PyTorch's own.
//!
//! Such a file is a pickle, which is a program, beside tensors. Here the program is read as data
//! ([`PthFile`]): names that it would import stay names, calls stay records. What PyTorch itself
//! writes for tensors and containers is understood; everything else is kept as an inert
//! [`Record`] and listed with its [`Trust`].
//!
//! [`encode`] writes a [`Tree`] of values, such as a state dict; [`Checkpoint`] writes and reads all that
//! training needs to go on.
//!
//! ```no_run
//! use keepbest_formats::pth::PthFile;
//! let file = PthFile::open("checkpoint.pth")?;
//! let found = file.weights(None)?;
//! println!("{} tensors under {:?}", found.weights.len(), found.key);
//! # Ok::<(), keepbest_formats::pth::PthError>(())
//! ```

mod archive;
mod calls;
mod checkpoint;
mod dtypes;
mod error;
mod find;
mod globals;
mod json;
mod legacy;
mod limits;
mod module;
mod numpy;
pub(crate) mod optimizer;
mod pairs;
mod pickle;
mod tar;
mod tensor;
mod tree;
mod value;
mod write;

use std::fmt;
use std::path::Path;

use bytes::Bytes;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use error::PthError;
pub use find::{FoundWeights, Skipped};
pub use globals::{DangerousCall, Trust, trust};
pub use json::JsonError;
pub use limits::Limits;
pub use module::ModuleTree;
pub use optimizer::{OptimizerError, OptimizerState};
pub use pickle::{Global, GlobalUse, PickleError};
pub use tensor::{StorageRef, TensorInfo, TensorRef};
pub use tree::{Key, Tree};
pub use value::{Elements, Entries, Record, Value};
pub use write::{PthImage, WriteError, encode};

use crate::sniff::{FileKind, sniff};
use crate::{Tensor, map_file};
use archive::TorchArchive;
use calls::Calls;
use legacy::Legacy;
use pickle::{Graph, Id, Parsed, parse};
use tensor::{Storages, TensorLoader};

/// A layout of PyTorch files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// Zip archive, since PyTorch 1.6.
    Zip,
    /// Zip archive with a TorchScript program.
    TorchScript,
    /// Pickles one after another, before 1.6.
    Legacy,
    /// Tar archive, before 0.1.10.
    Tar,
    /// A pickle alone, of arrays of NumPy.
    Pickle,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Container::Zip => "PyTorch zip archive",
            Container::TorchScript => "TorchScript archive",
            Container::Legacy => "PyTorch file in the form before 1.6",
            Container::Tar => "PyTorch tar archive in the form before 0.1.10",
            Container::Pickle => "Python pickle",
        })
    }
}

/// A PyTorch file as data.
pub struct PthFile {
    container: Container,
    version: Option<String>,
    protocol: u8,
    calls: Calls,
    graph: Graph,
    root: Id,
    storages: Box<dyn Storages + Send + Sync>,
    limits: Limits,
    length: usize,
}

impl PthFile {
    /// Opens and reads a file: its pickle now, its tensors when they are asked for. The file is mapped;
    /// see [`map_file`] for what that asks of others.
    ///
    /// # Errors
    /// When the file cannot be read, is of another kind, is malformed, or goes over a limit.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PthError> {
        let path = path.as_ref();
        let file = map_file(path).map_err(|source| PthError::Io {
            path: path.into(),
            source,
        })?;
        Self::from_bytes(file, Limits::default())
    }

    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(file: Bytes, limits: Limits) -> Result<Self, PthError> {
        let length = file.len();
        let new = |container, version, mut parsed: Parsed, storages| {
            pairs::settle(&mut parsed.graph, limits.values);
            Self {
                container,
                version,
                protocol: parsed.protocol,
                calls: Calls::of(&parsed.graph),
                graph: parsed.graph,
                root: parsed.root,
                storages,
                limits: limits.clone(),
                length,
            }
        };
        match sniff(&file) {
            FileKind::PytorchZip | FileKind::TorchScript => {
                let (archive, pickle) = TorchArchive::open(file, &limits)?;
                let parsed = parse(&pickle, limits.values)?;
                let container = if archive.is_script {
                    Container::TorchScript
                } else {
                    Container::Zip
                };
                let version = archive.version.clone();
                Ok(new(container, version, parsed, Box::new(archive)))
            }
            FileKind::PytorchLegacy => {
                let (legacy, parsed) = Legacy::open(&file, &limits)?;
                Ok(new(Container::Legacy, None, parsed, Box::new(legacy)))
            }
            FileKind::Tar => {
                let (storages, parsed) = tar::open(&file, &limits)?;
                Ok(new(Container::Tar, None, parsed, Box::new(storages)))
            }
            FileKind::Pickle => {
                if length as u64 > limits.pickle_bytes {
                    let limit = limits.pickle_bytes;
                    let bytes = length as u64;
                    return Err(PickleError::TooLong { bytes, limit }.into());
                }
                let parsed = parse(&file, limits.values)?;
                let storages = Legacy {
                    storages: Default::default(),
                };
                Ok(new(Container::Pickle, None, parsed, Box::new(storages)))
            }
            holds => Err(PthError::AnotherKind { holds }),
        }
    }

    /// Whether files of a kind are read here.
    #[must_use]
    pub fn reads(kind: FileKind) -> bool {
        matches!(
            kind,
            FileKind::PytorchZip
                | FileKind::TorchScript
                | FileKind::PytorchLegacy
                | FileKind::Tar
                | FileKind::Pickle
        )
    }

    /// The layout of the file.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// The archive format's version as the file states it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The pickle's protocol.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether tensors are stored big-endian. What is given out is little-endian always.
    #[must_use]
    pub fn big_endian(&self) -> bool {
        self.storages.big_endian()
    }

    /// The value that was saved.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value::of(&self.graph, self.root)
    }

    /// Every name that the pickle would import, with what it is taken for.
    pub fn globals(&self) -> impl Iterator<Item = (&GlobalUse, Trust)> {
        self.graph
            .globals()
            .iter()
            .map(|global| (global, trust(&global.global)))
    }

    /// The calls that mark the file as an attack; empty for an honest one. To name a dangerous function without calling it, or
    /// handing it to what may call it, is none.
    #[must_use]
    pub fn dangerous(&self) -> &[DangerousCall] {
        &self.calls.calls
    }

    /// A tensor with its bytes, as a view of the file where it lies there in order.
    ///
    /// # Errors
    /// When it is malformed, its storage is missing, damaged or too small, or it would have to be
    /// copied beyond the limit.
    pub fn tensor(&self, tensor: TensorRef<'_>) -> Result<Tensor, PthError> {
        self.loader().load(tensor)
    }

    fn loader(&self) -> TensorLoader<'_> {
        TensorLoader::new(self.storages.as_ref(), self.limits.copies(self.length))
    }
}

impl fmt::Debug for PthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PthFile")
            .field("container", &self.container)
            .field("protocol", &self.protocol)
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}
