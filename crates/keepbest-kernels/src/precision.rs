//! Number formats to multiply in.

use std::fmt;
use std::str::FromStr;

use crate::isa::{Isa, IsaError};

/// In what format convolutions multiply in training. Sums, weights and everything else are `f32` in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32`: the same bits on every machine.
    #[default]
    F32,
    /// Factors rounded to `bf16` (the upper half of an `f32`, to nearest, ties to even), two products an instruction. Only with
    /// AVX-512 BF16. The same bits for every thread count.
    Bf16,
}

impl Precision {
    /// Whether this processor has the format's instructions, and `isa` allows them.
    pub fn is_available(self, isa: Isa) -> bool {
        match self {
            Precision::F32 => true,
            #[cfg(target_arch = "x86_64")]
            Precision::Bf16 => isa == Isa::Avx512 && is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            Precision::Bf16 => false,
        }
    }

    /// The name: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Precision, IsaError> {
        match name {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(IsaError::UnknownPrecision {
                name: name.to_owned(),
            }),
        }
    }
}

/// `value` rounded to `bf16`, as its 16 bits; NaN stays NaN.
pub(crate) fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = bits >> 16 & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even() {
        let back = |value: f32| f32::from_bits(u32::from(bf16(value)) << 16);
        for (value, expected) in [
            (1.0, 1.0),
            (-3.5, -3.5),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.1 / 256.0, 1.0 + 2.0 / 256.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(back(value), expected, "{value}");
        }
        assert!(back(f32::from_bits(0x7fff_ffff)).is_nan());
        assert!(back(f32::from_bits(0xff80_0001)).is_nan());
    }

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.name().parse::<Precision>(), Ok(precision));
        }
        let error = "f16".parse::<Precision>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown precision \"f16\": expected f32 or bf16"
        );
    }
}
