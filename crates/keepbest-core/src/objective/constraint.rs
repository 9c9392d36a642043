//! A condition that the best has to meet: `val/recall_macro >= 0.9`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ObjectiveError;
use crate::{
    expression::{Expression, MissingMetric},
    metrics::{Metrics, format_value},
};

/// The comparison between the two sides of a constraint. A NaN on either side fails each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
}

impl Comparison {
    /// The sign.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }

    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::AtLeast => left >= right,
            Self::Above => left > right,
            Self::AtMost => left <= right,
            Self::Below => left < right,
        }
    }
}

/// Two expressions and how they must compare. Shown, parsed and serialised as text such as `val/recall_macro >= 0.9`.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    /// Before the sign.
    pub left: Expression,
    /// The sign.
    pub comparison: Comparison,
    /// Behind the sign.
    pub right: Expression,
}

impl Constraint {
    /// What is wrong, in words, if the constraint does not hold.
    ///
    /// # Errors
    /// [`MissingMetric`] when a metric in it is not among `metrics`.
    pub fn violation(&self, metrics: &Metrics) -> Result<Option<String>, MissingMetric> {
        let left = self.left.evaluate(metrics)?;
        let right = self.right.evaluate(metrics)?;
        if self.comparison.holds(left, right) {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (side, value) in [(&self.left, left), (&self.right, right)] {
            if !side.metric_names().is_empty() {
                values.push(format!(
                    "{side} is {}",
                    exact_enough(value, if values.is_empty() { right } else { left })
                ));
            }
        }
        let reason = if values.is_empty() {
            String::new()
        } else {
            format!(": {}", values.join(", "))
        };
        Ok(Some(format!("{self} does not hold{reason}")))
    }
}

/// The value, with the digits it takes to tell it from the bound it misses.
fn exact_enough(value: f64, bound: f64) -> String {
    if value == bound {
        format_value(value)
    } else {
        crate::metrics::format_apart(value, bound).0
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.left,
            self.comparison.as_str(),
            self.right
        )
    }
}

impl FromStr for Constraint {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let no_comparison = || ObjectiveError::NoComparison {
            text: text.to_owned(),
        };
        let at = comparison_at(text).ok_or_else(no_comparison)?;
        let (comparison, length) = match text.as_bytes()[at..] {
            [b'>', b'=', ..] => (Comparison::AtLeast, 2),
            [b'<', b'=', ..] => (Comparison::AtMost, 2),
            [b'>', ..] => (Comparison::Above, 1),
            _ => (Comparison::Below, 1),
        };
        let side = |text: &str| {
            text.parse::<Expression>()
                .map_err(|source| ObjectiveError::Expression {
                    text: text.trim().to_owned(),
                    source,
                })
        };
        Ok(Self {
            left: side(&text[..at])?,
            comparison,
            right: side(&text[at + length..])?,
        })
    }
}

/// The position of the first comparison outside backquotes.
fn comparison_at(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'`';
        !quoted && matches!(byte, b'<' | b'>')
    })
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Constraint {
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
    fn violations_in_words() {
        let metrics = Metrics::from_iter([
            ("val/r", 0.8734),
            ("val/p", 0.9),
            ("nan", f64::NAN),
            ("a<b", 1.0),
        ]);
        for (text, violation) in [
            (
                "val/r >= 0.9",
                Some("val/r >= 0.9 does not hold: val/r is 0.8734"),
            ),
            ("val/p>=0.9", None),
            (
                "val/p > 0.9",
                Some("val/p > 0.9 does not hold: val/p is 0.9000"),
            ),
            ("0.9 <= val/p", None),
            ("val/r < val/p", None),
            (
                "val/p <= val/r",
                Some("val/p <= val/r does not hold: val/p is 0.9000, val/r is 0.8734"),
            ),
            (
                "val/r >= 0.87340001",
                Some("val/r >= 0.87340001 does not hold: val/r is 0.87340000"),
            ),
            ("nan >= 0", Some("nan >= 0 does not hold: nan is NaN")),
            ("nan < 0", Some("nan < 0 does not hold: nan is NaN")),
            ("`a<b` <= 1", None),
            ("1 > 2", Some("1 > 2 does not hold")),
        ] {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(
                constraint.violation(&metrics).unwrap().as_deref(),
                violation,
                "{text}"
            );
            assert_eq!(
                constraint.to_string().parse::<Constraint>().unwrap(),
                constraint
            );
        }
    }

    #[test]
    fn malformed_text() {
        for text in ["", "val/r", "`a<b`", "val/r == 1", "val/r = 1"] {
            assert!(
                matches!(
                    text.parse::<Constraint>(),
                    Err(ObjectiveError::NoComparison { .. })
                ),
                "{text}"
            );
        }
        for text in [">= 1", "a >=", "a > = 1", "a >> 1", "0 < a < 1"] {
            assert!(
                matches!(
                    text.parse::<Constraint>(),
                    Err(ObjectiveError::Expression { .. })
                ),
                "{text}"
            );
        }
    }
}
