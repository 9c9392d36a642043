//! Numbers of any element type: conversion to f32, and what a tensor holds at a glance.

use crate::{Dtype, Tensor};

/// What a tensor of numbers holds at a glance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorStats {
    /// Euclidean norm of the finite elements, summed in f64 in the order of the file.
    pub norm: f64,
    /// Elements that are NaN.
    pub nan: u64,
    /// Elements that are infinite.
    pub infinite: u64,
}

impl Tensor {
    /// Calls `each` with every element as f64. `false`, without a call, when the elements are complex or of
    /// fewer than 16 bits of floating point.
    fn each(&self, mut each: impl FnMut(f64)) -> bool {
        macro_rules! all {
            ($size:literal, $read:expr) => {{
                let (chunks, _) = self.bytes().as_chunks::<$size>();
                chunks.iter().for_each(|chunk| each($read(*chunk)));
            }};
        }
        match self.dtype() {
            Dtype::F64 => all!(8, f64::from_le_bytes),
            Dtype::F32 => all!(4, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F16 => all!(2, |bytes| f64::from(f16(u16::from_le_bytes(bytes)))),
            Dtype::BF16 => all!(2, |bytes| f64::from(bf16(u16::from_le_bytes(bytes)))),
            Dtype::I64 => all!(8, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::U64 => all!(8, |bytes| u64::from_le_bytes(bytes) as f64),
            Dtype::I32 => all!(4, |bytes| f64::from(i32::from_le_bytes(bytes))),
            Dtype::U32 => all!(4, |bytes| f64::from(u32::from_le_bytes(bytes))),
            Dtype::I16 => all!(2, |bytes| f64::from(i16::from_le_bytes(bytes))),
            Dtype::U16 => all!(2, |bytes| f64::from(u16::from_le_bytes(bytes))),
            Dtype::I8 => all!(1, |bytes| f64::from(i8::from_le_bytes(bytes))),
            Dtype::U8 | Dtype::Bool => all!(1, |bytes: [u8; 1]| f64::from(bytes[0])),
            _ => return false,
        }
        true
    }

    /// What the tensor holds at a glance; `None` for complex numbers and floating point of eight bits.
    #[must_use]
    pub fn stats(&self) -> Option<TensorStats> {
        let (mut squares, mut nan, mut infinite) = (0.0, 0, 0);
        let known = self.each(|value| {
            if value.is_nan() {
                nan += 1;
            } else if value.is_infinite() {
                infinite += 1;
            } else {
                squares += value * value;
            }
        });
        known.then_some(TensorStats {
            norm: f64::sqrt(squares),
            nan,
            infinite,
        })
    }

    /// The tensor in f32: itself when it is, exact from f16 and bf16, rounded to nearest from f64. `None` for
    /// other element types. A number beyond the range of f32 becomes an infinity, as in PyTorch's `float()`.
    #[must_use]
    pub fn to_f32(&self) -> Option<Tensor> {
        match self.dtype() {
            Dtype::F32 => return Some(self.clone()),
            Dtype::F64 | Dtype::F16 | Dtype::BF16 => {}
            _ => return None,
        }
        let mut bytes = Vec::with_capacity(self.elements() * 4);
        self.each(|value| bytes.extend_from_slice(&(value as f32).to_le_bytes()));
        Tensor::new(Dtype::F32, self.shape(), bytes).ok()
    }

    /// The tensor in i64: itself when it is, exact from any other type. `None` when an element is no whole number, or of more than 53
    /// bits in another type, and for types that [`stats`](Self::stats) does not know.
    #[must_use]
    pub fn to_i64(&self) -> Option<Tensor> {
        /// Up to here every whole number is an f64.
        const MOST: f64 = 9_007_199_254_740_992.0;
        if self.dtype() == Dtype::I64 {
            return Some(self.clone());
        }
        let mut bytes = Vec::new();
        let mut whole = true;
        let known = self.each(|value| {
            whole &= value.fract() == 0.0 && value.abs() <= MOST;
            bytes.extend_from_slice(&(value as i64).to_le_bytes());
        });
        let tensor = Tensor::new(Dtype::I64, self.shape(), bytes).ok()?;
        (known && whole).then_some(tensor)
    }
}

/// IEEE 754 binary16.
fn f16(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // Subnormals are multiples of 2^-24, which f32 has all of.
        0 => {
            let value = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(value.to_bits() | sign)
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The upper half of an f32.
fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x0001, 1.0 / 16_777_216.0),
            (0x03ff, 1023.0 / 16_777_216.0),
            (0x0400, 1.0 / 16_384.0),
            (0x3c00, 1.0),
            (0xc555, -5.332_031_3),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(f16(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
        }
        assert!(f16(0x7e01).is_nan());
        assert_eq!(bf16(0xbfc0), -1.5);
    }

    #[test]
    fn what_is_converted() {
        let wide = [1.0f64, 1e300, -2.5];
        let bytes: Vec<u8> = wide.iter().flat_map(|value| value.to_le_bytes()).collect();
        let wide = Tensor::new(Dtype::F64, [3], bytes).unwrap();
        let narrow = wide.to_f32().unwrap();
        assert_eq!(narrow.as_f32().unwrap()[..], [1.0, f32::INFINITY, -2.5]);
        assert_eq!(narrow.shape(), [3]);
        assert!(Tensor::from_i64(&[], &[3]).unwrap().to_f32().is_none());
    }

    #[test]
    fn whole_numbers_become_i64() {
        let whole = |tensor: Tensor| Some(tensor.to_i64()?.as_i64().unwrap().to_vec());
        let floats = |values: &[f32]| Tensor::from_f32(&[values.len()], values).unwrap();
        assert_eq!(whole(floats(&[3.0, -2.0])), Some(vec![3, -2]));
        for value in [0.5, f32::NAN, f32::INFINITY, 1e30] {
            assert_eq!(whole(floats(&[value])), None, "{value}");
        }
        let half = Tensor::new(Dtype::F16, [], 0x4d00u16.to_le_bytes().to_vec()).unwrap();
        assert_eq!(whole(half), Some(vec![20]));
        let narrow = Tensor::new(Dtype::I32, [], (-7i32).to_le_bytes().to_vec()).unwrap();
        assert_eq!(whole(narrow), Some(vec![-7]));
        let eighth = Tensor::new(Dtype::F8E4M3, [], vec![0x38]).unwrap();
        assert_eq!(whole(eighth), None);
        assert_eq!(
            whole(Tensor::from_i64(&[], &[i64::MAX]).unwrap()),
            Some(vec![i64::MAX])
        );
    }

    #[test]
    fn at_a_glance() {
        let tensor = Tensor::from_f32(&[4], &[3.0, f32::NAN, -4.0, f32::INFINITY]).unwrap();
        let stats = tensor.stats().unwrap();
        assert_eq!((stats.norm, stats.nan, stats.infinite), (5.0, 1, 1));
        let stats = Tensor::from_i64(&[2], &[-6, 8]).unwrap().stats().unwrap();
        assert_eq!((stats.norm, stats.nan), (10.0, 0));
        let empty = Tensor::from_f32(&[0], &[]).unwrap().stats().unwrap();
        assert_eq!(empty.norm, 0.0);
    }
}
