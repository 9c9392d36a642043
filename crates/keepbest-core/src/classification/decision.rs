//! Metrics that follow from decisions alone, which is what thresholds can be tuned for.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::averages::{ClassCounts, Products};
use super::gathered::of_decisions;
use super::metric::{Metric, Needs};
use crate::metrics::nearest_metric;

/// A metric of decisions, by the name that [reports](crate::ClassificationReport) give it: `f1_macro`, `balanced_accuracy`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DecisionMetric(Metric);

/// A name is of no metric that thresholds can be tuned for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no metric of decisions")]
pub struct UnknownDecisionMetric {
    /// The value given.
    pub found: String,
    /// The name that may have been meant.
    pub nearest: Option<&'static str>,
}

impl DecisionMetric {
    /// Every name but those of F-beta, which are `fbeta2_macro` and so on for any beta.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let decided = Metric::all().filter(is_of_decisions);
            decided.map(|metric| metric.to_string()).collect()
        });
        static SLICES: LazyLock<Vec<&'static str>> =
            LazyLock::new(|| NAMES.iter().map(String::as_str).collect());
        &SLICES
    }

    /// The metric itself.
    pub(super) fn metric(self) -> Metric {
        self.0
    }

    /// The value of decisions for examples of so many classes, each given by its label and the class decided for: what a
    /// [report](crate::ClassificationReport) of them has. NaN when there are none, or one is of no class.
    ///
    /// ```
    /// use keepbest_core::classification::DecisionMetric;
    ///
    /// let recall: DecisionMetric = "recall_macro".parse()?;
    /// assert_eq!(recall.measure(2, [(0, 0), (0, 1), (1, 1), (1, 1)]), 0.75);
    /// # Ok::<(), keepbest_core::classification::UnknownDecisionMetric>(())
    /// ```
    #[must_use]
    pub fn measure(self, classes: usize, examples: impl IntoIterator<Item = (u32, u32)>) -> f64 {
        let mut counts = vec![ClassCounts::default(); classes];
        let mut any = false;
        for (label, decision) in examples {
            let (label, decision) = (label as usize, decision as usize);
            if label >= classes || decision >= classes {
                return f64::NAN;
            }
            any = true;
            counts[label].support += 1;
            counts[decision].predicted += 1;
            counts[label].hits += u64::from(label == decision);
        }
        if any { self.of(&counts) } else { f64::NAN }
    }

    /// The value, as a report has it.
    pub(super) fn of(self, counts: &[ClassCounts]) -> f64 {
        of_decisions(self.0, counts, &Products::of(counts))
    }
}

fn is_of_decisions(metric: &Metric) -> bool {
    metric.definition().needs() == Needs::Decisions
}

impl fmt::Display for DecisionMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DecisionMetric {
    type Err = UnknownDecisionMetric;

    fn from_str(name: &str) -> Result<Self, UnknownDecisionMetric> {
        // A metric on a split is not meant here.
        let metric = Metric::named(name).filter(|_| !name.contains('/'));
        match metric.filter(is_of_decisions) {
            Some(metric) => Ok(Self(metric)),
            None => Err(UnknownDecisionMetric {
                found: name.into(),
                nearest: nearest_metric(name, Self::names().iter().copied()),
            }),
        }
    }
}

impl TryFrom<String> for DecisionMetric {
    type Error = UnknownDecisionMetric;

    fn try_from(name: String) -> Result<Self, UnknownDecisionMetric> {
        name.parse()
    }
}

impl From<DecisionMetric> for String {
    fn from(metric: DecisionMetric) -> Self {
        metric.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in DecisionMetric::names()
            .iter()
            .copied()
            .chain(["fbeta2_macro", "fbeta0.5_weighted"])
        {
            assert_eq!(
                name.parse::<DecisionMetric>().unwrap().to_string(),
                name,
                "{name}"
            );
        }
    }

    #[test]
    fn others_are_refused_and_the_nearest_named() {
        for (name, nearest) in [
            ("f1_marco", Some("f1_macro")),
            ("val/f1_macro", Some("f1_macro")),
            ("balanced", Some("balanced_accuracy")),
            ("log_loss", None),
            ("fbeta0_macro", None),
            ("fbeta_macro", None),
            ("roc_auc_ovr", None),
        ] {
            let error = name.parse::<DecisionMetric>().unwrap_err();
            assert_eq!(error.nearest, nearest, "{name}");
        }
    }
}
