//! The least improvement that counts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::metrics::Direction;

/// The least improvement that counts: a value replaces the best when it is better by *more* than this.
///
/// Written `0.001` or `0.1%`. Serialised as a number or as the text with the percent sign.
///
/// ```
/// use keepbest_core::MinDelta;
///
/// assert_eq!("0.001".parse(), Ok(MinDelta::Absolute(0.001)));
/// assert_eq!("0.1%".parse(), Ok(MinDelta::Relative(0.001)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MinDelta {
    /// In the unit of the value.
    Absolute(f64),
    /// As a fraction of the magnitude of the best so far. When the best is 0, any improvement counts.
    Relative(f64),
}

impl MinDelta {
    /// In the unit of the value, for this best.
    #[must_use]
    pub fn absolute(self, best: f64) -> f64 {
        match self {
            Self::Absolute(delta) => delta,
            Self::Relative(fraction) => fraction * best.abs(),
        }
    }

    /// Whether `value` is better than `best` by more than this. The difference is taken in double precision. False when
    /// either is not finite.
    #[must_use]
    pub fn is_exceeded(self, direction: Direction, value: f64, best: f64) -> bool {
        value.is_finite() && best.is_finite() && direction.gain(value, best) > self.absolute(best)
    }

    /// Whether it asks for nothing: any improvement counts.
    #[must_use]
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Absolute(x) | Self::Relative(x) if x == 0.0)
    }

    pub(crate) fn validated(self) -> Result<Self, MinDeltaError> {
        match self {
            // `+ 0.0` turns -0.0 into 0.0.
            Self::Absolute(x) if x.is_finite() && x >= 0.0 => Ok(Self::Absolute(x + 0.0)),
            Self::Relative(x) if x.is_finite() && x >= 0.0 => Ok(Self::Relative(x + 0.0)),
            Self::Absolute(x) | Self::Relative(x) => Err(MinDeltaError {
                text: x.to_string(),
            }),
        }
    }
}

impl Default for MinDelta {
    /// Nothing: any improvement counts.
    fn default() -> Self {
        Self::Absolute(0.0)
    }
}

/// Not a minimum improvement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a minimum improvement: use a number such as `0.001` or a percentage such as `0.1%`, not negative"
)]
#[non_exhaustive]
pub struct MinDeltaError {
    /// The value given.
    pub text: String,
}

impl FromStr for MinDelta {
    type Err = MinDeltaError;

    fn from_str(text: &str) -> Result<Self, MinDeltaError> {
        let refused = || MinDeltaError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let delta = match trimmed.strip_suffix('%') {
            // The decimal point is moved in the text, so that 0.7% is the double nearest to 0.007.
            Some(percent) => {
                Self::Relative(scaled_by_ten(percent.trim_end(), -2).ok_or_else(refused)?)
            }
            None => Self::Absolute(trimmed.parse().map_err(|_| refused())?),
        };
        delta.validated().map_err(|_| refused())
    }
}

/// The number in the text times a power of ten, rounded once.
fn scaled_by_ten(text: &str, power: i32) -> Option<f64> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    // Only digits and a point: `inf`, `nan` and a second exponent are no mantissas.
    if !mantissa
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-'))
    {
        return None;
    }
    format!("{mantissa}e{}", exponent.checked_add(power)?)
        .parse()
        .ok()
}

impl fmt::Display for MinDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(delta) => write!(f, "{delta}"),
            Self::Relative(fraction) if *fraction == 0.0 || !fraction.is_finite() => {
                write!(f, "{fraction}%")
            }
            Self::Relative(fraction) => {
                // The shortest digits of the fraction, with the decimal point moved in the text.
                let text = format!("{fraction:e}");
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent = exponent.parse::<i32>().unwrap_or_default() + 2;
                let digits = mantissa.replace('.', "");
                match exponent {
                    0..=6 => {
                        let whole = exponent as usize + 1;
                        if digits.len() > whole {
                            write!(f, "{}.{}%", &digits[..whole], &digits[whole..])
                        } else {
                            write!(f, "{digits:0<whole$}%")
                        }
                    }
                    -6..0 => write!(f, "0.{}{digits}%", "0".repeat((-exponent - 1) as usize)),
                    _ => write!(f, "{mantissa}e{exponent}%"),
                }
            }
        }
    }
}

impl Serialize for MinDelta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absolute(delta) => serializer.serialize_f64(*delta),
            Self::Relative(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for MinDelta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = MinDelta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 0.001 or a percentage such as \"0.1%\"")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<MinDelta, E> {
                MinDelta::Absolute(value).validated().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MinDelta, E> {
                self.visit_f64(value as f64)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MinDelta, E> {
                self.visit_f64(value as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MinDelta, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text() {
        for (text, delta, shown) in [
            ("0", MinDelta::Absolute(0.0), "0"),
            ("-0", MinDelta::Absolute(0.0), "0"),
            ("1e-3", MinDelta::Absolute(0.001), "0.001"),
            (" 0.5 ", MinDelta::Absolute(0.5), "0.5"),
            ("0%", MinDelta::Relative(0.0), "0%"),
            ("0.7%", MinDelta::Relative(0.007), "0.7%"),
            ("0.7 %", MinDelta::Relative(0.007), "0.7%"),
            ("100%", MinDelta::Relative(1.0), "100%"),
            ("12.5%", MinDelta::Relative(0.125), "12.5%"),
            ("1e-7%", MinDelta::Relative(1e-9), "1e-7%"),
            ("0.05%", MinDelta::Relative(0.0005), "0.05%"),
        ] {
            assert_eq!(text.parse(), Ok(delta), "{text}");
            assert_eq!(delta.to_string(), shown, "{text}");
        }
        for text in [
            "",
            "%",
            "x",
            "-0.1",
            "-1%",
            "NaN",
            "inf",
            "inf%",
            "nan%",
            "1e3e2%",
            "0.1%%",
            "1e99999999999%",
            "1e400",
        ] {
            assert_eq!(
                text.parse::<MinDelta>(),
                Err(MinDeltaError {
                    text: text.to_owned()
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn better_by_more() {
        use Direction::{Maximise, Minimise};
        let exceeded = MinDelta::is_exceeded;
        assert!(exceeded(MinDelta::Absolute(0.25), Maximise, 0.76, 0.5));
        assert!(!exceeded(MinDelta::Absolute(0.25), Maximise, 0.75, 0.5));
        assert!(exceeded(MinDelta::Absolute(0.25), Minimise, 0.24, 0.5));
        assert!(!exceeded(MinDelta::Absolute(0.25), Minimise, 0.25, 0.5));
        // Relative to the magnitude, also of a negative best.
        assert!(!exceeded(MinDelta::Relative(0.5), Maximise, -1.0, -2.0));
        assert!(exceeded(MinDelta::Relative(0.5), Maximise, -0.99, -2.0));
        assert!(exceeded(MinDelta::Relative(0.5), Minimise, -3.01, -2.0));
        // A best of zero: any improvement, also the least.
        for zero in [0.0, -0.0] {
            assert!(exceeded(
                MinDelta::Relative(0.5),
                Maximise,
                f64::from_bits(1),
                zero
            ));
            assert!(!exceeded(MinDelta::Relative(0.5), Maximise, -zero, zero));
            assert!(exceeded(
                MinDelta::Relative(0.5),
                Minimise,
                -f64::from_bits(1),
                zero
            ));
        }
        // The extremes do not overflow into nonsense.
        assert!(exceeded(
            MinDelta::Absolute(1.0),
            Maximise,
            f64::MAX,
            f64::MIN
        ));
        assert!(!exceeded(
            MinDelta::Absolute(1.0),
            Minimise,
            f64::MAX,
            f64::MIN
        ));
        assert!(!exceeded(MinDelta::default(), Maximise, f64::INFINITY, 1.0));
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(value in 0.0..f64::MAX, small in 0.0..2.0f64, relative: bool) {
            for value in [value, small] {
                let delta = if relative { MinDelta::Relative(value / 1e3) } else { MinDelta::Absolute(value) };
                prop_assert_eq!(delta.to_string().parse(), Ok(delta));
                let json = serde_json::to_string(&delta).unwrap();
                prop_assert_eq!(serde_json::from_str::<MinDelta>(&json).unwrap(), delta);
            }
        }

        #[test]
        fn no_text_panics(text in "[ 0-9.e%+-]{0,12}") {
            if let Ok(delta) = text.parse::<MinDelta>() {
                prop_assert_eq!(delta.to_string().parse(), Ok(delta));
            }
        }
    }
}
