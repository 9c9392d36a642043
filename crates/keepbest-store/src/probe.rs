//! What the file system under a run can do, found by doing it.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::IoError;
use crate::fs::{SharedFileSystem, is_unsupported};
use crate::staged::staged_path;

/// What a run's files are safe against. That a file can be replaced by a rename is asked of every file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantee {
    /// Names are made durable by a sync of their directory. Without, a save is safe against a kill, and a power loss can take
    /// the newest names with it.
    pub power_loss: bool,
    /// Files can have several names. Without, best and last are copies, each with its own disk space.
    pub hard_links: bool,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.power_loss {
            true => "safe against kill and power loss",
            false => "safe against kill, not power loss: directories cannot be synced here",
        })?;
        match self.hard_links {
            true => Ok(()),
            false => f.write_str("; no hard links here: best and last are copies"),
        }
    }
}

/// Tries in a directory what a run relies on, with hidden files that are removed again.
pub(crate) fn probe(fs: &SharedFileSystem, directory: &Path) -> Result<Guarantee, IoError> {
    let mut hidden = Hidden {
        fs,
        target: directory.join("probe"),
        paths: Vec::new(),
    };
    let old = hidden.path()?;
    hidden.create(&old)?;
    let link = hidden.path()?;
    let hard_links = fs.hard_link(&old, &link).is_ok();
    let new = hidden.path()?;
    hidden.create(&new)?;
    fs.rename(&new, &old)
        .map_err(IoError::at("replace a file by a rename in", directory))?;
    Ok(Guarantee {
        power_loss: match fs.sync_dir(directory) {
            Err(error) if is_unsupported(&error) => false,
            synced => {
                synced.map_err(IoError::at("sync", directory))?;
                true
            }
        },
        hard_links,
    })
}

/// Files under hidden names, removed in the end.
struct Hidden<'a> {
    fs: &'a SharedFileSystem,
    target: PathBuf,
    paths: Vec<PathBuf>,
}

impl Hidden<'_> {
    fn path(&mut self) -> Result<PathBuf, IoError> {
        let path = staged_path(self.fs, &self.target)?;
        self.paths.push(path.clone());
        Ok(path)
    }

    fn create(&self, path: &Path) -> Result<(), IoError> {
        let mut file = self
            .fs
            .create_new(path)
            .map_err(IoError::at("create", path))?;
        file.write_all(b"probe")
            .map_err(IoError::at("write", path))?;
        file.sync_data().map_err(IoError::at("sync", path))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        for path in &self.paths {
            // Not all of them are there. One that stays is found by fsck.
            let _ = self.fs.remove_file(path);
        }
    }
}
