//! What a crash leaves.
//!
//! The model is the weakest that POSIX allows: contents are durable after the file is synced, names after their directory is
//! synced. Of what was not synced any part may survive: none, all, a beginning, single operations out of order; contents are
//! torn at 512 bytes, and lengths may grow while the bytes are still zero.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::recording::{Change, Recording};

const SECTOR: usize = 512;

/// The way in which the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashKind {
    /// The process was killed; everything it did survives.
    Kill,
    /// The power went; what was not synced may be lost.
    PowerLoss,
}

/// A state that a crash could have left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Crash {
    /// Changes made before it.
    pub after: usize,
    /// The way in which the machine stopped.
    pub kind: CrashKind,
    /// Which part of what was not synced survived, in words.
    pub survived: String,
    /// The state of the disk.
    pub disk: DiskState,
}

/// A directory tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskState {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    contents: BTreeMap<usize, Vec<u8>>,
}

impl DiskState {
    /// Puts the tree on a real disk, under `root`, which is created.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn materialise(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        for dir in &self.dirs {
            fs::create_dir_all(root.join(dir))?;
        }
        let mut first: BTreeMap<usize, PathBuf> = BTreeMap::new();
        for (name, file) in &self.names {
            let path = root.join(name);
            // A name in a directory that was lost is lost with it.
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match first.get(file) {
                Some(original) => fs::hard_link(original, &path)?,
                None => {
                    fs::write(
                        &path,
                        self.contents.get(file).map_or(&[][..], Vec::as_slice),
                    )?;
                    first.insert(*file, path);
                }
            }
        }
        Ok(())
    }

    /// The contents at a path.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        let file = self.names.get(path)?;
        Some(self.contents.get(file).map_or(&[][..], Vec::as_slice))
    }
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Dir(PathBuf),
    NoDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn directory(&self) -> &Path {
        let (Self::Link(path, _)
        | Self::Dir(path)
        | Self::NoDir(path)
        | Self::Rename(_, path)
        | Self::Remove(path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, disk: &mut DiskState) {
        match self {
            Self::Link(path, file) => {
                disk.names.insert(path.clone(), *file);
            }
            Self::Dir(path) => {
                disk.dirs.insert(path.clone());
            }
            Self::NoDir(path) => {
                disk.dirs.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(file) = disk.names.remove(from) {
                    disk.names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => {
                disk.names.remove(path);
            }
        }
    }
}

/// The model: what is durable, and what is not yet.
struct Model {
    durable: DiskState,
    unsynced_names: Vec<NameChange>,
    // Present contents of files that were changed since their last sync.
    unsynced_contents: BTreeMap<usize, Vec<u8>>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { path, file } => {
                self.unsynced_names
                    .push(NameChange::Link(path.clone(), *file));
            }
            Change::CreateDir(path) => self.unsynced_names.push(NameChange::Dir(path.clone())),
            Change::RemoveDir(path) => self.unsynced_names.push(NameChange::NoDir(path.clone())),
            Change::Rename { from, to } => {
                self.unsynced_names
                    .push(NameChange::Rename(from.clone(), to.clone()));
            }
            Change::Remove(path) => self.unsynced_names.push(NameChange::Remove(path.clone())),
            Change::Write { file, bytes } => self.contents_mut(*file).extend_from_slice(bytes),
            Change::Truncate { file, len } => {
                let len = usize::try_from(*len).unwrap_or(usize::MAX);
                self.contents_mut(*file).resize(len, 0);
            }
            Change::SyncFile(file) => {
                if let Some(contents) = self.unsynced_contents.remove(file) {
                    self.durable.contents.insert(*file, contents);
                }
            }
            Change::SyncDir(dir) => {
                let pending = std::mem::take(&mut self.unsynced_names);
                let (synced, rest): (Vec<_>, Vec<_>) = pending
                    .into_iter()
                    .partition(|change| change.directory() == dir);
                for change in synced {
                    change.apply(&mut self.durable);
                }
                self.unsynced_names = rest;
            }
        }
    }

    fn contents_mut(&mut self, file: usize) -> &mut Vec<u8> {
        let durable = &self.durable.contents;
        self.unsynced_contents
            .entry(file)
            .or_insert_with(|| durable.get(&file).cloned().unwrap_or_default())
    }

    fn state(&self, names: &[bool], contents: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> DiskState {
        let mut disk = self.durable.clone();
        for (change, survives) in self.unsynced_names.iter().zip(names) {
            if *survives {
                change.apply(&mut disk);
            }
        }
        for (file, new) in &self.unsynced_contents {
            let old = self
                .durable
                .contents
                .get(file)
                .map_or(&[][..], Vec::as_slice);
            disk.contents.insert(*file, contents(old, new));
        }
        // Files without a name are gone.
        let named: BTreeSet<usize> = disk.names.values().copied().collect();
        disk.contents.retain(|file, _| named.contains(file));
        disk
    }

    /// Which of the unsynced name changes survive: none, all, each beginning, each one alone, each one missing.
    fn name_survivals(&self) -> Vec<Vec<bool>> {
        let count = self.unsynced_names.len();
        let mut masks = BTreeSet::new();
        for prefix in 0..=count {
            masks.insert((0..count).map(|i| i < prefix).collect::<Vec<_>>());
        }
        for one in 0..count {
            masks.insert((0..count).map(|i| i == one).collect());
            masks.insert((0..count).map(|i| i != one).collect());
        }
        masks.into_iter().collect()
    }
}

impl Recording {
    /// The states that a crash could leave after each number of changes, from none to all; equal states at one point are given
    /// once.
    #[must_use]
    pub fn crashes(&self) -> Vec<Crash> {
        let mut model = Model {
            durable: DiskState {
                dirs: self.base.dirs.iter().cloned().collect(),
                names: self.base.names.clone(),
                contents: self.base.contents.iter().cloned().enumerate().collect(),
            },
            unsynced_names: Vec::new(),
            unsynced_contents: BTreeMap::new(),
        };
        let mut crashes = Vec::new();
        for after in 0..=self.changes.len() {
            if after > 0 {
                model.apply(&self.changes[after - 1]);
            }
            let mut seen = BTreeSet::new();
            let mut add = |kind, survived: String, disk: DiskState| {
                if seen.insert(disk.clone()) {
                    crashes.push(Crash {
                        after,
                        kind,
                        survived,
                        disk,
                    });
                }
            };
            let all = vec![true; model.unsynced_names.len()];
            add(
                CrashKind::Kill,
                "everything".to_owned(),
                model.state(&all, |_, new| new.to_vec()),
            );
            if let Some(Change::Write { bytes, .. }) = self.changes.get(after) {
                // Killed in the middle of the next write.
                let file = match &self.changes[after] {
                    Change::Write { file, .. } => *file,
                    _ => continue,
                };
                let half = bytes.len() / 2;
                let mut disk = model.state(&all, |_, new| new.to_vec());
                disk.contents
                    .entry(file)
                    .or_default()
                    .extend_from_slice(&bytes[..half]);
                add(CrashKind::Kill, "half of the next write".to_owned(), disk);
            }
            for names in model.name_survivals() {
                let shown: String = names.iter().map(|&s| if s { '1' } else { '0' }).collect();
                type Survival = (&'static str, fn(&[u8], &[u8]) -> Vec<u8>);
                let contents: [Survival; 5] = [
                    ("lost", |old, _| old.to_vec()),
                    ("kept", |_, new| new.to_vec()),
                    ("their length only", |old, new| torn(old, new, |_, _| false)),
                    ("their first half", |old, new| {
                        torn(old, new, |sector, sectors| 2 * sector < sectors)
                    }),
                    ("every other sector", |old, new| {
                        torn(old, new, |sector, _| sector % 2 == 1)
                    }),
                ];
                for (words, survive) in contents {
                    add(
                        CrashKind::PowerLoss,
                        format!("names {shown}, contents {words}"),
                        model.state(&names, survive),
                    );
                }
            }
        }
        crashes
    }
}

/// The new length, with each sector of 512 bytes new or still old (zero beyond the old end).
fn torn(old: &[u8], new: &[u8], survives: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let mut result = vec![0; new.len()];
    let common = old.len().min(new.len());
    result[..common].copy_from_slice(&old[..common]);
    let sectors = new.len().div_ceil(SECTOR);
    for (sector, (into, from)) in result
        .chunks_mut(SECTOR)
        .zip(new.chunks(SECTOR))
        .enumerate()
    {
        if survives(sector, sectors) {
            into.copy_from_slice(from);
        }
    }
    result
}
