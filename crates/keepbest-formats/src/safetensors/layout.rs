//! The layout of a file to write: its header and the order of its tensors.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use serde::ser::{SerializeMap, Serializer};

use super::{HEADER_LIMIT, METADATA_KEY, SIDES_LIMIT, TENSOR_LIMIT};
use crate::{Dtype, Tensor};

/// The data begins at a multiple of this, so that a mapped file gives tensors that are aligned for
/// any vector width.
pub(crate) const DATA_ALIGNMENT: usize = 64;

/// Why tensors cannot be laid out as a safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A name that the format keeps for itself.
    #[error("a tensor cannot be called `{name}`: the name is reserved")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A name is given twice.
    #[error("tensor `{name}` is given twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An element type that safetensors does not have.
    #[error("tensor `{tensor}` has elements of type {dtype}, which safetensors does not have")]
    Dtype {
        /// Name.
        tensor: String,
        /// Element type.
        dtype: Dtype,
    },
    /// More tensors than a file may hold.
    #[error("there are {found} tensors, more than the limit of {limit}")]
    TooManyTensors {
        /// The number of them.
        found: usize,
        /// [`TENSOR_LIMIT`].
        limit: usize,
    },
    /// A tensor of more sides than any may have.
    #[error("tensor `{tensor}` has {found} sides, more than the limit of {limit}")]
    TooManySides {
        /// Name.
        tensor: String,
        /// The number that it has.
        found: usize,
        /// [`SIDES_LIMIT`].
        limit: usize,
    },
    /// More names and metadata than a header may hold.
    #[error("the header would take {length} bytes, more than the limit of {limit}")]
    HeaderTooLong {
        /// Length it would have.
        length: u64,
        /// [`HEADER_LIMIT`].
        limit: u64,
    },
    /// The header could not be put into words.
    #[error("the header cannot be written as JSON")]
    Header {
        /// The error of the JSON writer.
        source: serde_json::Error,
    },
}

/// A safetensors file ready to be written: the header, and the tensors' bytes in file order, shared
/// and not copied.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Length and header, padded with spaces to [`DATA_ALIGNMENT`].
    pub(crate) head: Vec<u8>,
    pub(crate) segments: Vec<Segment>,
}

/// A tensor's bytes and its name.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl Layout {
    /// Lays out `tensors` with `metadata`, whose keys keep their order (and must be unique).
    ///
    /// In the header tensors stand in the order given. In the data the ones with wide elements come
    /// first, so that each is aligned to its element, and otherwise in the order given.
    ///
    /// # Errors
    /// When a name is reserved or not unique, an element type is foreign to safetensors, or the
    /// header gets too long.
    pub fn new(
        tensors: &[(&str, &Tensor)],
        metadata: &[(&str, &str)],
    ) -> Result<Self, LayoutError> {
        // What would not be read is not written.
        if tensors.len() > TENSOR_LIMIT {
            return Err(LayoutError::TooManyTensors {
                found: tensors.len(),
                limit: TENSOR_LIMIT,
            });
        }
        let mut names = std::collections::HashSet::new();
        for (name, tensor) in tensors {
            if tensor.shape().len() > SIDES_LIMIT {
                return Err(LayoutError::TooManySides {
                    tensor: (*name).into(),
                    found: tensor.shape().len(),
                    limit: SIDES_LIMIT,
                });
            }
            if *name == METADATA_KEY {
                return Err(LayoutError::ReservedName {
                    name: (*name).into(),
                });
            }
            if !names.insert(*name) {
                return Err(LayoutError::DuplicateName {
                    name: (*name).into(),
                });
            }
            if !tensor.dtype().in_safetensors() {
                return Err(LayoutError::Dtype {
                    tensor: (*name).into(),
                    dtype: tensor.dtype(),
                });
            }
        }
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(tensors[at].1.dtype().size()));
        let mut ranges = vec![(0u64, 0u64); tensors.len()];
        let mut segments = Vec::with_capacity(tensors.len());
        let mut offset = 0u64;
        for at in order {
            let bytes = tensors[at].1.bytes();
            let end = offset + bytes.len() as u64;
            ranges[at] = (offset, end);
            offset = end;
            segments.push(Segment {
                name: tensors[at].0.to_owned(),
                bytes: bytes.clone(),
            });
        }
        let head =
            head(tensors, &ranges, metadata).map_err(|source| LayoutError::Header { source })?;
        let length = head.len() as u64 - 8;
        if length > HEADER_LIMIT {
            return Err(LayoutError::HeaderTooLong {
                length,
                limit: HEADER_LIMIT,
            });
        }
        Ok(Self { head, segments })
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        let data: u64 = self.segments.iter().map(|s| s.bytes.len() as u64).sum();
        self.head.len() as u64 + data
    }

    /// Writes the file from first to last byte. Tensors go out as they lie in memory, many to a
    /// call where the writer can.
    ///
    /// # Errors
    /// The errors of `writer`.
    pub fn write_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let parts: Vec<&[u8]> = std::iter::once(self.head.as_slice())
            .chain(self.segments.iter().map(|segment| segment.bytes.as_ref()))
            .filter(|part| !part.is_empty())
            .collect();
        // The system takes at most 1024 slices a call (IOV_MAX).
        for group in parts.chunks(1024) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().map(|part| IoSlice::new(part)).collect();
            let mut left = slices.as_mut_slice();
            while !left.is_empty() {
                match writer.write_vectored(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => IoSlice::advance_slices(&mut left, written),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Length, header and padding.
fn head(
    tensors: &[(&str, &Tensor)],
    ranges: &[(u64, u64)],
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut head = vec![0u8; 8];
    let mut json = serde_json::Serializer::new(&mut head);
    let mut map = json.serialize_map(None)?;
    if !metadata.is_empty() {
        map.serialize_entry(METADATA_KEY, &Pairs(metadata))?;
    }
    for ((name, tensor), range) in tensors.iter().zip(ranges) {
        map.serialize_entry(name, &EntryOut { tensor, range })?;
    }
    map.end()?;
    head.resize(head.len().next_multiple_of(DATA_ALIGNMENT), b' ');
    let length = head.len() as u64 - 8;
    head[..8].copy_from_slice(&length.to_le_bytes());
    Ok(head)
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl serde::Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

struct EntryOut<'a> {
    tensor: &'a Tensor,
    range: &'a (u64, u64),
}

impl serde::Serialize for EntryOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("dtype", self.tensor.dtype().name())?;
        map.serialize_entry("shape", self.tensor.shape())?;
        map.serialize_entry("data_offsets", self.range)?;
        map.end()
    }
}
