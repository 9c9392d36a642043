//! NumPy archives (`.npz`): arrays of `uint8` images and of whole-number labels.
//!
//! Names as Keras, MedMNIST and others give them: `x_train`, `y_train`, `x_val`, `x_test`, ...; `train_images`,
//! `train_labels`, `val_images`, ...; or, without a split, `images` and `labels`, or `x` and `y`. Images are `[n][h][w]`,
//! `[n][h][w][c]` or `[n][c][h][w]` with one or three channels, labels `[n]` or `[n][1]`. Names of the classes come from
//! `classes.txt` beside the file, one a line; without it they are the numbers. Arrays of Python objects are never read: they
//! are pickles.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use zip::ZipArchive;

use super::class_names::class_names_or_numbers;
use super::disk::{io_error, open_file};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use crate::dataset::check_labels;
use crate::{DataBundle, DataError, Dataset, ImageShape, MemoryDataset, Mirrored};

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

/// Names of images and labels of a split.
fn names(split: &str) -> Vec<(String, String)> {
    let mut names = vec![
        (format!("x_{split}"), format!("y_{split}")),
        (format!("{split}_images"), format!("{split}_labels")),
        (format!("{split}_x"), format!("{split}_y")),
    ];
    if split == "train" {
        for (x, y) in [("images", "labels"), ("x", "y"), ("data", "target")] {
            names.push((x.to_owned(), y.to_owned()));
        }
    }
    names
}

/// Opens a NumPy archive.
///
/// # Errors
/// When it is damaged, has no training images under these names, or an array is of another type or shape.
fn open(path: &Path) -> Result<DataBundle, DataError> {
    let file = open_file(path)?;
    let length = file.metadata().map_err(|source| io_error(path, source))?;
    // What the arrays may take, all of them together.
    let mut room = limits::unpacked_bytes(length.len());
    let mut archive = ZipArchive::new(file).map_err(|error| bad(path, "", error.to_string()))?;
    let mut set = |split: &str| -> Result<Option<(Pixels, Vec<u32>, String)>, DataError> {
        for (images, labels) in names(split) {
            let Some(x) = read(&mut archive, path, &images, &mut room)? else {
                continue;
            };
            let Some(y) = read(&mut archive, path, &labels, &mut room)? else {
                return Err(bad(path, &images, format!("there is no `{labels}` to it")));
            };
            let pixels = pixels(path, &images, x)?;
            let found = whole_numbers(path, &labels, &y)?;
            if pixels.count != found.len() {
                return Err(bad(
                    path,
                    &labels,
                    format!("{} labels for {} images", found.len(), pixels.count),
                ));
            }
            return Ok((pixels.count > 0).then_some((pixels, found, labels)));
        }
        Ok(None)
    };
    let (train, val, test) = (set("train")?, set("val")?, set("test")?);
    let empty = || DataError::Empty {
        path: path.to_owned(),
    };
    let leading = train.as_ref().or(test.as_ref()).or(val.as_ref());
    let leading = leading.ok_or_else(empty)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let classes = class_names_or_numbers(folder, CLASSES_FILE, path, &leading.1)?;
    let dataset = |(pixels, labels, name): (Pixels, Vec<u32>, String)| {
        let origin = format!("{}:{name}", path.display());
        check_labels(&origin, &labels, classes.len())?;
        let set = MemoryDataset::new(origin, pixels.shape, pixels.values, labels, classes.clone());
        Ok(Arc::new(set?) as Arc<dyn Dataset>)
    };
    let bundle = DataBundle::of_splits(
        path.display().to_string(),
        train.map(&dataset).transpose()?,
        val.map(&dataset).transpose()?,
        test.map(&dataset).transpose()?,
    );
    bundle.ok_or_else(empty)
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
    bytes: Vec<u8>,
}

fn read(
    archive: &mut ZipArchive<File>,
    path: &Path,
    name: &str,
    room: &mut u64,
) -> Result<Option<Array>, DataError> {
    let bad = |reason: String| bad(path, name, reason);
    let Some(index) = archive.index_for_name(&format!("{name}.npy")) else {
        return Ok(None);
    };
    let mut member = archive
        .by_index(index)
        .map_err(|error| bad(error.to_string()))?;
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
    let (dtype, shape) = parse_header(&String::from_utf8_lossy(&header)).map_err(bad)?;
    let size = item_size(&dtype).ok_or_else(|| {
        bad(format!(
            "its elements are of type `{dtype}`, not whole numbers"
        ))
    })?;
    let expected = shape
        .iter()
        .try_fold(size as u64, |bytes, &side| bytes.checked_mul(side as u64))
        .ok_or_else(|| bad(format!("its shape {shape:?} is too large")))?;
    *room = room
        .checked_sub(expected)
        .ok_or_else(|| DataError::OverLimit {
            path: path.to_owned(),
            found: expected,
            what: format!("bytes unpacked in array `{name}`"),
            limit: *room,
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
    Ok(Some(Array {
        dtype,
        shape,
        bytes,
    }))
}

/// `{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28), }`: type and shape (NumPy's `lib.format`).
fn parse_header(text: &str) -> Result<(String, Vec<usize>), String> {
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
        .ok_or("its elements are records, not whole numbers")?;
    let order = value("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    if !order.starts_with("False") {
        return Err("it is in Fortran order; write it with numpy.ascontiguousarray".to_owned());
    }
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
    Ok((dtype.to_owned(), sides))
}

fn item_size(dtype: &str) -> Option<usize> {
    match dtype.get(1..)? {
        "u1" | "i1" | "b1" => Some(1),
        "u2" | "i2" => Some(2),
        "u4" | "i4" => Some(4),
        "u8" | "i8" => Some(8),
        _ => None,
    }
}

/// Images, dense, channels last.
struct Pixels {
    shape: ImageShape,
    count: usize,
    values: Vec<u8>,
}

fn pixels(path: &Path, name: &str, array: Array) -> Result<Pixels, DataError> {
    if array.dtype.get(1..) != Some("u1") {
        let reason = format!("images must be uint8, these are `{}`", array.dtype);
        return Err(bad(path, name, reason));
    }
    let (count, shape, planes) = match array.shape[..] {
        [count, height, width] => (count, ImageShape::new(height, width, 1), false),
        [count, height, width, channels @ (1 | 3)] => {
            (count, ImageShape::new(height, width, channels), false)
        }
        [count, channels @ (1 | 3), height, width] => {
            (count, ImageShape::new(height, width, channels), true)
        }
        _ => {
            let reason = format!(
                "its shape {:?} is none of [n, h, w], [n, h, w, c] and [n, c, h, w] with 1 or 3 channels",
                array.shape
            );
            return Err(bad(path, name, reason));
        }
    };
    if shape.size() == 0 && count > 0 {
        return Err(bad(path, name, format!("its images are {shape}")));
    }
    let values = match planes {
        false => array.bytes,
        true => {
            let plane = shape.height * shape.width;
            let pixel = |image: &[u8], at: usize| -> Vec<u8> {
                (0..shape.channels).map(|c| image[c * plane + at]).collect()
            };
            array
                .bytes
                .chunks_exact(shape.size().max(1))
                .flat_map(|image| (0..plane).flat_map(move |at| pixel(image, at)))
                .collect()
        }
    };
    Ok(Pixels {
        shape,
        count,
        values,
    })
}

fn whole_numbers(path: &Path, name: &str, array: &Array) -> Result<Vec<u32>, DataError> {
    if !matches!(array.shape[..], [_] | [_, 1]) {
        let reason = format!("labels must be [n] or [n, 1], these are {:?}", array.shape);
        return Err(bad(path, name, reason));
    }
    let big_endian = array.dtype.starts_with('>');
    let signed = array.dtype.get(1..2) == Some("i");
    let size = item_size(&array.dtype).unwrap_or(1);
    array
        .bytes
        .chunks_exact(size)
        .enumerate()
        .map(|(index, item)| {
            let value = number(item, big_endian, signed);
            u32::try_from(value).map_err(|_| {
                bad(
                    path,
                    name,
                    format!("label {value} at index {index} is not a class"),
                )
            })
        })
        .collect()
}

fn number(item: &[u8], big_endian: bool, signed: bool) -> i128 {
    let mut bytes: Vec<u8> = item.to_vec();
    if big_endian {
        bytes.reverse();
    }
    let negative = signed && bytes.last().is_some_and(|&high| high >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(&bytes);
    i128::from_le_bytes(wide)
}
