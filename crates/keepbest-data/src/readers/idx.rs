//! IDX files (LeCun's MNIST format), gzip or not.
//!
//! Images: magic `0x00000803`, count, rows, columns (u32, big-endian), then the pixels, one byte each. Labels: magic
//! `0x00000801`, count, then one byte each. Whether a file is gzip is told by its first two bytes, not by its name.

mod find;

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

pub(crate) use self::find::IdxFiles;
use self::find::Pair;
use super::class_names::class_names_or_numbers;
use super::disk::{io_error, open_file, read_file};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use crate::dataset::check_labels;
use crate::{DataBundle, DataError, Dataset, Image, ImageShape, MemoryDataset, Mirrored};

const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;

/// Deflate cannot expand by more than 1032 to 1: a header that declares more than that is refused before anything is
/// allocated for it.
const MAX_EXPANSION: u64 = 1032;

/// The file of class names that may lie beside the IDX files, one name a line.
pub const CLASSES_FILE: &str = "classes.txt";

/// The images of an IDX file.
#[derive(Debug, Clone)]
pub struct IdxImages {
    /// Shape of one image; one channel.
    pub shape: ImageShape,
    /// `[count, height, width]`, dense.
    pub pixels: Bytes,
    /// Number of images.
    pub count: usize,
}

/// A folder with IDX files: `train-images-idx3-ubyte[.gz]` and `train-labels-idx1-ubyte[.gz]`, the test set as
/// `t10k-...` or `test-...` and the validation set as `val-...` where there are such. Names of the classes come from `classes.txt`, one a line; without it they
/// are the numbers.
#[derive(Debug)]
pub(crate) struct Idx;

impl Reader for Idx {
    fn kind(&self) -> &'static str {
        "idx"
    }

    fn accepts(&self) -> Accepts {
        Accepts::Folder("with IDX files (train-images-idx3-ubyte[.gz] and its labels)")
    }

    fn mirrored(&self) -> Mirrored {
        Mirrored::Unknown
    }

    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
        if !source.path.is_dir() {
            return Ok(None);
        }
        match IdxFiles::find(source.path)? {
            Some(files) => open_files(&files, source.path, None).map(Some),
            None => Ok(None),
        }
    }
}

/// Opens the files, with these names of the classes or those beside them.
///
/// # Errors
/// When one is damaged, of another kind, or does not fit the others.
pub(crate) fn open_files(
    files: &IdxFiles,
    folder: &Path,
    classes: Option<Vec<String>>,
) -> Result<DataBundle, DataError> {
    let read = |pair: &Option<Pair>| {
        let pair = pair.as_ref();
        pair.map(|pair| read_pair(&pair.images, &pair.labels))
            .transpose()
    };
    let (train, val, test) = (read(&files.train)?, read(&files.val)?, read(&files.test)?);
    let leading = [
        (&files.train, &train),
        (&files.test, &test),
        (&files.val, &val),
    ];
    let leading = leading
        .iter()
        .find_map(|(pair, read)| Some((pair.as_ref()?, read.as_ref()?)));
    let classes = match (classes, leading) {
        (Some(classes), _) => classes,
        (None, Some((pair, (_, labels)))) => {
            class_names_or_numbers(folder, CLASSES_FILE, &pair.labels, labels)?
        }
        (None, None) => Vec::new(),
    };
    type Read = Option<(IdxImages, Vec<u32>)>;
    let set = |pair: &Option<Pair>, read: Read| -> Result<Option<Arc<dyn Dataset>>, DataError> {
        let (Some(pair), Some((images, labels))) = (pair, read) else {
            return Ok(None);
        };
        check_labels(&pair.labels.display().to_string(), &labels, classes.len())?;
        let origin = pair.images.display().to_string();
        let set = MemoryDataset::new(origin, images.shape, images.pixels, labels, classes.clone());
        Ok(Some(Arc::new(set?)))
    };
    let splits = [
        set(&files.train, train)?,
        set(&files.val, val)?,
        set(&files.test, test)?,
    ];
    let unused = files.unused.iter();
    Ok(DataBundle {
        notes: unused.map(|name| format!("left out {name}")).collect(),
        ..DataBundle::of_splits(folder, splits)?
    })
}

fn read_pair(images_path: &Path, labels_path: &Path) -> Result<(IdxImages, Vec<u32>), DataError> {
    let images = parse_images(&read_file(images_path, limits::ARRAY_BYTES)?, images_path)?;
    let labels = parse_labels(&read_file(labels_path, limits::ARRAY_BYTES)?, labels_path)?;
    if images.count != labels.len() {
        return Err(DataError::CountMismatch {
            images_path: images_path.to_owned(),
            images: images.count as u64,
            labels_path: labels_path.to_owned(),
            labels: labels.len() as u64,
        });
    }
    if images.count == 0 {
        return Err(DataError::Empty {
            path: images_path.to_owned(),
        });
    }
    Ok((images, labels.into_iter().map(u32::from).collect()))
}

/// Parses a file of images. `path` names it in errors.
///
/// # Errors
/// When it is of another kind, truncated, or longer than its header says.
pub fn parse_images(file: &[u8], path: &Path) -> Result<IdxImages, DataError> {
    let (dimensions, body) = parse::<3>(file, path, IMAGES_MAGIC, "images, three dimensions")?;
    let [count, height, width] = dimensions;
    if (height == 0 || width == 0) && count > 0 {
        return Err(DataError::ImplausibleSize {
            path: path.to_owned(),
            dimensions: dimensions.map(|dimension| dimension as u64).to_vec(),
        });
    }
    Ok(IdxImages {
        shape: ImageShape::new(height, width, 1),
        pixels: body.into(),
        count,
    })
}

/// Parses a file of labels. `path` names it in errors.
///
/// # Errors
/// When it is of another kind, truncated, or longer than its header says.
pub fn parse_labels(file: &[u8], path: &Path) -> Result<Vec<u8>, DataError> {
    parse::<1>(file, path, LABELS_MAGIC, "labels, one dimension").map(|(_, body)| body)
}

fn parse<const RANK: usize>(
    file: &[u8],
    path: &Path,
    magic: u32,
    kind: &'static str,
) -> Result<([usize; RANK], Vec<u8>), DataError> {
    let io = |source| io_error(path, source);
    let compressed = is_gzip(file);
    let mut reader: Box<dyn Read + '_> = if compressed {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };

    let (dimensions, body) = read_header::<RANK>(&mut reader, path, magic, kind)?;
    let implausible = || DataError::ImplausibleSize {
        path: path.to_owned(),
        dimensions: dimensions.to_vec(),
    };
    let header = (4 + 4 * RANK) as u64;
    let body = body.ok_or_else(implausible)?;
    let available = file.len() as u64;
    // Plain: what is there is known. Gzip: only so much can come out of it.
    if !compressed && body > available.saturating_sub(header) {
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: header + body,
            found: available,
        });
    }
    if body > available.saturating_mul(MAX_EXPANSION) {
        return Err(implausible());
    }
    let limit = limits::unpacked_bytes(available);
    if compressed && body > limit {
        return Err(DataError::OverLimit {
            path: path.to_owned(),
            found: body,
            what: "bytes unpacked".to_owned(),
            limit,
        });
    }
    let length = usize::try_from(body).map_err(|_| implausible())?;
    let mut values = Vec::new();
    values
        .try_reserve_exact(length)
        .map_err(|_| implausible())?;
    let found = read_up_to(&mut reader, body, &mut values).map_err(io)?;
    if found < body {
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: header + body,
            found: header + found,
        });
    }
    // One byte more is enough to know; it is not worth unpacking the rest. At the end gzip checks its own checksum.
    let mut rest = Vec::new();
    let trailing = reader.take(1).read_to_end(&mut rest).map_err(io)?;
    if trailing > 0 {
        let found = if compressed {
            header + body + 1
        } else {
            available
        };
        let path = path.to_owned();
        return Err(DataError::TrailingBytes {
            path,
            expected: header + body,
            found,
            at_least: compressed,
        });
    }
    // Each dimension is at most the body's length, or the body is empty.
    Ok((
        dimensions.map(|dimension| usize::try_from(dimension).unwrap_or(0)),
        values,
    ))
}

/// Magic and dimensions, and the product of the dimensions where it does not overflow.
fn read_header<const RANK: usize>(
    reader: &mut dyn Read,
    path: &Path,
    magic: u32,
    kind: &'static str,
) -> Result<([u64; RANK], Option<u64>), DataError> {
    let io = |source| io_error(path, source);
    let length = 4 + 4 * RANK;
    let mut header = vec![0u8; length];
    let found = read_up_to_slice(reader, &mut header).map_err(io)?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if found >= 4 && word(0) != magic {
        return Err(DataError::WrongMagic {
            path: path.to_owned(),
            expected: magic,
            found: word(0),
            kind,
        });
    }
    if found < length {
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: length as u64,
            found: found as u64,
        });
    }
    let dimensions: [u64; RANK] =
        std::array::from_fn(|dimension| u64::from(word(4 + 4 * dimension)));
    let product = dimensions
        .iter()
        .try_fold(1u64, |product, &dimension| product.checked_mul(dimension));
    Ok((dimensions, product))
}

pub(crate) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&[0x1f, 0x8b])
}

/// A gzip stream that breaks off is a truncated file like any other: what came out of it so far counts.
fn at_end(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other,
    }
}

fn read_up_to_slice(reader: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match at_end(reader.read(&mut out[filled..])) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_up_to(reader: &mut dyn Read, limit: u64, out: &mut Vec<u8>) -> io::Result<u64> {
    let before = out.len();
    match reader.take(limit).read_to_end(out) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok((out.len() - before) as u64),
    }
}

/// Image number `index` (from 0) of a file of images, unpacking no more than needed.
///
/// # Errors
/// When the file cannot be read, is of another kind, or ends before that image.
pub fn read_image(path: &Path, index: usize) -> Result<Image, DataError> {
    let io = |source| io_error(path, source);
    let mut file = BufReader::new(open_file(path)?);
    let start = {
        use std::io::BufRead;
        file.fill_buf().map_err(io)?
    };
    let mut reader: Box<dyn Read> = if is_gzip(start) {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let (dimensions, body) =
        read_header::<3>(&mut reader, path, IMAGES_MAGIC, "images, three dimensions")?;
    let implausible = || DataError::ImplausibleSize {
        path: path.to_owned(),
        dimensions: dimensions.to_vec(),
    };
    body.ok_or_else(implausible)?;
    let [count, height, width] = dimensions;
    if index as u64 >= count {
        let len = usize::try_from(count).unwrap_or(usize::MAX);
        return Err(DataError::NoSuchImage {
            origin: path.display().to_string(),
            index,
            len,
        });
    }
    let size = height * width;
    if size == 0 || size > crate::image::MAX_DECODED_BYTES {
        return Err(implausible());
    }
    let before = index as u64 * size;
    let skipped = io::copy(&mut (&mut reader).take(before), &mut io::sink());
    let skipped = at_end(skipped.map(|count| count as usize)).map_err(io)? as u64;
    let mut pixels = Vec::new();
    let found = read_up_to(&mut reader, size, &mut pixels).map_err(io)?;
    if skipped < before || found < size {
        let expected = 16 + count * size;
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected,
            found: 16 + skipped + found,
        });
    }
    let shape = ImageShape::new(height as usize, width as usize, 1);
    Ok(Image::new(shape, pixels).expect("as many pixels as the shape has"))
}
