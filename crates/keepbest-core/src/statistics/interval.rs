//! Confidence intervals.

use serde::{Deserialize, Serialize};

use super::normal_quantile;

/// A confidence interval of a metric, both ends in the metric's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The share of such intervals that hold the true value, such as 0.95.
    pub confidence: f64,
}

impl Interval {
    /// Whether `value` lies inside, ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// A reason why an interval or a test is impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatisticsError {
    /// There is nothing to measure on.
    #[error("there are no examples")]
    NoExamples,
    /// More successes than trials.
    #[error("{successes} successes in {trials} trials")]
    TooManySuccesses {
        /// Successes.
        successes: u64,
        /// Trials.
        trials: u64,
    },
    /// The confidence is not between 0 and 1.
    #[error("a confidence lies between 0 and 1, found {found}")]
    Confidence {
        /// The value asked for.
        found: f64,
    },
    /// No replicates were asked for.
    #[error("a bootstrap needs at least one replicate")]
    NoReplicates,
    /// Two models were measured on different numbers of examples, so they cannot be paired.
    #[error("{first} examples cannot be paired with {second}")]
    NotPaired {
        /// The number of examples of the first model.
        first: usize,
        /// The number of examples of the second model.
        second: usize,
    },
    /// A value is NaN or infinite.
    #[error("example {example} has the value {value}")]
    NotFinite {
        /// Its place.
        example: usize,
        /// Its value.
        value: f64,
    },
}

pub(super) fn check_confidence(confidence: f64) -> Result<(), StatisticsError> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        Err(StatisticsError::Confidence { found: confidence })
    }
}

/// Wilson's score interval of a proportion (Wilson 1927), without continuity correction: for accuracy, and every other
/// metric that is a share of independent examples. Unlike the textbook interval it stays within 0 and 1 and holds near them.
///
/// # Errors
/// When there are no trials, more successes than trials, or the confidence is not between 0 and 1.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Result<Interval, StatisticsError> {
    check_confidence(confidence)?;
    if trials == 0 {
        return Err(StatisticsError::NoExamples);
    }
    if successes > trials {
        return Err(StatisticsError::TooManySuccesses { successes, trials });
    }
    let (n, z) = (trials as f64, normal_quantile(0.5 + confidence / 2.0));
    let p = successes as f64 / n;
    let denominator = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / denominator;
    let half = z / denominator * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // Rounding must not push an end past a certain 0 or 1.
    let low = if successes == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let high = if successes == trials {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Ok(Interval {
        low,
        high,
        confidence,
    })
}
