//! Errors of objectives and of their use.

use super::min_delta::MinDeltaError;
use crate::classification::{Metric, Needs};
use crate::expression::{Expression, ExpressionError, MissingMetric};
use crate::metrics::nearest_metric;

/// The metrics whose direction is known, for those who mistype one.
fn known_names() -> Vec<String> {
    Metric::all()
        .map(|metric| match metric.definition().needs() {
            Needs::Model => metric.to_string(),
            _ => format!("val/{metric}"),
        })
        .collect()
}

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
    /// The same for a tie-break, or an axis of a Pareto front.
    #[error(
        "it is not known whether more or less of `{expression}` is better: `max:` or `min:` is needed before it"
    )]
    UnknownGoalDirection {
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
        /// The value given.
        text: String,
        /// The fault, in words.
        source: ExpressionError,
    },
    /// A constraint has no comparison.
    #[error("the constraint `{text}` has none of `>=`, `>`, `<=`, `<`")]
    NoComparison {
        /// The value given.
        text: String,
    },
    /// Two objectives of a run monitor the same, or two axes of a Pareto front are.
    #[error("{monitor} is monitored twice")]
    MonitoredTwice {
        /// The expression.
        monitor: Expression,
    },
    /// One value has a best, not a front.
    #[error("a Pareto front is of two or more metrics, joined by commas; `{text}` is one")]
    OneGoal {
        /// The value given.
        text: String,
    },
    /// A minimum improvement is negative or not finite.
    #[error(transparent)]
    MinDelta(#[from] MinDeltaError),
}

impl ObjectiveError {
    /// A thing to try, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingMetric(missing) => missing.hint(),
            Self::UnknownDirection { expression } | Self::UnknownGoalDirection { expression } => {
                let mut names = expression.metric_names().into_iter();
                let known = known_names();
                let meant = names.find_map(|name| nearest_metric(name, &known))?;
                Some(format!("did you mean {meant}?"))
            }
            _ => None,
        }
    }
}
