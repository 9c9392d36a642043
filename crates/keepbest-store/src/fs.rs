//! The file system as the store needs it: a small trait, and the real one.
//!
//! Everything the store changes on disk goes through [`FileSystem`], one call a system call, so that a test can record the
//! calls, stop between any two of them, or make any one fail.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek as _, Write};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::IoError;
use crate::patient::{open, patiently, read_to_end, sync_all, sync_data};
use crate::regular::{FileKind, Links, open_with, read_regular};

/// A shared handle on a file system.
pub type SharedFileSystem = Arc<dyn FileSystem>;

/// What the store does to files. Paths are used as given; nothing is retried. A symbolic link at the end of a path is never followed,
/// except by `sync_dir` and `available_space`; what is no regular file is neither read nor written.
///
/// # Errors
/// Every method returns the operating system's error.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Creates a file that must not exist, with permissions `0666` less the umask.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;
    /// Opens a file for appending, creating it if it is missing.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;
    /// Creates one directory.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing the target atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()>;
    /// Removes a name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Kind, length and identity of what a path names; `None` when there is nothing.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Bytes an unprivileged process may still write to the file system that holds `path`.
    fn available_space(&self, path: &Path) -> io::Result<u64>;
}

/// A file open for writing.
pub trait WritableFile: Write + Send {
    /// Makes the contents and the length durable (`fdatasync`).
    ///
    /// # Errors
    /// The operating system's error. What was written since the last success may be lost for good even if a later call
    /// succeeds, so the file must be abandoned.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// The operating system's error.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Kind, length and identity of the file, whatever has become of its name.
    ///
    /// # Errors
    /// The operating system's error.
    fn stat(&self) -> io::Result<Stat>;
    /// Reads the file from its beginning, whatever has become of its name. The place that is written to stays.
    ///
    /// # Errors
    /// The operating system's error.
    fn read_all(&mut self) -> io::Result<Vec<u8>>;
}

/// Kind, length and identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Length in bytes.
    pub len: u64,
    /// The kind of file.
    pub kind: FileKind,
    /// Device and inode: equal for two names of one file.
    pub identity: (u64, u64),
    /// When the contents, the names or the permissions last changed: seconds and nanoseconds, as the system tells them.
    pub changed: (i64, i64),
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            kind: FileKind::of(metadata),
            identity: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

impl RealFileSystem {
    /// The real file system, shared.
    #[must_use]
    pub fn shared() -> SharedFileSystem {
        Arc::new(Self)
    }
}

impl FileSystem for RealFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        // Exclusive creation follows no link.
        let file = open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let file = open_with(path, Links::Refuse, flags)?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        fs::hard_link(original, link)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sync_all(&open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_regular(path, Links::Refuse)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let kind = FileKind::of(&fs::symlink_metadata(path)?);
        if kind == FileKind::Link {
            let refused = format!("it is {kind}, not a directory");
            return Err(io::Error::new(io::ErrorKind::NotADirectory, refused));
        }
        // A name that is not UTF-8 is not one of ours.
        let names = names_in(path)?.into_iter();
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Stat::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// The names in a directory, sorted; a link to it is followed. Unlike `std::fs::read_dir` it does not panic when the directory cannot
/// be closed, as on a disk that is gone: everything was read by then.
///
/// # Errors
/// The operating system's error.
pub fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    let open = open(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = rustix::fs::Dir::new(open)?;
    let mut names = Vec::new();
    while let Some(entry) = patiently(|| Ok(entries.read().transpose()?))? {
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes that are written before the disk is told to begin with them.
const WRITEBACK_CHUNK: u64 = 4 << 20;

#[derive(Debug)]
struct RealFile {
    file: File,
    // Bytes written through this handle since the disk was last told to begin.
    waiting: u64,
}

impl RealFile {
    fn new(file: File) -> Self {
        Self { file, waiting: 0 }
    }

    /// Lets the disk work while the rest is still being written, so that the sync at the end has little left to wait for.
    fn begin_writeback(&mut self, written: usize) -> io::Result<usize> {
        self.waiting += written as u64;
        if self.waiting >= WRITEBACK_CHUNK {
            let end = self.file.stream_position()?;
            let begin = end.saturating_sub(self.waiting);
            // On Linux this begins to write dirty pages of the range, and drops none before it is on the disk. It is advice:
            // where it does nothing, the sync does all.
            let _ = rustix::fs::fadvise(
                &self.file,
                begin,
                NonZeroU64::new(self.waiting),
                rustix::fs::Advice::DontNeed,
            );
            self.waiting = 0;
        }
        Ok(written)
    }
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.begin_writeback(written)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let written = self.file.write_vectored(slices)?;
        self.begin_writeback(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WritableFile for RealFile {
    fn sync_data(&mut self) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.file, len)?)
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::of(&self.file.metadata()?))
    }

    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let place = self.file.stream_position()?;
        self.file.rewind()?;
        let read = read_to_end(&mut self.file);
        self.file.seek(io::SeekFrom::Start(place))?;
        read
    }
}

/// Syncs a directory. Where the file system has no such call, nothing more can be done: what that means for the run is told when it
/// begins ([`Guarantee`](crate::Guarantee)).
pub(crate) fn sync_dir(fs: &dyn FileSystem, directory: &Path) -> Result<(), IoError> {
    match fs.sync_dir(directory) {
        Err(error) if is_unsupported(&error) => Ok(()),
        synced => synced.map_err(IoError::at("sync", directory)),
    }
}

/// What file systems without a call answer (some FUSE and network ones). Anything else is a failure.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Creates `path` and the parents it lacks, each made durable in its own parent. The last one must not exist.
pub(crate) fn create_dir_durable(
    fs: &dyn FileSystem,
    path: &Path,
) -> Result<(), (PathBuf, io::Error)> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if fs
        .stat(parent)
        .map_err(|error| (parent.to_owned(), error))?
        .is_none()
    {
        match create_dir_durable(fs, parent) {
            // Another run may have made it at the same moment.
            Err((_, error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    fs.create_dir(path)
        .map_err(|error| (path.to_owned(), error))?;
    sync_dir(fs, parent).map_err(|error| {
        // Its name is free again.
        let _ = fs.remove_dir(path);
        (error.path, error.source)
    })
}
