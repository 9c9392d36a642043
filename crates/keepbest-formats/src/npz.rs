//! NumPy's archives (`.npz`): arrays by name, read strictly.
//!
//! Reference: `numpy.lib.format`, versions 1 to 3.

use std::io;
use std::path::{Path, PathBuf};

use crate::zip::Archive;
use crate::{Dtype, Tensor, TensorError, ZipError, map_file};

/// Bytes that all arrays of an archive may take together when they are compressed.
const MOST_BYTES: u64 = 4 << 30;
/// Longest description of an array.
const LONGEST_HEADER: usize = 1 << 16;

/// Why an archive of arrays cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is no archive.
    #[error("`{}` is no NumPy archive", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ZipError,
    },
    /// An array is of a form that is not read.
    #[error("the array `{array}` {problem}")]
    Array {
        /// The array.
        array: String,
        /// In what.
        problem: String,
    },
    /// Shape and data of an array contradict each other.
    #[error("the array `{array}` does not fit together")]
    Tensor {
        /// The array.
        array: String,
        /// In what.
        source: TensorError,
    },
}

/// Reads all arrays of an archive, in its order, by their names without `.npy`.
///
/// # Errors
/// [`NpzError`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>, NpzError> {
    let path = path.as_ref();
    let file = map_file(path).map_err(|source| NpzError::Io {
        path: path.into(),
        source,
    })?;
    let of_zip = |source| NpzError::Zip {
        path: path.into(),
        source,
    };
    let archive = Archive::parse(file).map_err(of_zip)?;
    let mut budget = MOST_BYTES;
    let mut arrays = Vec::new();
    for member in archive.names() {
        let bytes = archive.read(member, &mut budget).map_err(of_zip)?;
        let array = member.strip_suffix(".npy").unwrap_or(member);
        let (dtype, shape, start) = header(&bytes).map_err(|problem| NpzError::Array {
            array: array.to_owned(),
            problem,
        })?;
        let tensor =
            Tensor::new(dtype, shape, bytes.slice(start..)).map_err(|source| NpzError::Tensor {
                array: array.to_owned(),
                source,
            })?;
        arrays.push((array.to_owned(), tensor));
    }
    Ok(arrays)
}

/// Element type, shape and the place where the data begins.
fn header(bytes: &[u8]) -> Result<(Dtype, Vec<usize>, usize), String> {
    let cut = || "is cut short".to_owned();
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or("is no NumPy array")?;
    let (&[major, _], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, width) = match major {
        1 => {
            let (length, _) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), 2)
        }
        2 | 3 => {
            let (length, _) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, 4)
        }
        other => return Err(format!("is of version {other}, which is not known")),
    };
    if length > LONGEST_HEADER {
        return Err(format!("has a description of {length} bytes"));
    }
    let start = 8 + width + length;
    let text = bytes.get(8 + width..start).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| "has a description that is no text")?;
    let value = |key: &str| -> Result<&str, String> {
        let quoted = format!("'{key}':");
        let (_, value) = text
            .split_once(&quoted)
            .ok_or_else(|| format!("does not say its {key}"))?;
        Ok(value.trim_start())
    };
    let kind = value("descr")?;
    let kind = kind
        .strip_prefix('\'')
        .and_then(|kind| kind.split_once('\''));
    let dtype = match kind.map(|(kind, _)| kind) {
        Some("<f4") => Dtype::F32,
        Some("<f8") => Dtype::F64,
        Some("<f2") => Dtype::F16,
        Some("<i8") => Dtype::I64,
        Some("<i4") => Dtype::I32,
        Some("|u1") => Dtype::U8,
        other => return Err(format!("has elements of {other:?}, which are not read")),
    };
    if !value("fortran_order")?.starts_with("False") {
        return Err("lies column by column, which is not read".to_owned());
    }
    let sides = value("shape")?
        .strip_prefix('(')
        .and_then(|sides| sides.split_once(')'));
    let (sides, _) = sides.ok_or("does not say its shape")?;
    let sides = sides
        .split(',')
        .map(str::trim)
        .filter(|side| !side.is_empty());
    let shape: Result<Vec<usize>, _> = sides.map(str::parse).collect();
    let shape = shape.map_err(|_| "has a shape that is none")?;
    Ok((dtype, shape, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n";
        let (dtype, shape, start) = header(&array(text, &[0; 24])).unwrap();
        assert_eq!(
            (dtype, shape, start),
            (Dtype::F32, vec![2, 3], 10 + text.len())
        );
        for (from, to) in [
            ("<f4", ">f4"),
            ("False", "True"),
            ("(2, 3)", "(2, x)"),
            ("'shape'", "'size'"),
        ] {
            assert!(
                header(&array(&text.replace(from, to), &[])).is_err(),
                "{to}"
            );
        }
        let whole = array(text, &[]);
        for length in 0..whole.len() {
            let _ = header(&whole[..length]);
        }
    }
}
