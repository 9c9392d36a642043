//! The changes made to a directory tree.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One change. Paths are relative to the root; files are numbered, since a file may have several names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A file got a name: created, or linked.
    Link {
        /// The name.
        path: PathBuf,
        /// The file.
        file: usize,
    },
    /// Bytes were appended.
    Write {
        /// The file.
        file: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A file was cut.
    Truncate {
        /// The file.
        file: usize,
        /// To this length.
        len: u64,
    },
    /// A file's contents became durable.
    SyncFile(usize),
    /// A directory was created.
    CreateDir(PathBuf),
    /// A directory was removed.
    RemoveDir(PathBuf),
    /// A name was changed, replacing the target.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
    /// A name was removed.
    Remove(PathBuf),
    /// A directory's names became durable.
    SyncDir(PathBuf),
}

/// The changes since the beginning, and what was there then.
#[derive(Clone, Debug)]
pub struct Recording {
    root: PathBuf,
    pub(super) base: Base,
    /// The changes, in order. A test may alter them to plant a defect.
    pub changes: Vec<Change>,
    // Names at present.
    names: BTreeMap<PathBuf, usize>,
    files: usize,
}

/// What was there at the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    pub dirs: Vec<PathBuf>,
    pub names: BTreeMap<PathBuf, usize>,
    pub contents: Vec<Vec<u8>>,
}

impl Recording {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        let mut base = Base::default();
        let mut by_inode = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(root.join(&dir))? {
                let entry = entry?;
                let path = dir.join(entry.file_name());
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    todo.push(path.clone());
                    base.dirs.push(path);
                    continue;
                }
                let next = base.contents.len();
                let file = *by_inode.entry(metadata.ino()).or_insert(next);
                if file == next {
                    base.contents.push(fs::read(entry.path())?);
                }
                base.names.insert(path, file);
            }
        }
        base.dirs.sort();
        Ok(Self {
            root: root.to_owned(),
            names: base.names.clone(),
            files: base.contents.len(),
            base,
            changes: Vec::new(),
        })
    }

    pub(super) fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    pub(super) fn file_at(&self, path: &Path) -> Option<usize> {
        self.names.get(path).copied()
    }

    pub(super) fn new_file(&mut self) -> usize {
        self.files += 1;
        self.files - 1
    }

    pub(super) fn push(&mut self, change: Change) {
        match &change {
            Change::Link { path, file } => {
                self.names.insert(path.clone(), *file);
            }
            Change::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Change::Remove(path) => {
                self.names.remove(path);
            }
            _ => {}
        }
        self.changes.push(change);
    }
}
