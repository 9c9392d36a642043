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
    /// The direction of a metric by its name, `None` where it is not known.
    ///
    /// The part behind the last `/` counts, so the direction is the same on every split. Known are all metrics of
    /// [`ClassificationReport`](crate::ClassificationReport), `loss`, and what a model costs: `latency_ms`, `model_bytes`,
    /// `parameters`.
    ///
    /// ```
    /// use keepbest_core::Direction;
    ///
    /// assert_eq!(Direction::of_metric("val/accuracy"), Some(Direction::Maximise));
    /// assert_eq!(Direction::of_metric("log_loss"), Some(Direction::Minimise));
    /// assert_eq!(Direction::of_metric("val/my_own"), None);
    /// ```
    #[must_use]
    pub fn of_metric(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name);
        match name {
            "accuracy" | "balanced_accuracy" | "matthews" | "cohen_kappa" | "roc_auc_ovr"
            | "average_precision" => Some(Self::Maximise),
            "loss" | "log_loss" | "ece" | "latency_ms" | "model_bytes" | "parameters" => {
                Some(Self::Minimise)
            }
            _ if is_top_k(name) || is_averaged(name) => Some(Self::Maximise),
            _ => None,
        }
    }

    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Maximise => Self::Minimise,
            Self::Minimise => Self::Maximise,
        }
    }

    /// How much better `value` is than `than`: positive when better. NaN when either is, or both are the same infinity.
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

/// `top5_accuracy` and its like.
fn is_top_k(name: &str) -> bool {
    name.strip_prefix("top")
        .and_then(|rest| rest.strip_suffix("_accuracy"))
        .is_some_and(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_digit()))
}

/// `precision_macro`, `recall_weighted`, `f1_micro`, `fbeta0.5_macro` and their like.
fn is_averaged(name: &str) -> bool {
    let Some((metric, average)) = name.rsplit_once('_') else {
        return false;
    };
    let metric_known = matches!(metric, "precision" | "recall" | "f1")
        || metric
            .strip_prefix("fbeta")
            .is_some_and(|beta| beta.parse::<f64>().is_ok_and(|b| b.is_finite() && b > 0.0));
    metric_known && matches!(average, "macro" | "micro" | "weighted")
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
    /// What was given.
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
    fn directions_of_names() {
        for name in [
            "accuracy",
            "val/accuracy",
            "train/top5_accuracy",
            "test/top10_accuracy",
            "balanced_accuracy",
            "precision_macro",
            "val/recall_micro",
            "f1_weighted",
            "val/fbeta2_macro",
            "fbeta0.5_weighted",
            "matthews",
            "cohen_kappa",
            "roc_auc_ovr",
            "average_precision",
        ] {
            assert_eq!(
                Direction::of_metric(name),
                Some(Direction::Maximise),
                "{name}"
            );
        }
        for name in [
            "loss",
            "val/loss",
            "train/log_loss",
            "test/ece",
            "latency_ms",
            "model_bytes",
            "parameters",
        ] {
            assert_eq!(
                Direction::of_metric(name),
                Some(Direction::Minimise),
                "{name}"
            );
        }
        for name in [
            "",
            "/",
            "top_accuracy",
            "topx_accuracy",
            "f2_macro",
            "fbeta_macro",
            "fbeta-1_macro",
            "precision",
            "latency",
        ] {
            assert_eq!(Direction::of_metric(name), None, "{name}");
        }
    }

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
