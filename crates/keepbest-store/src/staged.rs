//! A file on its way: staged, then committed or gone.

use std::fmt;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use keepbest_core::FileDigest;

use crate::error::{BoxError, CommitError, IoError};
use crate::fs::{SharedFileSystem, WritableFile, sync_dir};
use crate::layout::{CheckpointName, STAGED_PREFIX};
use crate::read_back::{Progress, ReadBack};

// Small tensors are gathered; anything this large is written straight from where it lies.
const BUFFER: usize = 256 << 10;

/// A file under a hidden name. It can only be [filled](Self::fill) and then finished, or dropped, which removes it.
pub(crate) struct Staged {
    fs: SharedFileSystem,
    file: Box<dyn WritableFile>,
    hidden: Hidden,
    target: PathBuf,
}

/// A file that is whole, durable and read back, under its hidden name still.
pub(crate) struct Filled {
    fs: SharedFileSystem,
    hidden: Hidden,
    target: PathBuf,
    bytes: u64,
}

/// A hidden name, removed on drop unless it was renamed.
struct Hidden {
    fs: SharedFileSystem,
    // Empty once the file has its name.
    path: PathBuf,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("hidden", &self.hidden.path)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // A leftover that cannot be removed now is found by fsck.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

impl Staged {
    /// Opens a hidden file in the directory of `target`.
    pub(crate) fn create(fs: &SharedFileSystem, target: PathBuf) -> Result<Self, IoError> {
        let path = staged_path(fs, &target)?;
        let file = fs.create_new(&path).map_err(IoError::at("create", &path))?;
        let fs = SharedFileSystem::clone(fs);
        let hidden = Hidden {
            fs: SharedFileSystem::clone(&fs),
            path,
        };
        Ok(Self {
            fs,
            file,
            hidden,
            target,
        })
    }

    /// Fills the file with `bytes`, synced and read back, and gives it its name.
    pub(crate) fn put(self, bytes: &[u8]) -> Result<(), IoError> {
        let target = self.target.clone();
        let write = |out: &mut dyn Write| {
            out.write_all(bytes)
                .map_err(|error| CommitError::Io(IoError::at("write", &target)(error)))
        };
        let filled = self.fill(write, |mut back| {
            let mut found = Vec::new();
            back.read_to_end(&mut found)?;
            match found == bytes {
                true => Ok(()),
                false => Err("it does not hold what was written".into()),
            }
        });
        match filled {
            Ok((filled, ())) => filled.finish(),
            Err(CommitError::Io(error)) => Err(error),
            Err(error) => Err(IoError::at("write", &target)(io::Error::other(error))),
        }
    }

    /// Fills the file with `bytes` and gives it its name. Nothing is synced or read back.
    pub(crate) fn put_unsynced(mut self, bytes: &[u8]) -> Result<(), IoError> {
        self.file
            .write_all(bytes)
            .map_err(IoError::at("write", &self.hidden.path))?;
        self.fs
            .rename(&self.hidden.path, &self.target)
            .map_err(IoError::at("replace", &self.target))?;
        self.hidden.path = PathBuf::new();
        Ok(())
    }

    /// Has `write` write the file and syncs it. Meanwhile `verify` reads it back on another thread, following the writer.
    pub(crate) fn fill<T: Send, E: From<CommitError>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
        verify: impl FnOnce(ReadBack) -> Result<T, BoxError> + Send,
    ) -> Result<(Filled, T), E> {
        let Self {
            fs,
            mut file,
            hidden,
            target,
        } = self;
        let io = |doing, error| CommitError::Io(IoError::at(doing, &hidden.path)(error));
        let progress = Progress::default();
        let back = ReadBack::open(&hidden.path, &progress).map_err(|error| io("open", error))?;
        // Where the system starts no thread, it is read back when it is written.
        let verify = Mutex::new(Some(|| verify(back)));
        let take = || verify.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (written, verified) = thread::scope(|scope| {
            let read = || match take() {
                Some(verify) => verify(),
                None => Err("it is read back already".into()),
            };
            let reader = thread::Builder::new().spawn_scoped(scope, read);
            let written = fill(&mut *file, &progress, write, io);
            let verified = match reader {
                Ok(reader) => reader.join(),
                Err(_) => Ok(read()),
            };
            (written, verified)
        });
        let bytes = written?;
        let verified = verified.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let verified = verified.map_err(|source| CommitError::Verify {
            path: target.clone(),
            source,
        })?;
        let filled = Filled {
            fs,
            hidden,
            target,
            bytes,
        };
        Ok((filled, verified))
    }
}

fn fill<E: From<CommitError>>(
    file: &mut dyn WritableFile,
    progress: &Progress,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    io: impl Fn(&'static str, io::Error) -> CommitError,
) -> Result<u64, E> {
    let mut writing = progress.follow(file);
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut writing);
    let written = write(&mut buffered)
        .and_then(|()| Ok(buffered.flush().map_err(|error| io("write", error))?));
    // What a failed flush left in the buffer must not be written on drop.
    let _ = buffered.into_parts();
    written?;
    let bytes = writing.end();
    // After a failed sync a file is never used again: what the system could not write it may have forgotten.
    file.sync_data().map_err(|error| io("sync", error))?;
    Ok(bytes)
}

impl Filled {
    /// Gives a file whose name was free that name: when it may not be durable, it is free again. Returns the length.
    pub(crate) fn finish_new(self) -> Result<u64, IoError> {
        let fs = SharedFileSystem::clone(&self.fs);
        let target = self.target.clone();
        let bytes = self.bytes;
        self.finish().inspect_err(|_| {
            // The directory may have failed to sync after the rename. What stays is found by fsck.
            let _ = fs.remove_file(&target);
        })?;
        Ok(bytes)
    }

    /// Gives the file its name and syncs the directory.
    pub(crate) fn finish(mut self) -> Result<(), IoError> {
        self.fs
            .rename(&self.hidden.path, &self.target)
            .map_err(IoError::at("rename", &self.hidden.path))?;
        self.hidden.path = PathBuf::new();
        sync_dir(&*self.fs, parent(&self.target))
    }
}

/// A checkpoint under its hidden name: [`commit`](Self::commit) it or drop it.
#[derive(Debug)]
pub struct StagedCheckpoint {
    pub(crate) staged: Staged,
    pub(crate) name: CheckpointName,
}

impl StagedCheckpoint {
    /// The name it is to have.
    #[must_use]
    pub fn name(&self) -> &CheckpointName {
        &self.name
    }

    /// Has `write` write the file and syncs it, while `verify` reads it back on another thread; then names it and syncs the
    /// directory. So only a file that was read back ever has a checkpoint's name.
    ///
    /// # Errors
    /// What `write` returns; [`CommitError::Io`] for a system call, [`CommitError::Verify`] for what `verify` found. In all
    /// cases the file is removed and its name is free.
    pub fn commit<T: Send, E: From<CommitError>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
        verify: impl FnOnce(ReadBack) -> Result<T, BoxError> + Send,
    ) -> Result<(Committed, T), E> {
        let (filled, verified) = self.staged.fill(write, verify)?;
        let bytes = filled.finish_new().map_err(CommitError::from)?;
        let committed = Committed {
            name: self.name,
            bytes,
            file: None,
        };
        Ok((committed, verified))
    }
}

/// A checkpoint that is durable under its name and has been read back. Only such a one can become best or last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) name: CheckpointName,
    pub(crate) bytes: u64,
    pub(crate) file: Option<FileDigest>,
}

impl Committed {
    /// With the identity of the whole file, for the journal.
    #[must_use]
    pub fn with_file(mut self, file: Option<FileDigest>) -> Self {
        self.file = file;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &CheckpointName {
        &self.name
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A free hidden name beside `target`. Leftovers of a killed writer keep theirs until fsck.
pub(crate) fn staged_path(fs: &SharedFileSystem, target: &Path) -> Result<PathBuf, IoError> {
    let name = target
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let directory = parent(target);
    let mut attempt = 0_u32;
    loop {
        let path = directory.join(format!("{STAGED_PREFIX}{name}.{attempt}"));
        if fs
            .stat(&path)
            .map_err(IoError::at("examine", &path))?
            .is_none()
        {
            return Ok(path);
        }
        attempt += 1;
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
