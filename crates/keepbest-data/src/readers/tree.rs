//! What lies below a folder, read once: the ground for telling what kind of data set it is.
//!
//! Hidden names, and what systems leave behind (`__MACOSX`, `@eaDir`, `lost+found`, `Thumbs.db` and the like), are passed
//! over. Links are followed, except those that lead back to a folder they are in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{EntryKind, entries_of, io_error};
use super::limits;
use crate::DataError;
use crate::decode::has_image_extension;

/// What systems and programs leave in folders, in any case.
const LEFT_BEHIND: [&str; 10] = [
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "#recycle",
    "@Recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// A folder with all that lies below it.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub path: PathBuf,
    /// The name, with a replacement character for what is not UTF-8.
    pub name: String,
    /// By the bytes of their names.
    pub entries: Vec<Entry>,
}

/// One entry of a folder.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Folder(Folder),
    /// What is called as image files are. Only reading shows what it is.
    Image(PathBuf),
    /// Anything else.
    Other(PathBuf),
}

/// A folder, and what was passed over below it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub root: Folder,
    /// Links that lead back to a folder that they are in.
    pub loops: Vec<PathBuf>,
    /// Folders that systems left behind.
    pub left_behind: Vec<PathBuf>,
}

impl Tree {
    /// Reads the names below a folder.
    ///
    /// # Errors
    /// When a folder cannot be read, or there are more of them than the limits allow.
    pub(crate) fn scan(path: &Path) -> Result<Self, DataError> {
        let mut scan = Scan {
            loops: Vec::new(),
            left_behind: Vec::new(),
            entries: 0,
            above: Vec::new(),
            root: path,
        };
        let real = fs::canonicalize(path).map_err(|source| io_error(path, source))?;
        let root = scan.folder(path, real)?;
        Ok(Self {
            root,
            loops: scan.loops,
            left_behind: scan.left_behind,
        })
    }

    /// What was passed over that somebody may miss, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |paths: &[PathBuf], what: &str| {
            let first = paths.first()?.display();
            let (plural, more) = match paths.len() {
                1 => ("", ""),
                _ => ("s", ", ..."),
            };
            let what = what.replacen('%', plural, 1);
            Some(format!("left out {} {what} ({first}{more})", paths.len()))
        };
        let notes = [
            note(&self.loops, "link% to a folder above"),
            note(&self.left_behind, "folder% that a system left behind"),
        ];
        notes.into_iter().flatten().collect()
    }
}

struct Scan<'a> {
    loops: Vec<PathBuf>,
    left_behind: Vec<PathBuf>,
    /// The number of entries read.
    entries: u64,
    /// The folders that the present one is in, without links.
    above: Vec<PathBuf>,
    root: &'a Path,
}

impl Scan<'_> {
    /// `real` is the path without links.
    fn folder(&mut self, path: &Path, real: PathBuf) -> Result<Folder, DataError> {
        if self.above.len() >= limits::DEPTH {
            return Err(self.over(
                self.above.len() as u64 + 1,
                "folders inside one another",
                limits::DEPTH as u64,
            ));
        }
        let names = self.names(path)?;
        self.above.push(real);
        let mut entries = Vec::with_capacity(names.len());
        for (name, kind) in names {
            let entry_path = path.join(&name);
            if is_left_behind(&name) {
                if entry_path.is_dir() {
                    self.left_behind.push(entry_path);
                }
                continue;
            }
            let is_link = kind == EntryKind::Link;
            // A link to nowhere is kept as a file: reading it then gives an error with its path.
            if !(kind == EntryKind::Folder || is_link && entry_path.is_dir()) {
                entries.push(if has_image_extension(&entry_path) {
                    Entry::Image(entry_path)
                } else {
                    Entry::Other(entry_path)
                });
                continue;
            }
            let real = if is_link {
                fs::canonicalize(&entry_path).map_err(|source| io_error(&entry_path, source))?
            } else {
                self.above[self.above.len() - 1].join(&name)
            };
            if is_link && self.above.iter().any(|above| above.starts_with(&real)) {
                self.loops.push(entry_path);
                continue;
            }
            entries.push(Entry::Folder(self.folder(&entry_path, real)?));
        }
        self.above.pop();
        let name = path.file_name().unwrap_or_default();
        Ok(Folder {
            path: path.to_owned(),
            name: name.to_string_lossy().into_owned(),
            entries,
        })
    }

    /// The names in a folder that are not hidden, sorted by their bytes.
    fn names(&mut self, path: &Path) -> Result<Vec<(OsString, EntryKind)>, DataError> {
        let mut names = entries_of(path).map_err(|source| io_error(path, source))?;
        self.entries += names.len() as u64;
        if self.entries > limits::ENTRIES {
            return Err(self.over(self.entries, "files and folders", limits::ENTRIES));
        }
        names.retain(|(name, _)| !name.as_encoded_bytes().starts_with(b"."));
        names.sort_by(|(a, _), (b, _)| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
        Ok(names)
    }

    fn over(&self, found: u64, what: &str, limit: u64) -> DataError {
        DataError::OverLimit {
            path: self.root.to_owned(),
            found,
            what: what.to_owned(),
            limit,
        }
    }
}

fn is_left_behind(name: &OsStr) -> bool {
    let known = |known: &&str| name.eq_ignore_ascii_case(known);
    LEFT_BEHIND.iter().any(known)
}

impl Folder {
    /// The folders in it.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Self> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Folder(folder) => Some(folder),
            _ => None,
        })
    }

    /// The number of images in it, not counting those in folders.
    pub(crate) fn loose_images(&self) -> usize {
        let image = |entry: &&Entry| matches!(entry, Entry::Image(_));
        self.entries.iter().filter(image).count()
    }

    /// The images in it and below it, each folder's entries in the order of their names.
    pub(crate) fn images(&self) -> Vec<&Path> {
        let mut images = Vec::new();
        self.each_file(&mut |path, is_image| {
            if is_image {
                images.push(path);
            }
        });
        images
    }

    /// The other files in it and below it.
    pub(crate) fn others(&self) -> Vec<&Path> {
        let mut others = Vec::new();
        self.each_file(&mut |path, is_image| {
            if !is_image {
                others.push(path);
            }
        });
        others
    }

    /// Calls `see` with every file and whether it is called as images are.
    fn each_file<'a>(&'a self, see: &mut impl FnMut(&'a Path, bool)) {
        for entry in &self.entries {
            match entry {
                Entry::Folder(folder) => folder.each_file(see),
                Entry::Image(path) => see(path, true),
                Entry::Other(path) => see(path, false),
            }
        }
    }

    /// Whether there is an image in it or below it.
    pub(crate) fn has_images(&self) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Folder(folder) => folder.has_images(),
            Entry::Image(_) => true,
            Entry::Other(_) => false,
        })
    }

    /// Whether there is any file in it or below it.
    pub(crate) fn has_files(&self) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Folder(folder) => folder.has_files(),
            _ => true,
        })
    }

    /// The number of folders between it and its deepest file.
    fn depth(&self) -> usize {
        let deepest = self.folders().filter(|folder| folder.has_files());
        deepest.map(|folder| 1 + folder.depth()).max().unwrap_or(0)
    }

    /// What is in it, in words: `2 folders (a: 36 images, b) and 5 files (x.txt, ...)`.
    pub(crate) fn describe(&self) -> String {
        let folders = self.folders().map(|folder| {
            let deep = match folder.depth() {
                0 => String::new(),
                1 => ", up to 1 folder down".to_owned(),
                depth => format!(", up to {depth} folders down"),
            };
            let (images, others) = (folder.images().len(), folder.others());
            match images {
                0 if others.is_empty() => folder.name.clone(),
                0 => format!("{}: {}{deep}", folder.name, kinds(others.into_iter())),
                1 => format!("{}: 1 image{deep}", folder.name),
                images => format!("{}: {images} images{deep}", folder.name),
            }
        });
        let files = self.entries.iter().filter_map(|entry| match entry {
            Entry::Folder(_) => None,
            Entry::Image(path) | Entry::Other(path) => {
                Some(path.file_name()?.to_string_lossy().into_owned())
            }
        });
        let part = |names: Vec<String>, what: &str| {
            let shown = names[..names.len().min(3)].join(", ");
            let more = if names.len() > 3 { ", ..." } else { "" };
            let plural = if names.len() == 1 { "" } else { "s" };
            (!names.is_empty()).then(|| format!("{} {what}{plural} ({shown}{more})", names.len()))
        };
        let parts = [
            part(folders.collect(), "folder"),
            part(files.collect(), "file"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(" and ")
    }
}

/// Files by their extension, in lower case: `1 without extension, 2 .txt`.
pub(crate) fn kinds<'a>(files: impl Iterator<Item = &'a Path>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let extension = file
            .extension()
            .map(|extension| extension.to_string_lossy().to_lowercase());
        *counts.entry(extension.unwrap_or_default()).or_default() += 1;
    }
    let kinds = counts
        .iter()
        .map(|(extension, count)| match extension.as_str() {
            "" => format!("{count} without extension"),
            extension => format!("{count} .{extension}"),
        });
    kinds.collect::<Vec<_>>().join(", ")
}
