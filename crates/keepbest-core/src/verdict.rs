//! The answer for one evaluation.

use serde::{Deserialize, Serialize};

use crate::metrics::nonfinite;

/// What an evaluation is worth under an objective: what the total order compares, kept with the best so that a
/// resumed run goes on comparing with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value of the monitored expression. Finite in every score that [`Objective::judge`](crate::Objective::judge)
    /// hands out.
    #[serde(with = "nonfinite")]
    pub value: f64,
    /// The value of the tie-break, if the objective has one and it was finite.
    #[serde(
        default,
        with = "nonfinite::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub tie: Option<f64>,
}

/// Improved, not improved, or rejected, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The new best.
    Improved {
        /// Such as `val/accuracy 0.8912, was 0.8875`.
        reason: String,
    },
    /// It could have been the best, but is not better than what there is.
    NotImproved {
        /// Such as `val/accuracy 0.8801 is lower than the best 0.8912`.
        reason: String,
    },
    /// It can never be the best, whatever the best is: the monitored value is not finite, or a constraint fails.
    Rejected {
        /// Such as `val/recall_macro >= 0.9 does not hold: 0.8734`.
        reason: String,
    },
}

impl Verdict {
    /// Whether this is the new best.
    #[must_use]
    pub fn is_improved(&self) -> bool {
        matches!(self, Self::Improved { .. })
    }

    /// Whether this can never be the best.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// The reason in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Improved { reason }
            | Self::NotImproved { reason }
            | Self::Rejected { reason } => reason,
        }
    }
}

/// A verdict with the numbers behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The answer.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What to compare the next evaluation with, should this one become the best. `None` exactly when the verdict is
    /// [`Verdict::Rejected`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The value of the monitored expression, as it was: NaN and infinities too.
    #[serde(with = "nonfinite")]
    pub value: f64,
}
