//! A named-less tensor: element type, shape, and bytes that it shares rather than owns.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::Dtype;

/// A tensor as data: little-endian, row-major (last side fastest), dense.
///
/// Cloning shares the bytes. Tensors read from a file are views of its mapping.
///
/// ```
/// use keepbest_formats::{Dtype, Tensor};
/// let tensor = Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.dtype(), Dtype::F32);
/// assert_eq!(tensor.as_f32()?.as_ref(), [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), keepbest_formats::TensorError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// Why bytes, shape and element type do not make a tensor, or not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The shape's product does not fit in memory.
    #[error("shape {shape:?} of {dtype} overflows")]
    ShapeOverflow {
        /// Element type.
        dtype: Dtype,
        /// Shape asked for.
        shape: Vec<usize>,
    },
    /// The bytes are too many or too few.
    #[error("shape {shape:?} of {dtype} takes {expected} bytes, found {found}")]
    Length {
        /// Element type.
        dtype: Dtype,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes that the shape takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The tensor has another element type than the one asked for.
    #[error("expected elements of type {expected}, found {found}")]
    Dtype {
        /// Element type asked for.
        expected: Dtype,
        /// Element type of the tensor.
        found: Dtype,
    },
}

impl Tensor {
    /// Makes a tensor of `bytes` (little-endian, row-major).
    ///
    /// # Errors
    /// When `bytes` is not exactly as long as `shape` and `dtype` say.
    pub fn new(
        dtype: Dtype,
        shape: impl Into<Vec<usize>>,
        bytes: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        let (shape, bytes) = (shape.into(), bytes.into());
        match dtype.byte_len(&shape) {
            None => Err(TensorError::ShapeOverflow { dtype, shape }),
            Some(expected) if expected != bytes.len() => Err(TensorError::Length {
                dtype,
                shape,
                expected,
                found: bytes.len(),
            }),
            Some(_) => Ok(Self {
                dtype,
                shape,
                bytes,
            }),
        }
    }

    /// Copies `values` into an f32 tensor of `shape`.
    ///
    /// # Errors
    /// When the count of values is not the product of `shape`.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Self, TensorError> {
        let bytes: Vec<u8> = if cfg!(target_endian = "little") {
            bytemuck::cast_slice(values).to_vec()
        } else {
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        Self::new(Dtype::F32, shape, bytes)
    }

    /// Copies `values` into an i64 tensor of `shape`.
    ///
    /// # Errors
    /// When the count of values is not the product of `shape`.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Self, TensorError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(Dtype::I64, shape, bytes)
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sides, slowest first; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes: little-endian elements in row-major order.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as f32, borrowed when the bytes are aligned (always so in files that keepbest
    /// wrote), copied otherwise. Bits are preserved, NaN payloads included.
    ///
    /// # Errors
    /// When the elements are of another type: nothing is converted.
    pub fn as_f32(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        self.elements_as::<f32, 4>(Dtype::F32, f32::from_le_bytes)
    }

    /// The elements as i64, borrowed when the bytes are aligned, copied otherwise.
    ///
    /// # Errors
    /// When the elements are of another type: nothing is converted.
    pub fn as_i64(&self) -> Result<Cow<'_, [i64]>, TensorError> {
        self.elements_as::<i64, 8>(Dtype::I64, i64::from_le_bytes)
    }

    fn elements_as<T: bytemuck::Pod, const N: usize>(
        &self,
        dtype: Dtype,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Cow<'_, [T]>, TensorError> {
        if self.dtype != dtype {
            return Err(TensorError::Dtype {
                expected: dtype,
                found: self.dtype,
            });
        }
        if cfg!(target_endian = "little")
            && let Ok(slice) = bytemuck::try_cast_slice(&self.bytes)
        {
            return Ok(Cow::Borrowed(slice));
        }
        let (chunks, _) = self.bytes.as_chunks::<N>();
        Ok(Cow::Owned(
            chunks.iter().map(|&chunk| read(chunk)).collect(),
        ))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_must_match() {
        let error = Tensor::new(Dtype::F32, [2, 2], vec![0u8; 15]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shape [2, 2] of F32 takes 16 bytes, found 15"
        );
        let error = Tensor::new(Dtype::F32, [usize::MAX, 2], vec![0u8; 15]).unwrap_err();
        assert!(matches!(error, TensorError::ShapeOverflow { .. }));
        assert!(Tensor::new(Dtype::F32, [0, 7], Bytes::new()).is_ok());
    }

    #[test]
    fn unaligned_bytes_read_the_same_as_aligned_ones() {
        let values = [1.5f32, -0.0, f32::from_bits(0x7fc0_1234), f32::INFINITY];
        let aligned = Tensor::from_f32(&[4], &values).unwrap();
        for offset in 0..4 {
            let mut raw = vec![0u8; offset];
            raw.extend_from_slice(aligned.bytes());
            let shifted = Tensor::new(Dtype::F32, [4], Bytes::from(raw).slice(offset..)).unwrap();
            let bits: Vec<u32> = shifted
                .as_f32()
                .unwrap()
                .iter()
                .map(|v| v.to_bits())
                .collect();
            assert_eq!(bits, values.map(f32::to_bits));
        }
    }

    #[test]
    fn another_type_is_refused() {
        let tensor = Tensor::from_i64(&[], &[7]).unwrap();
        assert_eq!(tensor.as_i64().unwrap().as_ref(), [7]);
        assert_eq!(
            tensor.as_f32().unwrap_err().to_string(),
            "expected elements of type F32, found I64"
        );
    }
}
