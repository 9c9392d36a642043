//! Folders of images, one folder a class: `train/<class>/*.png|jpg|...` with `val/` and `test/` beside it (by these and
//! other usual names, in any case), or one folder of classes.
//!
//! Classes are the folder names of the training set, sorted by their bytes. A class has the images in its folder and in
//! the folders below that, each folder's entries in the order of their names. Hidden files are ignored; what else is not
//! used is counted in the notes. Opening reads the header of every image; decoding happens when an image is asked for.

mod layout;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::layout::{Layout, check_classes};
pub(crate) use self::layout::{inner_folder, passed_by};
use super::files::{FileDataset, Intake};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use super::split_names::Part;
use super::tree::{Folder, kinds};
use crate::{DataBundle, DataError, Dataset, Mirrored};

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
        bundle.notes.extend(passed_by(&tree.root, folder));
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
    check_classes(layout.train)?;
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
    found.loose += layout
        .around
        .as_ref()
        .map_or(0, |(around, _)| around.loose_images());
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
    FileDataset::open("image folder", &split.path, classes, files, intake)
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

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
