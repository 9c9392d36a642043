//! Folders of images, one folder a class: `train/<class>/*.png|jpg|...` with `val/` and `test/` beside it, or one folder
//! of classes.
//!
//! Classes are the folder names of the training set, sorted by their bytes; images are sorted by their names. Hidden files
//! are ignored; files of other kinds, and folders inside class folders, are left out and counted in the notes. Opening
//! reads the header of every image; decoding happens when an image is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{FileDataset, Intake, Unreadable};
use super::{Entry, read_folder};
use crate::input::has_image_extension;
use crate::{DataBundle, DataError, Dataset, Watch};

/// The folders of a data set, by split.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    train: PathBuf,
    val: Option<PathBuf>,
    test: Option<PathBuf>,
    /// The split that stands in `train` where there is nothing to train on.
    only: Option<&'static str>,
}

const TRAIN: &[&str] = &["train"];
const VAL: &[&str] = &["val", "valid", "validation"];
const TEST: &[&str] = &["test"];

impl Layout {
    /// Looks for class folders in `folder`; `None` when there are none with an image in them, or when they are called as
    /// splits are: `train` and `test` full of images are not two classes.
    pub fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        let entries = read_folder(folder)?;
        // A folder called `train` that holds images itself is a class (of vehicles, say), not a split.
        let split = |names: &[&str]| -> Result<Option<PathBuf>, DataError> {
            for entry in entries
                .iter()
                .filter(|entry| entry.is_dir && names.contains(&entry.name.as_str()))
            {
                if read_folder(&entry.path)?.iter().any(|inner| inner.is_dir) {
                    return Ok(Some(entry.path.clone()));
                }
            }
            Ok(None)
        };
        if let Some(train) = split(TRAIN)? {
            return Ok(Some(Self {
                train,
                val: split(VAL)?,
                test: split(TEST)?,
                only: None,
            }));
        }
        let is_split = |entry: &Entry| [TRAIN, VAL, TEST].concat().contains(&entry.name.as_str());
        if entries.iter().filter(|entry| entry.is_dir).all(is_split) {
            let held_out = match (split(TEST)?, split(VAL)?) {
                (Some(test), val) => Some((test, val, "test")),
                (None, Some(val)) => Some((val, None, "val")),
                (None, None) => None,
            };
            return Ok(held_out.map(|(train, val, only)| Self {
                train,
                val,
                test: None,
                only: Some(only),
            }));
        }
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            if read_folder(&entry.path)?.iter().any(is_image) {
                return Ok(Some(Self {
                    train: folder.to_owned(),
                    val: None,
                    test: None,
                    only: None,
                }));
            }
        }
        Ok(None)
    }
}

fn is_image(entry: &Entry) -> bool {
    !entry.is_dir && has_image_extension(&entry.path)
}

/// Opens a folder of images.
///
/// # Errors
/// When there are no class folders, one of the training set is empty, an image's header cannot be read (the first is
/// named), or another split has a class that the training set does not have.
pub fn open(folder: &Path) -> Result<DataBundle, DataError> {
    let layout = Layout::find(folder)?.ok_or_else(|| DataError::Empty {
        path: folder.to_owned(),
    })?;
    open_layout(&layout, folder, Unreadable::Refuse, Watch::none())
}

pub(crate) fn open_layout(
    layout: &Layout,
    folder: &Path,
    unreadable: Unreadable,
    watch: Watch<'_>,
) -> Result<DataBundle, DataError> {
    let mut intake = Intake::new(unreadable, watch);
    let mut left_out = LeftOut::default();
    let classes: Arc<[String]> = class_folders(&layout.train)?
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    if classes.is_empty() {
        return Err(DataError::Empty {
            path: layout.train.clone(),
        });
    }
    // To measure on, some of the classes will do.
    let every = layout.only.is_none();
    let train = read_split(&layout.train, &classes, every, &mut left_out, &mut intake)?;
    let mut other = |path: &Option<PathBuf>| -> Result<Option<Arc<dyn Dataset>>, DataError> {
        let Some(path) = path else { return Ok(None) };
        let set = read_split(path, &classes, false, &mut left_out, &mut intake)?;
        if set.is_empty() {
            return Err(DataError::Empty { path: path.clone() });
        }
        Ok(Some(Arc::new(set)))
    };
    let (val, test) = (other(&layout.val)?, other(&layout.test)?);
    Ok(DataBundle {
        kind: "folders",
        only: layout.only,
        notes: left_out.notes().into_iter().chain(intake.note()).collect(),
        skipped: intake.skipped,
        ..DataBundle::new(folder.display().to_string(), Arc::new(train), val, test)
    })
}

/// The class folders of a split, their names checked.
fn class_folders(split: &Path) -> Result<Vec<Entry>, DataError> {
    let folders: Vec<Entry> = read_folder(split)?
        .into_iter()
        .filter(|entry| entry.is_dir)
        .collect();
    match folders.iter().find(|entry| {
        entry
            .path
            .file_name()
            .is_some_and(|name| name.to_str().is_none())
    }) {
        Some(entry) => Err(DataError::ClassName {
            path: entry.path.clone(),
            reason: "the folder's name is not UTF-8".to_owned(),
        }),
        None => Ok(folders),
    }
}

fn read_split(
    split: &Path,
    classes: &[String],
    every_class: bool,
    left_out: &mut LeftOut,
    intake: &mut Intake<'_>,
) -> Result<FileDataset, DataError> {
    left_out.loose += read_folder(split)?
        .iter()
        .filter(|entry| is_image(entry))
        .count();
    let mut files = Vec::new();
    for folder in class_folders(split)? {
        let label = classes.iter().position(|class| *class == folder.name);
        let mut images = 0;
        for entry in read_folder(&folder.path)? {
            if !is_image(&entry) {
                left_out.count(&entry);
                continue;
            }
            images += 1;
            files.extend(label.map(|label| (entry.path, label as u32)));
        }
        if label.is_none() && images > 0 {
            return Err(DataError::UnknownClass {
                path: folder.path,
                class: folder.name,
            });
        }
        if every_class && images == 0 {
            return Err(DataError::EmptyClass {
                path: folder.path,
                class: folder.name,
            });
        }
    }
    FileDataset::open("image folder", classes, files, intake)
}

/// What was found in class folders and is no image.
#[derive(Default)]
struct LeftOut {
    /// Images that are in no class folder.
    loose: usize,
    /// Folders in class folders.
    folders: usize,
    /// By extension, lower case.
    files: BTreeMap<String, usize>,
}

impl LeftOut {
    fn count(&mut self, entry: &Entry) {
        if entry.is_dir {
            self.folders += 1;
        } else {
            let extension = entry
                .path
                .extension()
                .map(|extension| extension.to_string_lossy().to_lowercase());
            *self.files.entry(extension.unwrap_or_default()).or_default() += 1;
        }
    }

    fn notes(&self) -> Vec<String> {
        let kinds: Vec<String> = self
            .files
            .iter()
            .map(|(extension, count)| match extension.as_str() {
                "" => format!("{count} without extension"),
                extension => format!("{count} .{extension}"),
            })
            .collect();
        let others: usize = self.files.values().sum();
        let note = |count: usize, what: &str, more: String| {
            let plural = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("left out {count} {}{more}", what.replacen('%', plural, 1)))
        };
        let notes = [
            note(
                others,
                "file% in class folders that are no images",
                format!(": {}", kinds.join(", ")),
            ),
            note(self.folders, "folder% inside class folders", String::new()),
            note(
                self.loose,
                "image% outside the class folders",
                String::new(),
            ),
        ];
        notes.into_iter().flatten().collect()
    }
}
