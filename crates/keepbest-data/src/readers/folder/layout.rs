//! Which folders of a tree hold the splits and the classes, and what about that is doubtful.

use std::collections::HashSet;

use super::plural;
use crate::DataError;
use crate::readers::split_names::{Part, USUAL, is_fold, parts};
use crate::readers::tree::Folder;

/// The folders of a data set, by split.
#[derive(Debug, Clone)]
pub(super) struct Layout<'a> {
    pub(super) train: &'a Folder,
    pub(super) val: Option<&'a Folder>,
    pub(super) test: Option<&'a Folder>,
    /// The folder that the splits are in, and those in it that are called as splits and used.
    pub(super) around: Option<(&'a Folder, Vec<(Part, &'a Folder)>)>,
    /// The split that stands in `train` where there is nothing to train on.
    pub(super) only: Option<Part>,
}

impl<'a> Layout<'a> {
    /// Looks for splits in `folder`: a folder for training, with folders in it. One called `train` that holds images
    /// itself is a class (of vehicles, say).
    pub(super) fn of_splits(folder: &'a Folder) -> Option<Self> {
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
    pub(super) fn of_classes(folder: &'a Folder) -> Option<Self> {
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
    pub(super) fn notes(&self) -> Vec<String> {
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
pub(super) fn check_classes(folder: &Folder) -> Result<(), DataError> {
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
