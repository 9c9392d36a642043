//! One writer a run: an operating-system lock on a file with the owner written inside, and one on the run's directory, which lasts when
//! somebody removes that file.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

use crate::layout::LOCK_FILE;
use crate::patient::{open, patiently, read_to_end};
use crate::regular::{Links, open_regular, open_with};

/// Who holds, or held, a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// When the lock was taken, milliseconds since 1970.
    pub started_ms: u64,
}

impl Owner {
    fn this_process() -> Self {
        Self {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            pid: std::process::id(),
            started_ms: now_ms(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// Why a run could not be locked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process writes to the run.
    #[error("run {} is being written by {}", path.display(), owner.as_ref().map_or_else(|| "another process".to_owned(), Owner::to_string))]
    #[non_exhaustive]
    Held {
        /// The run directory.
        path: PathBuf,
        /// The other process; `None` in the instant before it has written its name, and when the file with its name was removed.
        owner: Option<Owner>,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    #[non_exhaustive]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The number of times, and the time between them, that a lock that is held is tried again.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// The lock, held until dropped. The operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct RunLock {
    file: File,
    // `None` where directories cannot be locked (some network file systems).
    _directory: Option<File>,
    stale: Option<Owner>,
}

impl RunLock {
    pub(crate) fn acquire(run: &Path) -> Result<Self, LockError> {
        let path = run.join(LOCK_FILE);
        let io_error = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let mut file =
            open_with(&path, Links::Refuse, OFlags::RDWR | OFlags::CREATE).map_err(io_error)?;
        if !lock(&file, File::try_lock).map_err(io_error)? {
            return Err(LockError::Held {
                path: run.to_owned(),
                owner: read_owner(&mut file),
            });
        }
        let directory = open_directory(run).map_err(io_error)?;
        let directory = match lock(&directory, File::try_lock) {
            Ok(true) => Some(directory),
            Ok(false) => {
                return Err(LockError::Held {
                    path: run.to_owned(),
                    owner: None,
                });
            }
            // The lock of the file is all there is here.
            Err(_) => None,
        };
        // A clean exit empties the file: a name in an unlocked one is that of a writer that died.
        let stale = read_owner(&mut file);
        let mut lock = Self {
            file,
            _directory: directory,
            stale,
        };
        // The lock is the system's: without a name in the file, as on a full disk that `prune` is to make room on, others are only told less.
        let _ = lock.write_owner(&Owner::this_process());
        Ok(lock)
    }

    pub(crate) fn stale_owner(&self) -> Option<&Owner> {
        self.stale.as_ref()
    }

    fn write_owner(&mut self, owner: &Owner) -> io::Result<()> {
        patiently(|| Ok(rustix::fs::ftruncate(&self.file, 0)?))?;
        self.file.rewind()?;
        let text = serde_json::to_string(owner)?;
        // One call: half a name is none.
        patiently(|| self.file.write(text.as_bytes())).map(|_| ())
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Best effort: a name left behind only makes the next writer report a stale lock.
        let _ = rustix::fs::ftruncate(&self.file, 0);
        let _ = self.file.unlock();
    }
}

/// Takes a lock, if need be at the second try. Returns whether it was free.
fn lock(file: &File, take: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<bool> {
    for _ in 0..TRIES {
        match take(file) {
            Ok(()) => return Ok(true),
            // A reader that looks whether someone writes holds the lock for an instant.
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    match take(file) {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Who writes to a run right now, if anyone does. Holds a shared lock for an instant, which a writer that begins then waits for.
///
/// # Errors
/// [`LockError::Io`] when the lock file exists but cannot be opened.
pub fn active_writer(run: &Path) -> Result<Option<Owner>, LockError> {
    let path = run.join(LOCK_FILE);
    let io_error = |source| LockError::Io {
        path: path.clone(),
        source,
    };
    let unknown = || Owner {
        host: "unknown".to_owned(),
        pid: 0,
        started_ms: 0,
    };
    match open_regular(&path, Links::Refuse) {
        Ok(mut file) => match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Some(read_owner(&mut file).unwrap_or_else(unknown)));
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
    }
    // The file may have been removed under the writer.
    let directory = open_directory(run).map_err(io_error)?;
    match directory.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(Some(unknown())),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn read_owner(file: &mut File) -> Option<Owner> {
    file.rewind().ok()?;
    let text = read_to_end(&mut file.take(4096)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Milliseconds since 1970 by the wall clock, for people; nothing is ordered by it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}
