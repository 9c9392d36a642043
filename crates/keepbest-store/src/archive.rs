//! Archives: files that hold several old checkpoints. What is in them, others know.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{BoxError, CommitError, IoError, JournalError};
use crate::fs::sync_dir;
use crate::journal::{Entry, Event};
use crate::layout::CheckpointName;
use crate::read_back::ReadBack;
use crate::staged::Staged;
use crate::writer::RunWriter;

/// The directory of the archives.
pub const ARCHIVES_DIR: &str = "archives";
const SUFFIX: &str = ".kbarchive";

/// [`Event::Archived`]: an archive is durable, and every checkpoint in it was restored from it and compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchivedEvent {
    /// The file's name in `archives/`.
    pub archive: String,
    /// Its size.
    pub bytes: u64,
    /// What it holds, in its order.
    pub checkpoints: Vec<CheckpointName>,
}

/// [`Event::ArchiveLost`]: checkpoints that no longer come back from their archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveLostEvent {
    /// The file's name in `archives/`.
    pub archive: String,
    /// What it no longer gives back.
    pub checkpoints: Vec<CheckpointName>,
    /// Why.
    pub reason: String,
}

/// Whether a file's name is an archive's.
pub(crate) fn is_archive(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The path of an archive, when the name is one.
#[must_use]
pub fn archive_path(run: &Path, name: &str) -> Option<PathBuf> {
    is_archive(name).then(|| run.join(ARCHIVES_DIR).join(name))
}

/// Why a checkpoint that an archive holds was removed.
#[must_use]
pub fn archived_in(archive: &str) -> String {
    format!("archived in {ARCHIVES_DIR}/{archive}")
}

/// An archive under a hidden name: [`commit`](Self::commit) it or drop it.
#[derive(Debug)]
pub struct StagedArchive {
    staged: Staged,
    name: String,
}

/// An archive that is durable under its name and was read back.
#[derive(Debug)]
pub struct CommittedArchive {
    name: String,
    bytes: u64,
}

impl CommittedArchive {
    /// The file's name in `archives/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl StagedArchive {
    /// Has `write` write the file, syncs it, reads it back, names it and syncs the directory.
    ///
    /// # Errors
    /// As [`StagedCheckpoint::commit`](crate::StagedCheckpoint::commit); the file is removed then.
    pub fn commit<T: Send, E: From<CommitError>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
        verify: impl FnOnce(ReadBack) -> Result<T, BoxError> + Send,
    ) -> Result<(CommittedArchive, T), E> {
        let (filled, verified) = self.staged.fill(write, verify)?;
        let committed = CommittedArchive {
            bytes: filled.finish_new().map_err(CommitError::from)?,
            name: self.name,
        };
        Ok((committed, verified))
    }
}

impl RunWriter {
    /// Begins an archive of at most about `bytes` bytes, and removes what earlier attempts left unfinished, and of finished ones that
    /// the journal does not know those that are `superseded`: all that they hold is still there. Others stay.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`] or [`CommitError::Io`].
    pub fn stage_archive(
        &self,
        bytes: u64,
        superseded: impl Fn(&Path) -> bool,
    ) -> Result<StagedArchive, CommitError> {
        self.ensure_space(bytes)?;
        let directory = self.path.join(ARCHIVES_DIR);
        if self
            .fs
            .stat(&directory)
            .map_err(IoError::at("examine", &directory))?
            .is_none()
        {
            self.fs
                .create_dir(&directory)
                .map_err(IoError::at("create", &directory))?;
            sync_dir(&*self.fs, &self.path)?;
        }
        let there = self
            .fs
            .list(&directory)
            .map_err(IoError::at("list", &directory))?;
        let known = |name: &String| self.state.archived.values().any(|archive| archive == name);
        let mut stays = Vec::with_capacity(there.len());
        for name in there {
            let path = directory.join(&name);
            if name.starts_with(crate::layout::STAGED_PREFIX)
                || is_archive(&name) && !known(&name) && superseded(&path)
            {
                self.fs
                    .remove_file(&path)
                    .map_err(IoError::at("remove", &path))?;
            } else {
                stays.push(name);
            }
        }
        let name = (1_u32..)
            .map(|number| format!("{number:04}{SUFFIX}"))
            .find(|name| !stays.contains(name) && !known(name))
            .unwrap_or_default();
        Ok(StagedArchive {
            staged: Staged::create(&self.fs, directory.join(&name))?,
            name,
        })
    }

    /// Journals an archive. Only after that may what it holds be pruned.
    ///
    /// # Errors
    /// [`JournalError`]: nothing has changed.
    pub fn record_archived(
        &mut self,
        archive: &CommittedArchive,
        checkpoints: Vec<CheckpointName>,
    ) -> Result<Entry, JournalError> {
        self.append(Event::Archived(ArchivedEvent {
            archive: archive.name.clone(),
            bytes: archive.bytes,
            checkpoints,
        }))
    }
}
