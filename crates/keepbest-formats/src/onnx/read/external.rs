//! Data of tensors in files beside the model. A name that leads out of the model's folder is refused, also through a link.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::map_file;

/// Files beside one model at most.
const MOST_FILES: usize = 10_000;

/// The files beside a model, each mapped once.
pub(super) struct External {
    /// The folder of the model; none where the model is bytes alone.
    folder: Option<PathBuf>,
    mapped: BTreeMap<String, Bytes>,
}

impl External {
    pub(super) fn beside(folder: Option<&Path>) -> Self {
        let folder = folder.map(|folder| match folder.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => folder.to_owned(),
        });
        Self {
            folder,
            mapped: BTreeMap::new(),
        }
    }

    /// The part of a file; all behind `offset` where no length is given.
    pub(super) fn bytes(
        &mut self,
        location: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Bytes, String> {
        let file = match self.mapped.get(location) {
            Some(file) => file.clone(),
            None => {
                if self.mapped.len() == MOST_FILES {
                    return Err(format!("the model names more than {MOST_FILES} files"));
                }
                let path = self.path(location)?;
                let file = map_file(path).map_err(|error| error.to_string())?;
                self.mapped.insert(location.to_owned(), file.clone());
                file
            }
        };
        let found = file.len() as u64;
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(found),
        };
        match end {
            Some(end) if offset <= end && end <= found => {
                Ok(file.slice(offset as usize..end as usize))
            }
            _ => Err(format!(
                "it has {found} bytes, too few for {} from {offset} on",
                length.unwrap_or_default()
            )),
        }
    }

    fn path(&self, location: &str) -> Result<PathBuf, String> {
        let Some(folder) = &self.folder else {
            return Err("the model is no file, so nothing is beside it".to_owned());
        };
        let name = Path::new(location);
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !name.components().all(inside) {
            return Err("that is no file in the model's folder".to_owned());
        }
        let real = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        let path = real(&folder.join(name))?;
        match path.starts_with(real(folder)?) {
            true => Ok(path),
            false => Err("it leads out of the model's folder".to_owned()),
        }
    }
}
