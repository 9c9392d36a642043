//! Reading a run. Readers take no lock and never wait.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::archive::ARCHIVES_DIR;
use crate::error::{IoError, JournalError, OpenError};
use crate::fs::{FileSystem, RealFileSystem, SharedFileSystem};
use crate::journal::{Journal, parse};
use crate::layout::{
    CHECKPOINTS_DIR, CONFIG_FILE, CheckpointName, JOURNAL_FILE, LOCK_FILE, MODEL_FILE,
    OUTCOMES_DIR, RefName,
};
use crate::patient::patient;
use crate::regular::FileKind;
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
    /// [`OpenError::NotFound`] when there is nothing at `path`, [`OpenError::NotARun`] when it is not a run, [`OpenError::NoJournal`]
    /// when its journal was removed, [`OpenError::Kind`] when a file or directory of it is a link or something else.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_on(RealFileSystem::shared(), path)
    }

    /// Opens a run on a given file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(fs: SharedFileSystem, path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_patient(patient(fs), path.into())
    }

    pub(crate) fn open_patient(fs: SharedFileSystem, path: PathBuf) -> Result<Self, OpenError> {
        match Self::open_anyway(fs, path)? {
            (run, true) => Ok(run),
            (Self { path, .. }, false) => Err(OpenError::NoJournal { path }),
        }
    }

    /// Opens a run with its journal or without, and tells which.
    pub(crate) fn open_anyway(
        fs: SharedFileSystem,
        path: PathBuf,
    ) -> Result<(Self, bool), OpenError> {
        if !is_directory(&*fs, &path)? {
            return Err(OpenError::NotARun {
                path,
                missing: "directory",
            });
        }
        let is_there = |name: &str| {
            let file = path.join(name);
            let stat = fs.stat(&file).map_err(IoError::at("examine", &file));
            stat.map(|stat| stat.is_some())
        };
        let has_journal = is_there(JOURNAL_FILE)?;
        let missing = match (is_there(CONFIG_FILE)?, has_journal) {
            (false, _) => Some(CONFIG_FILE),
            // Settings alone may be anybody's.
            (true, false) if !is_there(CHECKPOINTS_DIR)? => Some(JOURNAL_FILE),
            _ => None,
        };
        if let Some(missing) = missing {
            return Err(OpenError::NotARun { path, missing });
        }
        require_own_files(&*fs, &path)?;
        Ok((Self { fs, path }, has_journal))
    }

    /// The run directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_system(&self) -> &SharedFileSystem {
        &self.fs
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

    /// Refuses a run of a format newer than this version's, before anything in it is written.
    pub(crate) fn refuse_newer(&self) -> Result<(), OpenError> {
        match self.journal() {
            Err(error @ JournalError::Newer { .. }) => Err(error.into()),
            _ => Ok(()),
        }
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
        let stat = self.fs.stat(&directory);
        if stat.map_err(IoError::at("examine", &directory))?.is_none() {
            return Ok(Vec::new());
        }
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

/// Whether a path names a directory, itself or by a link: a run may lie elsewhere.
fn is_directory(fs: &dyn FileSystem, path: &Path) -> Result<bool, OpenError> {
    let not_found = || OpenError::NotFound {
        path: path.to_owned(),
    };
    let stat = fs.stat(path).map_err(IoError::at("examine", path))?;
    match stat.ok_or_else(not_found)?.kind {
        FileKind::Directory => Ok(true),
        FileKind::Link => match fs.stat(&path.join(".")) {
            Ok(Some(_)) => Ok(true),
            Ok(None) => Err(not_found()),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(IoError::at("examine", path)(error).into()),
        },
        _ => Ok(false),
    }
}

/// What a run is read from and written to by name are files and directories of its own. A run may come from elsewhere: through a
/// link, what lies outside of it would be written to; a FIFO would be waited for without end.
fn require_own_files(fs: &dyn FileSystem, run: &Path) -> Result<(), OpenError> {
    let files = [CONFIG_FILE, JOURNAL_FILE, LOCK_FILE, MODEL_FILE].map(|it| (it, FileKind::File));
    let directories =
        [CHECKPOINTS_DIR, ARCHIVES_DIR, OUTCOMES_DIR].map(|it| (it, FileKind::Directory));
    for (name, expected) in files.into_iter().chain(directories) {
        let path = run.join(name);
        let stat = fs.stat(&path).map_err(IoError::at("examine", &path))?;
        if let Some(found) = stat.map(|stat| stat.kind).filter(|kind| *kind != expected) {
            return Err(OpenError::Kind {
                path,
                found,
                expected,
            });
        }
    }
    Ok(())
}
