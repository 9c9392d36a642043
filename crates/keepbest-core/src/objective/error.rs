//! What can be wrong with an objective or its use.

use super::min_delta::MinDeltaError;
use crate::expression::{Expression, ExpressionError, MissingMetric};

/// An objective cannot be made, or not be applied to these metrics.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A metric that the objective needs was not measured.
    #[error(transparent)]
    MissingMetric(#[from] MissingMetric),
    /// It does not follow from the expression whether more or less is better.
    #[error(
        "it is not known whether more or less of `{expression}` is better: `--mode max|min` is needed"
    )]
    UnknownDirection {
        /// The expression.
        expression: Expression,
    },
    /// The same for a tie-break.
    #[error(
        "it is not known whether more or less of `{expression}` is better: `max:` or `min:` is needed before it"
    )]
    UnknownTieDirection {
        /// The expression.
        expression: Expression,
    },
    /// An expression without a metric is the same for every model.
    #[error("`{expression}` has no metric in it, so it cannot tell models apart")]
    NoMetric {
        /// The expression.
        expression: Expression,
    },
    /// An expression cannot be read.
    #[error("cannot read the expression `{text}`")]
    Expression {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: ExpressionError,
    },
    /// A constraint has no comparison.
    #[error("the constraint `{text}` has none of `>=`, `>`, `<=`, `<`")]
    NoComparison {
        /// What was given.
        text: String,
    },
    /// Two objectives of a run monitor the same.
    #[error("{monitor} is monitored twice")]
    MonitoredTwice {
        /// The expression.
        monitor: Expression,
    },
    /// A minimum improvement is negative or not finite.
    #[error(transparent)]
    MinDelta(#[from] MinDeltaError),
}

impl ObjectiveError {
    /// What to try, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingMetric(missing) => missing.hint(),
            _ => None,
        }
    }
}
