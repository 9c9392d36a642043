//! Reading a run. Readers take no lock and never wait.

use std::path::{Path, PathBuf};

use crate::error::{IoError, JournalError, OpenError};
use crate::fs::{RealFileSystem, SharedFileSystem};
use crate::journal::{Journal, parse};
use crate::layout::{CHECKPOINTS_DIR, CONFIG_FILE, CheckpointName, JOURNAL_FILE, RefName};
use crate::state::RunState;

/// A run, for reading.
#[derive(Clone, Debug)]
pub struct RunReader {
    fs: SharedFileSystem,
    path: PathBuf,
}

impl RunReader {
    /// Opens a run.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is nothing at `path`, [`OpenError::NotARun`] when it is not a run.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_on(RealFileSystem::shared(), path)
    }

    /// Opens a run on a given file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(fs: SharedFileSystem, path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        match fs.stat(&path).map_err(IoError::at("examine", &path))? {
            None => return Err(OpenError::NotFound { path }),
            Some(stat) if !stat.is_dir => {
                return Err(OpenError::NotARun {
                    path,
                    missing: "directory",
                });
            }
            Some(_) => {}
        }
        for missing in [CONFIG_FILE, JOURNAL_FILE] {
            let file = path.join(missing);
            if fs
                .stat(&file)
                .map_err(IoError::at("examine", &file))?
                .is_none()
            {
                return Err(OpenError::NotARun { path, missing });
            }
        }
        Ok(Self { fs, path })
    }

    /// The run directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name: the last part of its path.
    #[must_use]
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// The text of `run.toml`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config(&self) -> Result<String, IoError> {
        let path = self.path.join(CONFIG_FILE);
        let bytes = self.fs.read(&path).map_err(IoError::at("read", &path))?;
        String::from_utf8(bytes)
            .map_err(std::io::Error::other)
            .map_err(IoError::at("read", &path))
    }

    /// The bytes of a file of the run.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, IoError> {
        let path = self.path.join(name);
        self.fs.read(&path).map_err(IoError::at("read", &path))
    }

    /// The journal. A torn tail is reported in it, not cut.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] for a bad line that is not the last, [`JournalError::Io`] when it cannot be read.
    pub fn journal(&self) -> Result<Journal, JournalError> {
        let path = self.path.join(JOURNAL_FILE);
        let bytes = self.fs.read(&path).map_err(IoError::at("read", &path))?;
        parse(&path, &bytes)
    }

    /// The state the journal amounts to.
    ///
    /// # Errors
    /// As [`journal`](Self::journal).
    pub fn state(&self) -> Result<RunState, JournalError> {
        Ok(RunState::from_entries(&self.journal()?.entries))
    }

    /// The checkpoints on disk, with their sizes in bytes, by step.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(CheckpointName, u64)>, IoError> {
        let directory = self.path.join(CHECKPOINTS_DIR);
        let mut found = Vec::new();
        for name in self
            .fs
            .list(&directory)
            .map_err(IoError::at("list", &directory))?
        {
            let Ok(name) = name.parse::<CheckpointName>() else {
                continue;
            };
            let path = name.path(&self.path);
            // It may have been pruned since the listing.
            if let Some(stat) = self.fs.stat(&path).map_err(IoError::at("examine", &path))? {
                found.push((name, stat.len));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The path of a ref, when it is there.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn reference(&self, reference: &RefName) -> Result<Option<PathBuf>, IoError> {
        let path = reference.path(&self.path);
        let stat = self.fs.stat(&path).map_err(IoError::at("examine", &path))?;
        Ok(stat.map(|_| path))
    }
}
