//! A value to have more or less of.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ObjectiveError;
use crate::{expression::Expression, metrics::Direction};

/// An expression over metrics, and whether more or less of it is better.
///
/// Read from text: the direction is that of the metrics in it, unless `max:` or `min:` stands before it.
///
/// ```
/// use keepbest_core::{Direction, Goal};
///
/// assert_eq!("val/loss".parse::<Goal>()?.direction, Direction::Minimise);
/// assert_eq!("max:val/my_own".parse::<Goal>()?.direction, Direction::Maximise);
/// # Ok::<(), keepbest_core::ObjectiveError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// The value.
    pub monitor: Expression,
    /// Whether more or less of it is better.
    pub direction: Direction,
}

impl Goal {
    /// Reads one. The direction is that of a `max:` or `min:` before it, else the one given, else that of its metrics.
    pub(super) fn read(
        text: &str,
        direction: Option<Direction>,
        unknown: impl FnOnce(Expression) -> ObjectiveError,
    ) -> Result<Self, ObjectiveError> {
        let text = text.trim();
        let (before, rest) = match text.split_once(':') {
            Some(("max", rest)) => (Some(Direction::Maximise), rest),
            Some(("min", rest)) => (Some(Direction::Minimise), rest),
            _ => (None, text),
        };
        let monitor: Expression = rest.parse().map_err(|source| ObjectiveError::Expression {
            text: rest.trim().to_owned(),
            source,
        })?;
        if monitor.metric_names().is_empty() {
            return Err(ObjectiveError::NoMetric {
                expression: monitor,
            });
        }
        match before.or(direction).or_else(|| monitor.direction()) {
            Some(direction) => Ok(Self { monitor, direction }),
            None => Err(unknown(monitor)),
        }
    }
}

impl FromStr for Goal {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text, None, |expression| {
            ObjectiveError::UnknownGoalDirection { expression }
        })
    }
}
