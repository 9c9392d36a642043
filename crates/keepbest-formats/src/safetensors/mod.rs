//! The safetensors container: a strict reader that copies nothing, and the layout of files to write.
//!
//! A file is `length: u64 LE | header: JSON of that length | data`. The header maps tensor names to
//! element type, shape and a range of the data, and may have text metadata under `__metadata__`.
//! Format: <https://github.com/huggingface/safetensors#format>.
//!
//! This reader refuses what the format forbids and what would make two readers see two different
//! files: duplicate keys, unknown fields, ranges that overlap or leave holes, bytes after the last
//! tensor, shapes that overflow. Nothing is allocated on the word of the file: the header is capped
//! at [`HEADER_LIMIT`], what stands in it at [`TENSOR_LIMIT`], [`SIDES_LIMIT`] and [`METADATA_LIMIT`], which are checked while it
//! is read, and all tensors are views of the bytes given.

mod error;
mod header;
mod layout;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use error::SafetensorsError;
pub use layout::{Layout, LayoutError};

use crate::{StateDict, Tensor};
use header::Header;

/// Longest header accepted, in bytes; the same as in the reference implementation.
pub const HEADER_LIMIT: u64 = 100_000_000;

/// Tensors in a file at most.
pub const TENSOR_LIMIT: usize = 100_000;

/// Sides of a tensor at most; PyTorch's own limit.
pub const SIDES_LIMIT: usize = 64;

/// Texts under `__metadata__` at most.
pub const METADATA_LIMIT: usize = 10_000;

/// Key of the header that holds text instead of a tensor.
pub const METADATA_KEY: &str = "__metadata__";

/// What a safetensors file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Safetensors {
    /// Tensors in the order of the header, as views of the file's bytes.
    pub tensors: StateDict,
    /// The text under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// The header of a file whose bytes start with `prefix`: what is between the length and the data.
///
/// # Errors
/// When the length is missing, over [`HEADER_LIMIT`], or reaches past the end of `prefix`.
pub(crate) fn header_bytes(prefix: &[u8]) -> Result<&[u8], SafetensorsError> {
    let found = prefix.len() as u64;
    let Some((length, rest)) = prefix.split_first_chunk::<8>() else {
        return Err(SafetensorsError::TooShort { found });
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT {
        return Err(SafetensorsError::HeaderTooLong {
            length,
            limit: HEADER_LIMIT,
        });
    }
    usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or(SafetensorsError::HeaderTruncated {
            expected: length.saturating_add(8),
            found,
        })
}

/// Name, dtype and place in the file of each tensor, in the order of the header.
pub(crate) fn places(
    file: &[u8],
) -> Result<Vec<(String, crate::Dtype, std::ops::Range<usize>)>, SafetensorsError> {
    let header = header_bytes(file)?;
    let start = 8 + header.len();
    let Header { tensors, .. } = Header::parse(header, (file.len() - start) as u64)?;
    let place = |(name, entry): (String, header::Entry)| {
        (name, entry.dtype, start + entry.begin..start + entry.end)
    };
    Ok(tensors.into_iter().map(place).collect())
}

/// Reads a whole safetensors file. Tensors are slices of `file`: nothing is copied.
///
/// ```
/// use keepbest_formats::safetensors;
/// let mut file = Vec::new();
/// let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
/// file.extend((header.len() as u64).to_le_bytes());
/// file.extend(header);
/// file.extend(1.5f32.to_le_bytes());
/// let read = safetensors::read(&file.into())?;
/// assert_eq!(read.tensors.get("w").unwrap().as_f32().unwrap().as_ref(), [1.5]);
/// # Ok::<(), keepbest_formats::safetensors::SafetensorsError>(())
/// ```
///
/// # Errors
/// When the file breaks any rule of the format; the error names the tensor concerned.
pub fn read(file: &Bytes) -> Result<Safetensors, SafetensorsError> {
    let header = header_bytes(file)?;
    let data = file.slice(8 + header.len()..);
    let Header { tensors, metadata } = Header::parse(header, data.len() as u64)?;
    let mut dict = StateDict::new();
    for (name, entry) in tensors {
        // The header has checked names, ranges and lengths.
        let bytes = data.slice(entry.begin..entry.end);
        let tensor = Tensor::new(entry.dtype, entry.shape, bytes).map_err(|source| {
            SafetensorsError::Tensor {
                tensor: name.clone(),
                source,
            }
        })?;
        dict.insert(name, tensor)
            .map_err(|duplicate| SafetensorsError::DuplicateKey {
                key: duplicate.name,
            })?;
    }
    Ok(Safetensors {
        tensors: dict,
        metadata,
    })
}
