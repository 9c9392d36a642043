//! Folders of images, one folder a class: `train/<class>/*.png|jpg|...` with `val/` and `test/` beside it (by these and
//! other usual names, in any case), or one folder of classes.
//!
//! Classes are the folder names of the training set, sorted by their bytes. A class has the images in its folder and in
//! the folders below that, each folder's entries in the order of their names. Hidden files are ignored; what else is not
//! used is counted in the notes. Opening reads the header of every image; decoding happens when an image is asked for.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Unreadable;
use super::files::{FileDataset, Intake};
use super::limits;
use super::reader::{Accepts, Purpose, Reader, Source};
use super::split_names::{Part, USUAL, is_fold, parts};
use super::tree::{Folder, kinds};
use crate::look_alike::look_alike;
use crate::{DataBundle, DataError, Dataset, Mirrored};

/// The folders of a data set, by split.
#[derive(Debug, Clone)]
struct Layout<'a> {
    train: &'a Folder,
    val: Option<&'a Folder>,
    test: Option<&'a Folder>,
    /// The folder that the splits are in, and those in it that are called as splits and used.
    around: Option<(&'a Folder, Vec<(Part, &'a Folder)>)>,
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
        let splits = [
            (only.unwrap_or(Part::Train), Some(train)),
            (Part::Val, val),
            (Part::Test, test),
        ];
        let splits = splits.into_iter();
        let splits: Vec<_> = splits
            .filter_map(|(part, split)| Some((part, split?)))
            .collect();
        if folder.folders().count() == 1 && are_splits(train.folders()) {
            // The folder around the splits is called as one.
            return None;
        }
        let train = folder_of_classes(train, &[]);
        // A folder in another split that is called as a class is that class.
        let known: Vec<&str> = train.folders().map(|class| class.name.as_str()).collect();
        Some(Self {
            train,
            val: val.map(|val| folder_of_classes(val, &known)),
            test: test.map(|test| folder_of_classes(test, &known)),
            around: Some((folder, splits)),
            only,
        })
    }

    /// Takes the folders in `folder` as classes; `None` when there is no image in them, or when they are called as splits
    /// are: `train` and `test` full of images are not two classes.
    pub fn of_classes(folder: &'a Folder) -> Option<Self> {
        if are_splits(folder.folders()) {
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

    /// Which folders were taken for what, where that is not plain; and which beside them are not used.
    fn notes(&self) -> Vec<String> {
        let mut notes = doubts(self.train);
        let Some((around, splits)) = &self.around else {
            return notes;
        };
        let unusual = splits
            .iter()
            .filter(|(_, folder)| !USUAL.contains(&folder.name.as_str()));
        let read: Vec<String> = unusual
            .map(|(part, folder)| format!("`{}` as {}", folder.name, part.name()))
            .collect();
        if !read.is_empty() {
            notes.push(format!("read {}", read.join(", ")));
        }
        let first = &splits[0].1.name;
        let names: Vec<&str> = around.folders().map(|inner| inner.name.as_str()).collect();
        let parts = parts(names.into_iter());
        for (folder, part) in around.folders().zip(parts) {
            let used = splits.iter().any(|(_, split)| std::ptr::eq(*split, folder));
            let images = folder.images().len();
            // An empty folder is worth a word where it is called as a split.
            if !used && (images > 0 || part.is_some()) {
                let images = match images {
                    0 => "no image".to_owned(),
                    images => format!("{images} image{}", plural(images)),
                };
                notes.push(format!(
                    "left out the folder `{}` beside `{first}`, with {images} in it",
                    folder.name,
                ));
            }
        }
        notes
    }
}

/// Whether all folders are called as different splits are, or the only one as one.
fn are_splits<'a>(folders: impl Iterator<Item = &'a Folder>) -> bool {
    let names: Vec<&str> = folders.map(|folder| folder.name.as_str()).collect();
    let parts: Option<Vec<Part>> = parts(names.iter().copied()).into_iter().collect();
    let distinct = |parts: &Vec<Part>| parts.iter().collect::<HashSet<_>>().len();
    parts.is_some_and(|parts| parts.len() < 2 || distinct(&parts) > 1)
}

/// The folder that holds the classes of a split: itself, or the only one in it, where that is called as a split too
/// (`train/train/<class>`) or holds several folders of images (`train/images/<class>`). One that is called as one of the
/// `known` classes is that class.
fn folder_of_classes<'a>(split: &'a Folder, known: &[&str]) -> &'a Folder {
    let mut full = split.folders().filter(|inner| inner.has_files());
    let (Some(inner), None) = (full.next(), full.next()) else {
        return split;
    };
    let classes = inner.folders().filter(|class| class.has_images()).count();
    let loose = split.loose_images() + inner.loose_images();
    let is_split = inner.name == split.name || parts(std::iter::once(&*inner.name))[0].is_some();
    if loose > 0 || known.contains(&&*inner.name) || classes < if is_split { 1 } else { 2 } {
        return split;
    }
    folder_of_classes(inner, known)
}

/// Checks that what would be classes are not splits, sets or folds, by which a model would learn the images it is tested on.
fn check_classes(folder: &Folder) -> Result<(), DataError> {
    let ambiguous = |found: String| DataError::Ambiguous {
        path: folder.path.clone(),
        found,
    };
    let classes: Vec<&Folder> = folder
        .folders()
        .filter(|class| class.has_images())
        .collect();
    let names = |folders: &[&Folder]| {
        let names = folders
            .iter()
            .take(3)
            .map(|folder| format!("`{}`", folder.name));
        let more = if folders.len() > 3 { ", ..." } else { "" };
        names.collect::<Vec<_>>().join(", ") + more
    };
    if classes.len() > 1 && classes.iter().all(|class| is_fold(&class.name)) {
        let found = format!(
            "{} are called as folds of a cross-validation",
            names(&classes)
        );
        return Err(ambiguous(found));
    }
    if classes.len() > 1 && are_splits(classes.iter().copied()) {
        return Err(ambiguous(format!(
            "{} are called as splits",
            names(&classes)
        )));
    }
    for class in &classes {
        let inner: Vec<&Folder> = class.folders().filter(|inner| inner.has_images()).collect();
        let found = parts(inner.iter().map(|inner| inner.name.as_str()));
        let split = |part: Part| found.contains(&Some(part));
        let several = [Part::Train, Part::Val, Part::Test]
            .into_iter()
            .filter(|part| split(*part))
            .count()
            > 1;
        if several || Layout::of_splits(class).is_some() {
            let found = format!(
                "`{}` holds {}, which are called as splits",
                class.name,
                names(&inner)
            );
            return Err(ambiguous(found));
        }
    }
    // Splits with the classes beside them in their folders.
    let found = parts(classes.iter().map(|class| class.name.as_str()));
    let (splits, others): (Vec<_>, Vec<_>) = classes
        .iter()
        .zip(found)
        .partition(|(_, part)| part.is_some());
    let holds_others = |split: &Folder| {
        let mut inner = split.folders().filter(|inner| inner.has_images());
        inner.any(|inner| others.iter().any(|(other, _)| other.name == inner.name))
    };
    let splits: Vec<&Folder> = splits
        .iter()
        .map(|(split, _)| **split)
        .filter(|split| holds_others(split))
        .collect();
    if !splits.is_empty() {
        let others: Vec<&Folder> = others.iter().map(|(other, _)| **other).collect();
        let found = format!(
            "{} {} folders called as {} beside {}",
            names(&splits),
            if splits.len() == 1 { "holds" } else { "hold" },
            names(&others),
            if splits.len() == 1 { "it" } else { "them" },
        );
        return Err(ambiguous(found));
    }
    Ok(())
}

/// What was taken for classes and may be meant otherwise.
fn doubts(folder: &Folder) -> Vec<String> {
    let classes: Vec<&Folder> = folder
        .folders()
        .filter(|class| class.has_images())
        .collect();
    let mut notes = Vec::new();
    let found = parts(classes.iter().map(|class| class.name.as_str()));
    if classes.len() > 1 {
        let called = classes
            .iter()
            .zip(found)
            .filter_map(|(class, part)| Some((class, part?)));
        notes.extend(called.map(|(class, part)| {
            format!(
                "`{}` is taken for a class like those beside it, not for {} images",
                class.name,
                part.name()
            )
        }));
    }
    let inner = |class: &Folder| -> Vec<String> {
        let full = class.folders().filter(|inner| inner.has_images());
        full.map(|inner| inner.name.clone()).collect()
    };
    if let [first, others @ ..] = &classes[..]
        && !others.is_empty()
    {
        let same = inner(first);
        let loose = classes.iter().any(|class| class.loose_images() > 0);
        if same.len() > 1 && !loose && others.iter().all(|other| inner(other) == same) {
            notes.push(format!(
                "the {} folders `{}`, ... are taken for the classes; all hold the same folders (`{}`, ...): if those are the classes, \
                 call the outer ones train, val and test",
                classes.len(),
                first.name,
                same[0]
            ));
        }
    }
    notes
}

/// The folder in `folder` that alone can hold the data set: the only one with splits in it, or the only one with files,
/// where those are in folders again. Single images beside several folders of them are none.
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
        let several = full.folders().filter(|class| class.has_images()).count() > 1;
        let loose = folder.loose_images();
        (full.loose_images() == 0 && (loose == 0 || several)).then_some(full)
    })
}

/// What lies beside the folders from `root` to `folder`, that of the data set, and is not used.
pub(crate) fn passed_by(root: &Folder, folder: &Folder) -> Vec<String> {
    let mut notes = Vec::new();
    let mut around = root;
    while !std::ptr::eq(around, folder)
        && let Some(inner) = inner_folder(around)
    {
        let others = around
            .folders()
            .filter(|other| !std::ptr::eq(*other, inner));
        for (other, images) in others.map(|other| (other, other.images().len())) {
            if images > 0 {
                notes.push(format!(
                    "left out the folder `{}` beside `{}`, with {images} image{} in it",
                    other.name,
                    inner.name,
                    plural(images)
                ));
            }
        }
        let loose = around.loose_images();
        if loose > 0 {
            notes.push(format!(
                "left out {loose} image{} beside the folder `{}`",
                plural(loose),
                inner.name
            ));
        }
        around = inner;
    }
    notes
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
        if source.unreadable == Unreadable::Refuse {
            tree.check_links()?;
        }
        let mut bundle = read(&layout, source)?;
        bundle.notes.extend(passed_by(&tree.root, folder));
        bundle.notes.extend(tables_beside(&tree.root, &layout));
        bundle.notes.extend(tree.notes());
        Ok(Some(bundle))
    }
}

/// Names the tables in the folders around the classes: they may say more of the images than the folders do.
fn tables_beside(root: &Folder, layout: &Layout<'_>) -> Option<String> {
    let is_table = |path: &&Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|one| {
            ["csv", "tsv"]
                .iter()
                .any(|two| two.eq_ignore_ascii_case(one))
        })
    };
    let mut tables = Vec::new();
    let mut around = Some(root);
    while let Some(folder) = around {
        tables.extend(folder.loose_others().filter(is_table));
        let mut inner = folder.folders();
        around = inner.find(|inner| layout.train.path.starts_with(&inner.path));
    }
    let first = tables.first()?;
    let (table, it) = match tables.len() {
        1 => ("the table".to_owned(), "it says"),
        count => (format!("{count} tables such as"), "they say"),
    };
    Some(format!(
        "not used: {table} {} beside the images; if {it} what they show, name it as the data",
        first.display()
    ))
}

/// Reads the headers of all images.
///
/// # Errors
/// When there are no class folders; an image's header cannot be read (the first is named); and to train on, when a class folder
/// of the training set is empty, or another split has a class that the training set does not have.
fn read(layout: &Layout<'_>, source: &Source<'_>) -> Result<DataBundle, DataError> {
    check_classes(layout.train)?;
    let mut intake = Intake::new(source.unreadable, source.watch);
    let mut found = Found::default();
    let mut classes: Vec<String> = class_folders(layout.train)?
        .iter()
        .map(|class| class.name.clone())
        .collect();
    if source.purpose == Purpose::Measuring {
        for split in [layout.val, layout.test].into_iter().flatten() {
            for class in class_folders(split)? {
                if class.has_images() && !classes.contains(&class.name) {
                    classes.push(class.name.clone());
                }
            }
        }
    }
    if classes.is_empty() {
        return Err(DataError::Empty {
            path: layout.train.path.clone(),
        });
    }
    limits::check_classes(&layout.train.path, classes.len(), "classes")?;
    // To measure on, some of the classes will do.
    let every = layout.only.is_none() && source.purpose == Purpose::Training;
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
                looks_known: classes.iter().any(|class| look_alike(class, &folder.name)),
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
