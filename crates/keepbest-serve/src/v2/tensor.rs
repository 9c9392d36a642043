//! Tensors of a request.

use std::fmt;

use bytes::Bytes;

/// The types of elements that images come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// 32-bit floats, little-endian: the network's input as it is.
    Fp32,
    /// Bytes: pixels.
    Uint8,
    /// Strings of bytes: image files.
    Bytes,
}

impl Datatype {
    /// Reads the protocol's name; `None` for types that no image comes in.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "FP32" => Some(Self::Fp32),
            "UINT8" => Some(Self::Uint8),
            "BYTES" => Some(Self::Bytes),
            _ => None,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "FP32",
            Self::Uint8 => "UINT8",
            Self::Bytes => "BYTES",
        })
    }
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Of [`Datatype::Fp32`].
    Fp32(Vec<f32>),
    /// Of [`Datatype::Uint8`].
    Uint8(Bytes),
    /// Of [`Datatype::Bytes`].
    Bytes(Vec<Bytes>),
}

/// A tensor of a request, its elements as many as its shape says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InputTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

/// Why a tensor is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// A type that no image comes in.
    #[error("input {name:?} is {found}; images are FP32, UINT8 or BYTES")]
    Datatype {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A side is negative, or the elements are beyond counting.
    #[error("input {name:?} has the shape {found:?}, which no tensor has")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<i64>,
    },
    /// The shape says another number of elements.
    #[error("input {name:?} has {found} elements, its shape {shape:?} says {expected}")]
    Elements {
        /// The tensor.
        name: String,
        /// Elements there are.
        found: usize,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements by its shape.
        expected: usize,
    },
    /// The bytes are no whole number of elements.
    #[error("input {name:?} has {found} bytes, which are not {expected} elements of {datatype}")]
    Length {
        /// The tensor.
        name: String,
        /// Bytes there are.
        found: usize,
        /// Elements by its shape.
        expected: usize,
        /// Their type.
        datatype: Datatype,
    },
    /// An element of another type.
    #[error("element {index} of input {name:?} is {found}, not a whole number from 0 to 255")]
    NotAByte {
        /// The tensor.
        name: String,
        /// Its place.
        index: usize,
        /// The number.
        found: f32,
    },
    /// An element is no base64.
    #[error("element {index} of input {name:?} is not base64, in which JSON has bytes")]
    Base64 {
        /// The tensor.
        name: String,
        /// Its place.
        index: usize,
    },
    /// An element of a tensor of bytes ends behind the tensor.
    #[error("element {index} of input {name:?} is longer than what is left of the tensor")]
    Torn {
        /// The tensor.
        name: String,
        /// Its place.
        index: usize,
    },
}

/// A shape as sides, and the number of elements.
pub(crate) fn sides(name: &str, shape: &[i64]) -> Result<(Vec<usize>, usize), TensorError> {
    let wrong = || TensorError::Shape {
        name: name.to_owned(),
        found: shape.to_owned(),
    };
    let sides = shape.iter().map(|side| usize::try_from(*side));
    let sides: Vec<usize> = sides.collect::<Result<_, _>>().map_err(|_| wrong())?;
    let elements = sides
        .iter()
        .try_fold(1_usize, |all, side| all.checked_mul(*side));
    Ok((sides, elements.ok_or_else(wrong)?))
}

/// A tensor of bytes as they go over the wire, little-endian.
pub(crate) fn from_bytes(
    name: &str,
    datatype: Datatype,
    shape: &[i64],
    bytes: &Bytes,
) -> Result<InputTensor, TensorError> {
    let (sides, expected) = sides(name, shape)?;
    let length = || TensorError::Length {
        name: name.to_owned(),
        found: bytes.len(),
        expected,
        datatype,
    };
    let data = match datatype {
        Datatype::Fp32 => {
            let (values, rest) = bytes.as_chunks::<4>();
            if values.len() != expected || !rest.is_empty() {
                return Err(length());
            }
            Data::Fp32(
                values
                    .iter()
                    .map(|value| f32::from_le_bytes(*value))
                    .collect(),
            )
        }
        Datatype::Uint8 if bytes.len() == expected => Data::Uint8(bytes.clone()),
        Datatype::Uint8 => return Err(length()),
        Datatype::Bytes => Data::Bytes(bytes_elements(name, bytes)?),
    };
    InputTensor::new(name, sides, expected, data)
}

/// The elements of a tensor of bytes: each its length, four bytes little-endian, then itself.
///
/// # Errors
/// [`TensorError::Torn`].
pub fn bytes_elements(name: &str, bytes: &Bytes) -> Result<Vec<Bytes>, TensorError> {
    let mut elements = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let torn = || TensorError::Torn {
            name: name.to_owned(),
            index: elements.len(),
        };
        let length = bytes[at..].first_chunk::<4>().ok_or_else(torn)?;
        let begin = at + 4;
        let length = u32::from_le_bytes(*length) as usize;
        let end = begin.checked_add(length).filter(|end| *end <= bytes.len());
        at = end.ok_or_else(torn)?;
        elements.push(bytes.slice(begin..at));
    }
    Ok(elements)
}

impl InputTensor {
    /// A tensor, if it has as many elements as its shape says.
    pub(crate) fn new(
        name: &str,
        shape: Vec<usize>,
        expected: usize,
        data: Data,
    ) -> Result<Self, TensorError> {
        let found = match &data {
            Data::Fp32(values) => values.len(),
            Data::Uint8(values) => values.len(),
            Data::Bytes(values) => values.len(),
        };
        let name = name.to_owned();
        match found == expected {
            true => Ok(Self { name, shape, data }),
            false => Err(TensorError::Elements {
                name,
                found,
                shape,
                expected,
            }),
        }
    }
}
