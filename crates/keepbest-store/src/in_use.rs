//! Files that a reader has open: a shared lock that retention respects.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::regular::{Links, open_regular};

/// A checkpoint that is being read. While this is held, no writer of the run removes the file: [`RunWriter::prune`] answers
/// [`PruneError::InUse`]. It belongs to the file, so holding `best.safetensors` protects the checkpoint that it is another name of,
/// also after best has moved on. The operating system lets go of it when the process ends, however it ends.
///
/// [`RunWriter::prune`]: crate::RunWriter::prune
/// [`PruneError::InUse`]: crate::PruneError::InUse
#[derive(Debug)]
pub struct InUse(File);

impl InUse {
    /// Takes the shared lock. Any number of readers can.
    ///
    /// # Errors
    /// When the file cannot be opened, or its file system has no locks.
    pub fn hold(path: &Path) -> io::Result<Self> {
        let file = open_regular(path, Links::Follow)?;
        // A writer holds the exclusive lock only in the instant before it removes the file.
        file.lock_shared()?;
        Ok(Self(file))
    }

    /// Whether this is the file that `path` names now: a ref may have moved since.
    #[must_use]
    pub fn is_named(&self, path: &Path) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.0.metadata(), std::fs::metadata(path)) {
            (Ok(held), Ok(named)) => identity(held) == identity(named),
            _ => false,
        }
    }
}

/// Whether a reader holds this file. `false` when it is gone, or where there are no locks.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    matches!(claim(path), Claim::InUse)
}

pub(crate) enum Claim {
    /// Nobody reads it, and nobody begins to until this is dropped.
    Free(#[expect(dead_code, reason = "held for its lock alone")] Option<File>),
    /// Somebody reads it.
    InUse,
}

/// Claims a file that is to be removed.
pub(crate) fn claim(path: &Path) -> Claim {
    let Ok(file) = open_regular(path, Links::Refuse) else {
        return Claim::Free(None);
    };
    match file.try_lock() {
        Ok(()) => Claim::Free(Some(file)),
        Err(TryLockError::WouldBlock) => Claim::InUse,
        // No locks here, so nobody can hold one.
        Err(TryLockError::Error(_)) => Claim::Free(None),
    }
}
