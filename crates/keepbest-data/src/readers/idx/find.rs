//! The files of a data set in IDX format, found by their names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::readers::disk::names_in;
use crate::readers::split_names::{Part, parts};

/// A file of images and that of their labels.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) images: PathBuf,
    pub(super) labels: PathBuf,
}

/// The files of a data set in IDX format.
#[derive(Debug, Clone)]
pub(crate) struct IdxFiles {
    pub(super) train: Option<Pair>,
    pub(super) val: Option<Pair>,
    pub(super) test: Option<Pair>,
    /// Files of images that are not used.
    pub(super) unused: Vec<String>,
}

impl IdxFiles {
    /// Looks for the files in `folder`: `train-images-idx3-ubyte`, also written `train-images.idx3-ubyte`, and gzipped, in any
    /// case; the splits by any usual name, `t10k` for the test, and with the set's name before it (`emnist-letters-train`).
    /// `None` when there are none.
    ///
    /// # Errors
    /// When images are there without their labels, or those of several sets.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        let names = names_in(folder)?;
        let mut images: Vec<(IdxName, &String, &PathBuf)> = names
            .iter()
            .filter_map(|(name, path)| Some((IdxName::of(name, "images", 3)?, name, path)))
            .collect();
        // Plain before gzip, a dash before a point, and the usual name of a split before others.
        images.sort_by_key(|(idx, name, _)| (idx.rank(), (*name).clone()));
        let parts = parts_of(&images);
        let of_splits = images.iter().zip(&parts).filter(|(_, part)| part.is_some());
        let sets: BTreeSet<String> = of_splits
            .map(|((idx, ..), _)| idx.set_name().to_owned())
            .collect();
        // Names without a set's come before those with one.
        let mut sets = sets.into_iter();
        let set = sets.next().unwrap_or_default();
        if let Some(other) = sets.next().filter(|_| !set.is_empty()) {
            return Err(DataError::Ambiguous {
                path: folder.to_owned(),
                found: format!("IDX files of several sets, `{set}...` and `{other}...`"),
            });
        }
        let of_set = images.iter().zip(parts);
        let parts: Vec<Option<Part>> = of_set
            .map(|((idx, ..), part)| part.filter(|_| idx.set_name() == set))
            .collect();
        let pair = |part: Part| -> Result<Option<Pair>, DataError> {
            let Some(at) = parts.iter().position(|found| *found == Some(part)) else {
                return Ok(None);
            };
            let (idx, _, path) = &images[at];
            let mut labels: Vec<(u8, &PathBuf)> = names
                .iter()
                .filter_map(|(name, path)| {
                    let found = IdxName::of(name, "labels", 1)?;
                    (found.prefix == idx.prefix).then_some((found.form, path))
                })
                .collect();
            labels.sort();
            match labels.first() {
                Some((_, labels)) => Ok(Some(Pair {
                    images: (*path).clone(),
                    labels: (*labels).clone(),
                })),
                None => Err(DataError::MissingFile {
                    path: folder.join(format!("{}labels-idx1-ubyte[.gz]", idx.prefix)),
                    needed_by: path.display().to_string(),
                }),
            }
        };
        let (train, val, test) = (pair(Part::Train)?, pair(Part::Val)?, pair(Part::Test)?);
        if train.is_none() && val.is_none() && test.is_none() {
            return Ok(None);
        }
        let used: Vec<&str> = [Part::Train, Part::Val, Part::Test]
            .iter()
            .filter_map(|part| parts.iter().position(|found| *found == Some(*part)))
            .map(|at| images[at].0.prefix.as_str())
            .collect();
        // The same file once more, packed, is not worth a word.
        let unused = images
            .iter()
            .filter(|(idx, ..)| !used.contains(&idx.prefix.as_str()));
        Ok(Some(Self {
            unused: unused.map(|(_, name, _)| (*name).clone()).collect(),
            train,
            val,
            test,
        }))
    }
}

/// The split of each file of images; those without any name are for training.
fn parts_of(images: &[(IdxName, &String, &PathBuf)]) -> Vec<Option<Part>> {
    let names = images.iter().map(|(idx, ..)| idx.split());
    let found = parts(names);
    let named = images.iter().zip(found);
    named
        .map(|((idx, ..), part)| match idx.split() {
            "" => Some(Part::Train),
            "t10k" => Some(Part::Test),
            _ => part,
        })
        .collect()
}

/// The name of an IDX file, taken apart.
#[derive(Debug)]
struct IdxName {
    /// What stands before `images` or `labels`, in lower case: `train-`, `emnist-letters-test-`.
    prefix: String,
    /// The order of ways to write it: plain before gzip, a dash before a point.
    form: u8,
}

impl IdxName {
    /// Takes apart a name such as `train-images-idx3-ubyte.gz`; `None` for any other.
    fn of(name: &str, what: &str, rank: u8) -> Option<Self> {
        let lower = name.to_ascii_lowercase().replace('_', "-");
        let (plain, packed) = match lower.strip_suffix(".gz") {
            Some(plain) => (plain, true),
            None => (lower.as_str(), false),
        };
        let plain = plain.strip_suffix(&format!("idx{rank}-ubyte"))?;
        let (plain, point) = match plain.strip_suffix('-') {
            Some(plain) => (plain, false),
            None => (plain.strip_suffix('.')?, true),
        };
        Some(Self {
            prefix: plain.strip_suffix(what)?.to_owned(),
            form: 2 * u8::from(point) + u8::from(packed),
        })
    }

    /// The last word before `images`.
    fn split(&self) -> &str {
        let name = self.prefix.trim_end_matches(['-', '_', '.']);
        name.rsplit(['-', '_', '.']).next().unwrap_or(name)
    }

    /// What stands before the split.
    fn set_name(&self) -> &str {
        let name = self.prefix.trim_end_matches(['-', '_', '.']);
        name.strip_suffix(self.split()).unwrap_or("")
    }

    fn rank(&self) -> (usize, u8) {
        let usual = ["train", "val", "t10k", "test"];
        let at = usual.iter().position(|usual| *usual == self.split());
        (at.unwrap_or(usual.len()), self.form)
    }
}
