//! A file on its way: staged, then committed or gone.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;

use crate::error::{BoxError, CommitError, IoError};
use crate::fs::{SharedFileSystem, WritableFile, sync_dir};
use crate::layout::{CheckpointName, STAGED_PREFIX};

// Small tensors are gathered; anything this large is written straight from where it lies.
const BUFFER: usize = 256 << 10;

/// A file under a hidden name, being written. It can only be finished, or dropped, which removes it.
pub struct Staged {
    fs: SharedFileSystem,
    // `None` once synced.
    file: Option<BufWriter<Box<dyn WritableFile>>>,
    // Empty once the file has its name or is gone.
    staged: PathBuf,
    target: PathBuf,
    written: u64,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("staged", &self.staged)
            .field("target", &self.target)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Staged {
    /// Opens a hidden file in the directory of `target`.
    pub(crate) fn create(fs: &SharedFileSystem, target: PathBuf) -> Result<Self, IoError> {
        let staged = staged_path(fs, &target)?;
        let file = fs
            .create_new(&staged)
            .map_err(IoError::at("create", &staged))?;
        Ok(Self {
            fs: SharedFileSystem::clone(fs),
            file: Some(BufWriter::with_capacity(BUFFER, file)),
            staged,
            target,
            written: 0,
        })
    }

    /// Syncs what was written so far. After a failure the file is gone.
    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        if let Some(mut file) = self.file.take() {
            // Each error leaves `self` unfinished, so the drop removes the file: after a failed sync it is never used again.
            let synced = file
                .flush()
                .map_err(IoError::at("write", &self.staged))
                .and_then(|()| {
                    file.get_mut()
                        .sync_data()
                        .map_err(IoError::at("sync", &self.staged))
                });
            // What a failed flush left in the buffer must not be written on drop.
            let _ = file.into_parts();
            if let Err(error) = synced {
                self.discard();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Syncs the file and meanwhile reads it back through `verify`, under its hidden name: only what was read back gets the
    /// other one.
    pub(crate) fn sync_and_verify<T: Send>(
        &mut self,
        verify: impl FnOnce(&Path) -> Result<T, BoxError> + Send,
    ) -> Result<T, CommitError> {
        let hidden = self.staged.clone();
        self.flush().map_err(IoError::at("write", &hidden))?;
        let (synced, verified) = thread::scope(|scope| {
            let reader = scope.spawn(|| verify(&hidden));
            (self.sync(), reader.join())
        });
        synced?;
        match verified {
            Ok(verified) => verified.map_err(|source| CommitError::Verify {
                path: self.target.clone(),
                source,
            }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Finishes a file whose name was free: when the name may not be durable, it is free again. Returns its length.
    pub(crate) fn finish_new(self) -> Result<u64, IoError> {
        let fs = SharedFileSystem::clone(&self.fs);
        let target = self.target.clone();
        let written = self.written;
        self.finish().inspect_err(|_| {
            // The directory may have failed to sync after the rename. What stays is found by fsck.
            let _ = fs.remove_file(&target);
        })?;
        Ok(written)
    }

    /// Syncs the file, gives it its name and syncs the directory.
    pub(crate) fn finish(mut self) -> Result<(), IoError> {
        self.sync()?;
        if let Err(error) = self.fs.rename(&self.staged, &self.target) {
            let error = IoError::at("rename", &self.staged)(error);
            self.discard();
            return Err(error);
        }
        self.staged = PathBuf::new();
        sync_dir(&*self.fs, parent(&self.target))
    }

    fn discard(&mut self) {
        // A leftover that cannot be removed now is found by fsck.
        let _ = self.fs.remove_file(&std::mem::take(&mut self.staged));
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = self.file.as_mut() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let written = file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let _ = file.into_parts();
        }
        if !self.staged.as_os_str().is_empty() {
            self.discard();
        }
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

    /// Syncs the file and meanwhile reads it back through `verify`, which is given its hidden name; then names it and syncs
    /// the directory. So only a file that was read back ever has a checkpoint's name.
    ///
    /// # Errors
    /// [`CommitError::Io`] for a system call, [`CommitError::Verify`] for what `verify` found. In both cases the file is
    /// removed and its name is free.
    pub fn commit<T: Send>(
        mut self,
        verify: impl FnOnce(&Path) -> Result<T, BoxError> + Send,
    ) -> Result<(Committed, T), CommitError> {
        let verified = self.staged.sync_and_verify(verify)?;
        let bytes = self.staged.finish_new()?;
        let committed = Committed {
            name: self.name,
            bytes,
        };
        Ok((committed, verified))
    }
}

impl Write for StagedCheckpoint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.staged.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.staged.flush()
    }
}

/// A checkpoint that is durable under its name and has been read back. Only such a one can become best or last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) name: CheckpointName,
    pub(crate) bytes: u64,
}

impl Committed {
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
