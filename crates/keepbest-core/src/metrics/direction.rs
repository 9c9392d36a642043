//! Whether more or less of a metric is better.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Whether a higher or a lower value is better. Written `max` and `min` in configurations and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Higher is better: accuracy.
    Maximise,
    /// Lower is better: loss.
    Minimise,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Maximise => Self::Minimise,
            Self::Minimise => Self::Maximise,
        }
    }

    /// The advantage of `value` over `than`: positive when better. NaN when either is, or both are the same infinity.
    #[must_use]
    pub fn gain(self, value: f64, than: f64) -> f64 {
        match self {
            Self::Maximise => value - than,
            Self::Minimise => than - value,
        }
    }

    /// `Greater` when `a` is better than `b`. Finite values come in the order of their numbers (-0.0 equals 0.0); NaN
    /// and both infinities are equal to each other and worse than every finite value, whatever the direction.
    #[must_use]
    pub fn compare(self, a: f64, b: f64) -> Ordering {
        match (a.is_finite(), b.is_finite()) {
            (true, true) => {
                let ordering = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                match self {
                    Self::Maximise => ordering,
                    Self::Minimise => ordering.reverse(),
                }
            }
            (a, b) => a.cmp(&b),
        }
    }

    /// `max` or `min`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maximise => "max",
            Self::Minimise => "min",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no direction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a direction: use `max` or `min`")]
#[non_exhaustive]
pub struct ParseDirectionError {
    /// The value given.
    pub text: String,
}

impl FromStr for Direction {
    type Err = ParseDirectionError;

    fn from_str(text: &str) -> Result<Self, ParseDirectionError> {
        match text.trim() {
            "max" | "maximise" | "maximize" => Ok(Self::Maximise),
            "min" | "minimise" | "minimize" => Ok(Self::Minimise),
            _ => Err(ParseDirectionError {
                text: text.to_owned(),
            }),
        }
    }
}

impl Serialize for Direction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Direction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_is_by_goodness() {
        use Ordering::{Equal, Greater, Less};
        let (max, min) = (Direction::Maximise, Direction::Minimise);
        assert_eq!(max.compare(2.0, 1.0), Greater);
        assert_eq!(min.compare(2.0, 1.0), Less);
        for direction in [max, min] {
            assert_eq!(direction.compare(-0.0, 0.0), Equal);
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(direction.compare(bad, f64::MIN), Less);
                assert_eq!(direction.compare(f64::MAX, bad), Greater);
                assert_eq!(direction.compare(bad, f64::NAN), Equal);
            }
        }
    }
}
