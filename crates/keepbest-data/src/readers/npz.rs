//! NumPy archives (`.npz`): arrays of images and of labels.
//!
//! Names as Keras, scikit-learn, MedMNIST and others give them, in any case: `x_train`, `y_train`, `X_val`, `x_test`, ...;
//! `train_images`, `train_labels`, `val_images`, ...; or, without a split, `images` and `labels`, or `x` and `y`; splits by any
//! usual name. Where no name tells, the only array with the shape of images and the only one of labels for them. What is not
//! used is told. Images are `[n][h][w]`, `[n][h][w][c]` or `[n][c][h][w]` with one or three channels: whole numbers from 0 to
//! 255 of any type, or floats from 0 to 1. Labels are `[n]` or `[n][1]`, numbers or text, or `[n][classes]` with one 1 in each
//! row. Names of the classes come from `classes.txt` beside the file, one a line; without it they are the numbers, or the text.
//! Arrays of Python objects are never read: they are pickles.

mod names;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use zip::ZipArchive;
use zip::read::ZipFile;

use self::values::{Labels, Pixels};
use super::class_names::class_names_or_numbers;
use super::disk::{io_error, is_there, open_file};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use crate::dataset::check_labels;
use crate::{DataBundle, DataError, Dataset, MemoryDataset, Mirrored};

const CLASSES_FILE: &str = "classes.txt";

/// A header longer than this is none.
const MAX_HEADER: usize = 64 << 10;

/// A NumPy archive.
#[derive(Debug)]
pub(crate) struct Npz;

impl Reader for Npz {
    fn kind(&self) -> &'static str {
        "npz"
    }

    fn accepts(&self) -> Accepts {
        Accepts::File("a NumPy .npz")
    }

    fn mirrored(&self) -> Mirrored {
        Mirrored::Unknown
    }

    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
        match source.has_extension(&["npz"]) {
            true => open(source.path).map(Some),
            false => Ok(None),
        }
    }
}

/// Opens a NumPy archive.
///
/// # Errors
/// When it is damaged, has no images by a name or shape that tells, or an array is of another type or shape.
fn open(path: &Path) -> Result<DataBundle, DataError> {
    let file = open_file(path)?;
    let length = file.metadata().map_err(|source| io_error(path, source))?;
    let archive = ZipArchive::new(file).map_err(|error| bad(path, "", error.to_string()))?;
    let mut archive = Archive {
        path,
        archive,
        // What the arrays may take, all of them together.
        room: limits::unpacked_bytes(length.len()),
    };
    let mut found = names::sort(&archive.arrays());
    let mut notes = Vec::new();
    if found.train.is_none() && found.val.is_none() && found.test.is_none() {
        let (images, labels) = archive.by_shape(&found.unused)?;
        notes.push(format!(
            "read array `{images}` as images and `{labels}` as their labels"
        ));
        found.unused.clear();
        found.train = Some((images, Some(labels)));
    }
    let mut set = |pair: Option<(String, Option<String>)>| archive.set(pair, &mut notes);
    let (train, val, test) = (set(found.train)?, set(found.val)?, set(found.test)?);
    notes.extend(left_out(&found.unused));
    check_scales(path, [&train, &val, &test])?;
    if [&train, &val, &test]
        .iter()
        .any(|set| set.as_ref().is_some_and(|set| set.pixels.scaled))
    {
        notes.push("numbers from 0 to 1 in it were read as levels from 0 to 255".to_owned());
    }
    let leading = train.as_ref().or(test.as_ref()).or(val.as_ref());
    let classes = leading.map(|set| classes(path, set)).transpose()?;
    let classes = classes.unwrap_or_default();
    let dataset = |set: Set| {
        let origin = format!("{}:{}", path.display(), set.name);
        let labels = set.numbers(path, &classes)?;
        check_labels(&origin, &labels, classes.len())?;
        let Pixels { shape, values, .. } = set.pixels;
        let set = MemoryDataset::new(origin, shape, values, labels, classes.clone());
        Ok(Arc::new(set?) as Arc<dyn Dataset>)
    };
    let splits = [
        train.map(dataset).transpose()?,
        val.map(dataset).transpose()?,
        test.map(dataset).transpose()?,
    ];
    Ok(DataBundle {
        notes,
        ..DataBundle::of_splits(path, splits)?
    })
}

fn left_out(arrays: &[String]) -> Option<String> {
    const SHOWN: usize = 6;
    let shown: Vec<String> = arrays
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if arrays.len() > SHOWN { ", ..." } else { "" };
    let plural = if arrays.len() == 1 { "" } else { "s" };
    (!arrays.is_empty()).then(|| format!("left out the array{plural} {}{more}", shown.join(", ")))
}

/// Levels from 0 to 1 in one split and from 0 to 255 in another are a mistake of whoever wrote them.
fn check_scales(path: &Path, sets: [&Option<Set>; 3]) -> Result<(), DataError> {
    let mut sets = sets.into_iter().flatten();
    let Some(first) = sets.next() else {
        return Ok(());
    };
    match sets.find(|set| set.pixels.scaled != first.pixels.scaled) {
        None => Ok(()),
        Some(other) => {
            let range = |set: &Set| {
                if set.pixels.scaled {
                    "0 to 1"
                } else {
                    "0 to 255"
                }
            };
            let reason = format!(
                "its images are numbers from {}, those of `{}` from {}",
                range(other),
                first.images,
                range(first)
            );
            Err(bad(path, &other.images, reason))
        }
    }
}

/// The classes by the file beside the archive, by the text of the labels, or by their numbers.
fn classes(path: &Path, leading: &Set) -> Result<Vec<String>, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    match &leading.labels {
        Labels::Names(names) => {
            let distinct: BTreeSet<&String> = names.iter().collect();
            limits::check_classes(path, distinct.len(), "classes")?;
            Ok(distinct.into_iter().cloned().collect())
        }
        Labels::Numbers(numbers, least) => {
            limits::check_classes(path, *least, "classes")?;
            let mut classes = class_names_or_numbers(folder, CLASSES_FILE, path, numbers)?;
            if !is_there(&folder.join(CLASSES_FILE)) {
                classes.extend((classes.len()..*least).map(|class| class.to_string()));
            }
            Ok(classes)
        }
    }
}

/// The images and labels of a split.
struct Set {
    pixels: Pixels,
    labels: Labels,
    /// The arrays that they are from.
    images: String,
    name: String,
}

impl Set {
    /// The labels as numbers of the classes.
    fn numbers(&self, path: &Path, classes: &[String]) -> Result<Vec<u32>, DataError> {
        let names = match &self.labels {
            Labels::Numbers(numbers, _) => return Ok(numbers.clone()),
            Labels::Names(names) => names,
        };
        let numbers: HashMap<&str, u32> = (0u32..)
            .zip(classes)
            .map(|(number, class)| (class.as_str(), number))
            .collect();
        let number = |(index, name): (usize, &String)| {
            numbers.get(name.as_str()).copied().ok_or_else(|| {
                let reason =
                    format!("label `{name}` at index {index} is not one of the training images'");
                bad(path, &self.name, reason)
            })
        };
        names.iter().enumerate().map(number).collect()
    }
}

fn bad(path: &Path, array: &str, reason: String) -> DataError {
    DataError::Npz {
        path: path.to_owned(),
        array: array.to_owned(),
        reason,
    }
}

/// An array as it lies in the file.
struct Array {
    /// NumPy's type string, such as `|u1` or `<i8`.
    dtype: String,
    shape: Vec<usize>,
    /// Whether the first side goes fastest (Fortran's order).
    columns_first: bool,
    bytes: Vec<u8>,
}

struct Archive<'a> {
    path: &'a Path,
    archive: ZipArchive<File>,
    room: u64,
}

impl Archive<'_> {
    /// The names of the arrays in it.
    fn arrays(&self) -> Vec<String> {
        let members = self.archive.file_names().filter_map(Result::ok);
        let arrays = members.filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned()));
        arrays.collect()
    }

    fn set(
        &mut self,
        pair: Option<(String, Option<String>)>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Set>, DataError> {
        let Some((images, labels)) = pair else {
            return Ok(None);
        };
        let path = self.path;
        let labels = labels.ok_or_else(|| {
            let expected = names::labels_to(&images);
            bad(path, &images, format!("there is no `{expected}` to it"))
        })?;
        let (x, y) = (self.read(&images)?, self.read(&labels)?);
        let pixels = values::pixels(x).map_err(|reason| bad(path, &images, reason))?;
        let found = values::labels(y).map_err(|reason| bad(path, &labels, reason))?;
        if pixels.count != found.len() {
            let reason = format!("{} labels for {} images", found.len(), pixels.count);
            return Err(bad(path, &labels, reason));
        }
        if pixels.count == 0 {
            notes.push(format!("array `{images}` holds no images and is not used"));
            return Ok(None);
        }
        Ok(Some(Set {
            pixels,
            labels: found,
            images,
            name: labels,
        }))
    }

    /// The only array with the shape of images and the only one that can be their labels, where no name tells.
    fn by_shape(&mut self, names: &[String]) -> Result<(String, String), DataError> {
        const SHOWN: usize = 6;
        let (mut images, mut others) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for name in names.iter().take(SHOWN) {
            let (_, header) = self.start(name)?;
            found.push(format!("`{name}` ({}, {:?})", header.dtype, header.shape));
            match values::image_shape(&header.shape) {
                Some((count, ..)) if values::item_size(&header.dtype).is_some() => {
                    images.push((name, count))
                }
                _ => others.push((name, header.shape)),
            }
        }
        if let ([(image, count)], [(label, shape)]) = (&images[..], &others[..])
            && names.len() == 2
            && *count > 0
            && matches!(shape[..], [labels] | [labels, _] if labels == *count)
        {
            return Ok(((*image).clone(), (*label).clone()));
        }
        if names.len() > SHOWN {
            found.push("...".to_owned());
        }
        Err(DataError::NoImageArrays {
            path: self.path.to_owned(),
            found: if found.is_empty() {
                "no array".to_owned()
            } else {
                found.join(", ")
            },
        })
    }

    /// An array's elements, to be read, and what its header says.
    fn start(&mut self, name: &str) -> Result<(ZipFile<'_, File>, Header), DataError> {
        let path = self.path;
        let bad = |reason: String| bad(path, name, reason);
        let member = self.archive.by_name(&format!("{name}.npy"));
        let mut member = member.map_err(|error| bad(error.to_string()))?;
        let mut start = [0; 8];
        member
            .read_exact(&mut start)
            .map_err(|error| bad(error.to_string()))?;
        let wide = match &start {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => 2,
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => 4,
            _ => return Err(bad("it is not a NumPy array".to_owned())),
        };
        let mut length = [0; 4];
        member
            .read_exact(&mut length[..wide])
            .map_err(|error| bad(error.to_string()))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(bad(format!("its header declares {length} bytes")));
        }
        let mut header = vec![0; length];
        member
            .read_exact(&mut header)
            .map_err(|error| bad(error.to_string()))?;
        let header = parse_header(&String::from_utf8_lossy(&header)).map_err(bad)?;
        Ok((member, header))
    }

    fn read(&mut self, name: &str) -> Result<Array, DataError> {
        let (path, room) = (self.path, self.room);
        let bad = |reason: String| bad(path, name, reason);
        let (member, header) = self.start(name)?;
        let Header {
            dtype,
            columns_first,
            shape,
        } = header;
        let size = values::item_size(&dtype).ok_or_else(|| {
            bad(format!(
                "its elements are of type `{dtype}`, neither numbers nor text"
            ))
        })?;
        let expected = shape
            .iter()
            .try_fold(size as u64, |bytes, &side| bytes.checked_mul(side as u64))
            .ok_or_else(|| bad(format!("its shape {shape:?} is too large")))?;
        let left = room
            .checked_sub(expected)
            .ok_or_else(|| DataError::OverLimit {
                path: path.to_owned(),
                found: expected,
                what: format!("bytes unpacked in array `{name}`"),
                limit: room,
            })?;
        let mut bytes = Vec::new();
        // What the archive declares is not trusted with memory: it grows as data comes.
        member
            .take(expected + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| bad(error.to_string()))?;
        if bytes.len() as u64 != expected {
            return Err(bad(format!(
                "its shape {shape:?} takes {expected} bytes, it has {}{}",
                bytes.len().min(expected as usize),
                if bytes.len() as u64 > expected {
                    " and more"
                } else {
                    ""
                }
            )));
        }
        self.room = left;
        Ok(Array {
            dtype,
            shape,
            columns_first,
            bytes,
        })
    }
}

/// What is said of an array before its elements.
struct Header {
    dtype: String,
    columns_first: bool,
    shape: Vec<usize>,
}

/// `{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28), }`: type and shape (NumPy's `lib.format`).
fn parse_header(text: &str) -> Result<Header, String> {
    let value = |key: &str| {
        let quoted = [format!("'{key}':"), format!("\"{key}\":")];
        quoted.iter().find_map(|key| {
            let at = text.find(key.as_str())?;
            Some(text[at + key.len()..].trim_start())
        })
    };
    let missing = |key: &str| format!("its header has no `{key}`");
    let descr = value("descr").ok_or_else(|| missing("descr"))?;
    let quote = descr.chars().next().filter(|c| *c == '\'' || *c == '"');
    let dtype = quote
        .and_then(|quote| descr[1..].split(quote).next())
        .ok_or("its elements are records, neither numbers nor text")?;
    let order = value("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    let columns_first = match order {
        order if order.starts_with("False") => false,
        order if order.starts_with("True") => true,
        _ => return Err("its header says neither True nor False of Fortran's order".to_owned()),
    };
    let shape = value("shape").ok_or_else(|| missing("shape"))?;
    let inner = shape
        .strip_prefix('(')
        .and_then(|rest| rest.split(')').next())
        .ok_or_else(|| missing("shape"))?;
    let sides: Result<Vec<usize>, _> = inner
        .split(',')
        .map(str::trim)
        .filter(|side| !side.is_empty())
        .map(str::parse)
        .collect();
    let sides = sides.map_err(|_| format!("its shape ({inner}) is not one"))?;
    Ok(Header {
        dtype: dtype.to_owned(),
        columns_first,
        shape: sides,
    })
}
