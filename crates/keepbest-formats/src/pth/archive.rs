//! The zip form (since PyTorch 1.6, and TorchScript): `root/data.pkl`, `root/data/<key>`, ...

use bytes::Bytes;

use super::tensor::Storages;
use super::{Limits, PickleError, PthError};
use crate::zip::Archive;

/// An opened archive.
pub(super) struct TorchArchive {
    archive: Archive,
    /// Name of the folder that all is in.
    root: String,
    big_endian: bool,
    /// The format's version as the file states it.
    pub(super) version: Option<String>,
    pub(super) is_script: bool,
}

impl TorchArchive {
    /// Opens the archive and returns the bytes of its pickle beside it.
    pub(super) fn open(file: Bytes, limits: &Limits) -> Result<(Self, Bytes), PthError> {
        let mut budget = limits.pickle_bytes;
        let archive = Archive::parse(file)?;
        let mut roots = archive.names().filter_map(|name| {
            let root = name.strip_suffix("/data.pkl")?;
            (!root.contains('/')).then(|| root.to_owned())
        });
        let root = roots.next().ok_or(PthError::NoPickle)?;
        if roots.next().is_some() {
            return Err(PthError::Malformed {
                what: "choice of `data.pkl`",
            });
        }
        drop(roots);
        let pickle_name = format!("{root}/data.pkl");
        let bytes = archive.size(&pickle_name).unwrap_or(0);
        if bytes > limits.pickle_bytes {
            return Err(PickleError::TooLong {
                bytes,
                limit: limits.pickle_bytes,
            }
            .into());
        }
        let pickle = archive.read(&pickle_name, &mut budget)?;
        let mut text = |name: &str| -> Result<Option<String>, PthError> {
            let name = format!("{root}/{name}");
            // A few bytes; anything longer is none of PyTorch's.
            if archive.size(&name).is_none_or(|size| size > 64) {
                return Ok(None);
            }
            let bytes = archive.read(&name, &mut budget)?;
            Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
        };
        let big_endian = match text("byteorder")?.as_deref() {
            None | Some("little") => false,
            Some("big") => true,
            Some(_) => return Err(PthError::Malformed { what: "byte order" }),
        };
        let version = text("version")?;
        let is_script = archive.contains(&format!("{root}/constants.pkl"));
        Ok((
            Self {
                archive,
                root,
                big_endian,
                version,
                is_script,
            },
            pickle,
        ))
    }
}

impl Storages for TorchArchive {
    fn bytes(&self, key: &str, budget: &mut u64) -> Result<Bytes, PthError> {
        let name = format!("{}/data/{key}", self.root);
        if !self.archive.contains(&name) {
            return Err(PthError::NoStorage {
                storage: key.into(),
            });
        }
        Ok(self.archive.read(&name, budget)?)
    }

    fn big_endian(&self) -> bool {
        self.big_endian
    }
}
