//! Element types and their sizes.

use std::fmt;

/// Element type of a tensor.
///
/// The set is that of safetensors with whole-byte elements, plus the two complex types that only
/// PyTorch files hold ([`C32`](Dtype::C32), [`C128`](Dtype::C128)). Elements are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// 8-bit float, 4 exponent bits, finite (`float8_e4m3fn`).
    F8E4M3,
    /// 8-bit float, 4 exponent bits, finite, no negative zero (`float8_e4m3fnuz`).
    F8E4M3Fnuz,
    /// 8-bit float, 5 exponent bits (`float8_e5m2`).
    F8E5M2,
    /// 8-bit float, 5 exponent bits, finite, no negative zero (`float8_e5m2fnuz`).
    F8E5M2Fnuz,
    /// 8-bit exponent without mantissa (`float8_e8m0fnu`).
    F8E8M0,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// Complex number of two binary16 (real, imaginary).
    C32,
    /// Complex number of two binary32 (real, imaginary).
    C64,
    /// Complex number of two binary64 (real, imaginary).
    C128,
}

impl Dtype {
    /// Every element type, in the order of declaration.
    pub const ALL: [Dtype; 21] = [
        Dtype::F64,
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F8E4M3,
        Dtype::F8E4M3Fnuz,
        Dtype::F8E5M2,
        Dtype::F8E5M2Fnuz,
        Dtype::F8E8M0,
        Dtype::I64,
        Dtype::I32,
        Dtype::I16,
        Dtype::I8,
        Dtype::U64,
        Dtype::U32,
        Dtype::U16,
        Dtype::U8,
        Dtype::Bool,
        Dtype::C32,
        Dtype::C64,
        Dtype::C128,
    ];

    /// Size of one element in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Dtype::C128 => 16,
            Dtype::F64 | Dtype::I64 | Dtype::U64 | Dtype::C64 => 8,
            Dtype::F32 | Dtype::I32 | Dtype::U32 | Dtype::C32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::F8E4M3
            | Dtype::F8E4M3Fnuz
            | Dtype::F8E5M2
            | Dtype::F8E5M2Fnuz
            | Dtype::F8E8M0
            | Dtype::I8
            | Dtype::U8
            | Dtype::Bool => 1,
        }
    }

    /// Name as safetensors spells it (`"F32"`, `"BOOL"`, ...); the canonical name in digests.
    ///
    /// `C32` and `C128` have no safetensors counterpart ([`in_safetensors`](Self::in_safetensors)).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::F8E4M3Fnuz => "F8_E4M3FNUZ",
            Dtype::F8E5M2 => "F8_E5M2",
            Dtype::F8E5M2Fnuz => "F8_E5M2FNUZ",
            Dtype::F8E8M0 => "F8_E8M0",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::I16 => "I16",
            Dtype::I8 => "I8",
            Dtype::U64 => "U64",
            Dtype::U32 => "U32",
            Dtype::U16 => "U16",
            Dtype::U8 => "U8",
            Dtype::Bool => "BOOL",
            Dtype::C32 => "C32",
            Dtype::C64 => "C64",
            Dtype::C128 => "C128",
        }
    }

    /// Whether safetensors has this element type.
    #[must_use]
    pub const fn in_safetensors(self) -> bool {
        !matches!(self, Dtype::C32 | Dtype::C128)
    }

    /// The element type that safetensors calls `name`.
    #[must_use]
    pub fn from_safetensors(name: &str) -> Option<Dtype> {
        Dtype::ALL
            .into_iter()
            .find(|dtype| dtype.in_safetensors() && dtype.name() == name)
    }

    /// Bytes of a tensor of this type and `shape`; `None` when the product overflows.
    ///
    /// A shape with a zero has no bytes however large its other sides are, as long as the product
    /// of the sides before it does not overflow.
    #[must_use]
    pub fn byte_len(self, shape: &[usize]) -> Option<usize> {
        shape
            .iter()
            .try_fold(1usize, |product, &side| product.checked_mul(side))
            .and_then(|elements| elements.checked_mul(self.size()))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_map_back() {
        for dtype in Dtype::ALL {
            let expected = dtype.in_safetensors().then_some(dtype);
            assert_eq!(Dtype::from_safetensors(dtype.name()), expected);
        }
        assert_eq!(Dtype::from_safetensors("f32"), None);
        assert_eq!(Dtype::from_safetensors("F4"), None);
    }

    #[test]
    fn byte_length_is_checked() {
        assert_eq!(Dtype::F32.byte_len(&[]), Some(4));
        assert_eq!(Dtype::F32.byte_len(&[2, 3]), Some(24));
        assert_eq!(Dtype::F64.byte_len(&[5, 0]), Some(0));
        assert_eq!(Dtype::U8.byte_len(&[usize::MAX, 2]), None);
        assert_eq!(Dtype::F32.byte_len(&[usize::MAX / 2]), None);
    }
}
