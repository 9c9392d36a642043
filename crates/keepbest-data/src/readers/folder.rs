//! Folders of images, one folder a class: `train/<class>/*.png|jpg|...` with `val/` and `test/` beside it (by these and
//! other usual names, in any case), or one folder of classes.
//!
//! Classes are the folder names of the training set, sorted by their bytes. A class has the images in its folder and in
//! the folders below that, each folder's entries in the order of their names. Hidden files are ignored; what else is not
//! used is counted in the notes. Opening reads the header of every image; decoding happens when an image is asked for.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{FileDataset, Intake};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use super::split_names::{Part, parts};
use super::tree::Folder;
use crate::{DataBundle, DataError, Dataset, Mirrored};

/// The folders of a data set, by split.
#[derive(Debug, Clone)]
struct Layout<'a> {
    train: &'a Folder,
    val: Option<&'a Folder>,
    test: Option<&'a Folder>,
    /// The folder that the splits are in.
    around: Option<&'a Folder>,
    /// The split that stands in `train` where there is nothing to train on.
    only: Option<Part>,
}

impl<'a> Layout<'a> {
    /// Looks for splits in `folder`: a folder for training, with folders in it. One called `train` that holds images
    /// itself is a class (of vehicles, say).
    pub fn of_splits(folder: &'a Folder) -> Option<Self> {
        let found: Vec<&Folder> = folder
            .folders()
            .filter(|inner| inner.folders().next().is_some())
            .collect();
        let parts = parts(found.iter().map(|inner| inner.name.as_str()));
        let of = |part: Part| {
            let named = found.iter().zip(&parts);
            let mut named: Vec<&Folder> = named
                .filter(|(_, found)| **found == Some(part))
                .map(|(inner, _)| *inner)
                .collect();
            // Of several the usual one; the others are told.
            named.sort_by_key(|inner| !USUAL.contains(&inner.name.as_str()));
            named.first().copied()
        };
        let (train, val, test, only) = match (of(Part::Train), of(Part::Val), of(Part::Test)) {
            (Some(train), val, test) => (train, val, test, None),
            // Held-out images alone, to measure on: where no folder beside them could be a class.
            (None, ..) if parts.contains(&None) || found.len() < folder.folders().count() => {
                return None;
            }
            (None, val, Some(test)) => (test, val, None, Some(Part::Test)),
            (None, Some(val), None) => (val, None, None, Some(Part::Val)),
            (None, None, None) => return None,
        };
        Some(Self {
            train,
            val,
            test,
            around: Some(folder),
            only,
        })
    }

    /// Takes the folders in `folder` as classes; `None` when there is no image in them, or when they are called as splits
    /// are: `train` and `test` full of images are not two classes.
    pub fn of_classes(folder: &'a Folder) -> Option<Self> {
        let names = folder.folders().map(|inner| inner.name.as_str());
        if parts(names).iter().all(Option::is_some) {
            return None;
        }
        let any = folder.folders().any(Folder::has_images);
        any.then_some(Self {
            train: folder,
            val: None,
            test: None,
            around: None,
            only: None,
        })
    }

    fn splits(&self) -> impl Iterator<Item = (Part, &'a Folder)> {
        let splits = [
            (self.only.unwrap_or(Part::Train), Some(self.train)),
            (Part::Val, self.val),
            (Part::Test, self.test),
        ];
        splits
            .into_iter()
            .filter_map(|(part, folder)| Some((part, folder?)))
    }

    /// Which folders were taken for what, where that is not plain; and which beside them are not used.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(around) = self.around else {
            return notes;
        };
        let unusual = self
            .splits()
            .filter(|(_, folder)| !USUAL.contains(&folder.name.as_str()));
        let read: Vec<String> = unusual
            .map(|(part, folder)| format!("`{}` as {}", folder.name, part.name()))
            .collect();
        if !read.is_empty() {
            notes.push(format!("read {}", read.join(", ")));
        }
        for folder in around.folders() {
            let used = self.splits().any(|(_, split)| std::ptr::eq(split, folder));
            let images = folder.images().len();
            if !used && images > 0 {
                notes.push(format!(
                    "left out the folder `{}` beside `{}`, with {images} image{} in it",
                    folder.name,
                    self.train.name,
                    plural(images)
                ));
            }
        }
        notes
    }
}

/// The names of splits that need no explanation.
const USUAL: [&str; 5] = ["train", "val", "valid", "validation", "test"];

/// The folder in `folder` that alone can hold the data set: the only one with splits in it, or the only one with files,
/// where those are in folders again.
pub(crate) fn inner_folder(folder: &Folder) -> Option<&Folder> {
    fn only<'a>(mut folders: impl Iterator<Item = &'a Folder>) -> Option<&'a Folder> {
        let first = folders.next()?;
        folders.next().is_none().then_some(first)
    }
    let with_splits = folder
        .folders()
        .filter(|inner| Layout::of_splits(inner).is_some());
    only(with_splits).or_else(|| {
        let full = only(folder.folders().filter(|inner| inner.has_files()))?;
        (full.loose_images() == 0 && folder.loose_images() == 0).then_some(full)
    })
}

/// A folder of images, one folder a class.
#[derive(Debug)]
pub(crate) struct ImageFolders;

impl Reader for ImageFolders {
    fn kind(&self) -> &'static str {
        "folders"
    }

    fn accepts(&self) -> Accepts {
        Accepts::Folder(
            "of images as train/<class>/ with val/ and test/ beside it or as <class>/ (PNG, JPEG, WebP, BMP, TIFF, GIF, PNM)",
        )
    }

    fn mirrored(&self) -> Mirrored {
        Mirrored::Unknown
    }

    /// Takes a folder of splits; one of classes only where there is no folder in it that can hold the data set.
    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
        let Some((tree, folder)) = source.tree else {
            return Ok(None);
        };
        let classes = || match inner_folder(folder) {
            Some(_) => None,
            None => Layout::of_classes(folder),
        };
        let Some(layout) = Layout::of_splits(folder).or_else(classes) else {
            return Ok(None);
        };
        let mut bundle = read(&layout, source)?;
        bundle.notes.extend(tree.notes());
        Ok(Some(bundle))
    }
}

/// Reads the headers of all images.
///
/// # Errors
/// When there are no class folders, one of the training set is empty, an image's header cannot be read (the first is
/// named), or another split has a class that the training set does not have.
fn read(layout: &Layout<'_>, source: &Source<'_>) -> Result<DataBundle, DataError> {
    let mut intake = Intake::new(source.unreadable, source.watch);
    let mut found = Found::default();
    let classes: Vec<String> = class_folders(layout.train)?
        .iter()
        .map(|class| class.name.clone())
        .collect();
    if classes.is_empty() {
        return Err(DataError::Empty {
            path: layout.train.path.clone(),
        });
    }
    limits::check_classes(&layout.train.path, classes.len(), "classes")?;
    // To measure on, some of the classes will do.
    let every = layout.only.is_none();
    let train = read_split(layout.train, &classes, every, &mut found, &mut intake)?;
    let mut other = |split: Option<&Folder>| -> Result<Option<Arc<dyn Dataset>>, DataError> {
        let Some(split) = split else { return Ok(None) };
        let set = read_split(split, &classes, false, &mut found, &mut intake)?;
        if set.is_empty() {
            return Err(DataError::Empty {
                path: split.path.clone(),
            });
        }
        Ok(Some(Arc::new(set)))
    };
    let (val, test) = (other(layout.val)?, other(layout.test)?);
    found.loose += layout.around.map_or(0, Folder::loose_images);
    let notes = layout.notes().into_iter().chain(found.notes());
    let name = source.path.display().to_string();
    Ok(DataBundle {
        only: layout.only.map(Part::name),
        notes: notes.chain(intake.note()).collect(),
        skipped: intake.skipped,
        ..DataBundle::new(name, Arc::new(train), val, test)
    })
}

/// The class folders of a split, their names checked.
fn class_folders(split: &Folder) -> Result<Vec<&Folder>, DataError> {
    let folders: Vec<&Folder> = split.folders().collect();
    let unreadable = folders.iter().find(|folder| {
        let name = folder.path.file_name();
        name.is_some_and(|name| name.to_str().is_none())
    });
    match unreadable {
        Some(folder) => Err(DataError::ClassName {
            path: folder.path.clone(),
            reason: "the folder's name is not UTF-8".to_owned(),
        }),
        None => Ok(folders),
    }
}

fn read_split(
    split: &Folder,
    classes: &[String],
    every_class: bool,
    found: &mut Found,
    intake: &mut Intake<'_>,
) -> Result<FileDataset, DataError> {
    let labels: HashMap<&str, u32> = (0u32..)
        .zip(classes)
        .map(|(label, class)| (class.as_str(), label))
        .collect();
    found.loose += split.loose_images();
    let mut files: Vec<(PathBuf, u32)> = Vec::new();
    for folder in class_folders(split)? {
        let label = labels.get(folder.name.as_str());
        let images = folder.images();
        found.count(folder);
        if let Some(&label) = label {
            files.extend(images.iter().map(|&path| (path.to_owned(), label)));
        } else if !images.is_empty() {
            return Err(DataError::UnknownClass {
                path: folder.path.clone(),
                class: folder.name.clone(),
            });
        }
        if every_class && images.is_empty() {
            return Err(DataError::EmptyClass {
                path: folder.path.clone(),
                class: folder.name.clone(),
                found: kinds(folder.others().into_iter()),
            });
        }
    }
    FileDataset::open("image folder", classes, files, intake)
}

/// What was found in class folders besides the images that lie there plainly.
#[derive(Default)]
struct Found {
    /// Images that are in no class folder.
    loose: usize,
    /// Images that lie in folders inside class folders, and the first of them.
    nested: usize,
    first_nested: Option<PathBuf>,
    /// Files that are no images.
    others: Vec<PathBuf>,
}

impl Found {
    fn count(&mut self, class: &Folder) {
        for inner in class.folders() {
            let images = inner.images();
            self.nested += images.len();
            if self.first_nested.is_none() {
                self.first_nested = images.first().map(|&path| path.to_owned());
            }
        }
        self.others
            .extend(class.others().into_iter().map(Path::to_owned));
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let others = self.others.len();
        if others > 0 {
            let kinds = kinds(self.others.iter().map(PathBuf::as_path));
            notes.push(format!(
                "left out {others} file{} in class folders that are no images: {kinds}",
                plural(others)
            ));
        }
        if let Some(first) = &self.first_nested {
            notes.push(format!(
                "{} image{} in folders inside class folders count for the class, such as {}",
                self.nested,
                plural(self.nested),
                first.display()
            ));
        }
        if self.loose > 0 {
            notes.push(format!(
                "left out {} image{} outside the class folders",
                self.loose,
                plural(self.loose)
            ));
        }
        notes
    }
}

/// Files by their extension, in lower case: `1 without extension, 2 .txt`.
fn kinds<'a>(files: impl Iterator<Item = &'a Path>) -> String {
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

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
