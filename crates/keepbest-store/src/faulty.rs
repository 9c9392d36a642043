//! A file system for tests that records every call, fails where it is told to, and lets a test see what a crash at any point
//! would have left.
//!
//! It works on a real directory, so what it holds can be opened by anything. [`FaultyFileSystem::fail`],
//! [`FaultyFileSystem::disturb`] and [`FaultyFileSystem::limit_space`] inject errors. [`FaultyFileSystem::recording`] gives the changes so far as a
//! [`Recording`], from which [`Recording::crashes`] makes the states a crash could leave.

mod crash;
mod recording;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use crash::{Crash, CrashKind, DiskState};
pub use recording::{Change, Recording};

use crate::fs::{FileSystem, RealFileSystem, Stat, WritableFile};

/// One call of [`FileSystem`] or [`WritableFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Number of calls before it.
    pub index: usize,
    /// The method.
    pub method: &'static str,
    /// The path, or the target where there are two.
    pub path: PathBuf,
}

/// What happens to a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Disturbance {
    /// It is not made: this is returned in its place.
    Fail(io::Error),
    /// It is made later.
    Delay(Duration),
    /// A write takes no more than this many bytes, as the system's may at any time. Other calls are made as they are.
    Shorten(usize),
}

type FaultRule = Box<dyn FnMut(&Call) -> Option<Disturbance> + Send>;

/// See the [module](self).
#[derive(Clone)]
pub struct FaultyFileSystem {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    calls: usize,
    rule: Option<FaultRule>,
    recording: Recording,
    // Bytes that may still be written.
    space: Option<u64>,
    ignore_file_syncs: bool,
    ignore_dir_syncs: bool,
}

impl fmt::Debug for FaultyFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFileSystem").finish_non_exhaustive()
    }
}

impl FaultyFileSystem {
    /// Works under `root`, whose present contents count as durable.
    ///
    /// # Errors
    /// When `root` cannot be read.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Mutex::new(Shared {
                calls: 0,
                rule: None,
                recording: Recording::new(root)?,
                space: None,
                ignore_file_syncs: false,
                ignore_dir_syncs: false,
            })),
        })
    }

    /// From now on asks `rule` before each call; an error from it is returned in place of the call.
    pub fn fail(&self, mut rule: impl FnMut(&Call) -> Option<io::Error> + Send + 'static) {
        self.disturb(move |call| rule(call).map(Disturbance::Fail));
    }

    /// From now on asks `rule` before each call what happens to it.
    pub fn disturb(&self, rule: impl FnMut(&Call) -> Option<Disturbance> + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    /// No more errors.
    pub fn heal(&self) {
        let mut shared = self.lock();
        shared.rule = None;
        shared.space = None;
    }

    /// From now on the disk takes `bytes` more; a write beyond is cut short and fails with `ENOSPC`.
    pub fn limit_space(&self, bytes: u64) {
        self.lock().space = Some(bytes);
    }

    /// Makes file syncs do nothing in the recording: the defect that crash tests must find.
    pub fn ignore_file_syncs(&self) {
        self.lock().ignore_file_syncs = true;
    }

    /// Makes directory syncs do nothing in the recording.
    pub fn ignore_dir_syncs(&self) {
        self.lock().ignore_dir_syncs = true;
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// The changes so far.
    #[must_use]
    pub fn recording(&self) -> Recording {
        self.lock().recording.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, method: &'static str, path: &Path) -> io::Result<()> {
        self.lock().call(method, path).map(drop)
    }

    /// A call that changes something: made, then recorded.
    fn change<T>(
        &self,
        method: &'static str,
        path: &Path,
        act: impl FnOnce() -> io::Result<T>,
        change: impl FnOnce(&mut Recording) -> Option<Change>,
    ) -> io::Result<T> {
        let mut shared = self.lock();
        shared.call(method, path)?;
        let result = act()?;
        if let Some(change) = change(&mut shared.recording) {
            shared.recording.push(change);
        }
        Ok(result)
    }
}

impl Shared {
    /// Returns how many bytes a write may take.
    fn call(&mut self, method: &'static str, path: &Path) -> io::Result<usize> {
        let call = Call {
            index: self.calls,
            method,
            path: path.to_owned(),
        };
        self.calls += 1;
        match self.rule.as_mut().and_then(|rule| rule(&call)) {
            Some(Disturbance::Fail(error)) => Err(error),
            Some(Disturbance::Delay(time)) => {
                std::thread::sleep(time);
                Ok(usize::MAX)
            }
            Some(Disturbance::Shorten(bytes)) => Ok(bytes),
            None => Ok(usize::MAX),
        }
    }
}

impl FileSystem for FaultyFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let mut inode = 0;
        let file = self.change(
            "create_new",
            path,
            || RealFileSystem.create_new(path),
            |recording| {
                inode = recording.new_file();
                Some(Change::Link {
                    path: recording.relative(path),
                    file: inode,
                })
            },
        )?;
        Ok(Box::new(FaultyFile {
            fs: self.clone(),
            path: path.to_owned(),
            inode,
            file,
        }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let mut inode = 0;
        let file = self.change(
            "open_append",
            path,
            || RealFileSystem.open_append(path),
            |recording| {
                let relative = recording.relative(path);
                if let Some(existing) = recording.file_at(&relative) {
                    inode = existing;
                    return None;
                }
                inode = recording.new_file();
                Some(Change::Link {
                    path: relative,
                    file: inode,
                })
            },
        )?;
        Ok(Box::new(FaultyFile {
            fs: self.clone(),
            path: path.to_owned(),
            inode,
            file,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(
            "create_dir",
            path,
            || RealFileSystem.create_dir(path),
            |recording| Some(Change::CreateDir(recording.relative(path))),
        )
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(
            "remove_dir",
            path,
            || RealFileSystem.remove_dir(path),
            |recording| Some(Change::RemoveDir(recording.relative(path))),
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(
            "rename",
            to,
            || RealFileSystem.rename(from, to),
            |recording| {
                Some(Change::Rename {
                    from: recording.relative(from),
                    to: recording.relative(to),
                })
            },
        )
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        self.change(
            "hard_link",
            link,
            || RealFileSystem.hard_link(original, link),
            |recording| {
                let file = recording.file_at(&recording.relative(original))?;
                Some(Change::Link {
                    path: recording.relative(link),
                    file,
                })
            },
        )
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(
            "remove_file",
            path,
            || RealFileSystem.remove_file(path),
            |recording| Some(Change::Remove(recording.relative(path))),
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let ignored = self.lock().ignore_dir_syncs;
        self.change(
            "sync_dir",
            path,
            || Ok(()),
            |recording| (!ignored).then(|| Change::SyncDir(recording.relative(path))),
        )
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call("read", path)?;
        RealFileSystem.read(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call("list", path)?;
        RealFileSystem.list(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.call("stat", path)?;
        RealFileSystem.stat(path)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.call("available_space", path)?;
        match self.lock().space {
            Some(space) => Ok(space),
            None => RealFileSystem.available_space(path),
        }
    }
}

struct FaultyFile {
    fs: FaultyFileSystem,
    path: PathBuf,
    inode: usize,
    file: Box<dyn WritableFile>,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = self.fs.lock();
        let most = shared.call("write", &self.path)?;
        let bytes = &bytes[..bytes.len().min(most)];
        let allowed = match shared.space {
            Some(0) if !bytes.is_empty() => {
                return Err(io::Error::from_raw_os_error(
                    rustix::io::Errno::NOSPC.raw_os_error(),
                ));
            }
            Some(space) => bytes
                .len()
                .min(usize::try_from(space).unwrap_or(usize::MAX)),
            None => bytes.len(),
        };
        let written = self.file.write(&bytes[..allowed])?;
        if let Some(space) = &mut shared.space {
            *space -= written as u64;
        }
        shared.recording.push(Change::Write {
            file: self.inode,
            bytes: bytes[..written].to_vec(),
        });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WritableFile for FaultyFile {
    fn sync_data(&mut self) -> io::Result<()> {
        let mut shared = self.fs.lock();
        shared.call("sync_data", &self.path)?;
        if !shared.ignore_file_syncs {
            shared.recording.push(Change::SyncFile(self.inode));
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut shared = self.fs.lock();
        shared.call("truncate", &self.path)?;
        self.file.truncate(len)?;
        shared.recording.push(Change::Truncate {
            file: self.inode,
            len,
        });
        Ok(())
    }

    fn stat(&self) -> io::Result<Stat> {
        self.fs.call("stat_open", &self.path)?;
        self.file.stat()
    }

    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        self.fs.call("read_open", &self.path)?;
        self.file.read_all()
    }
}
