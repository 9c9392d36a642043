//! The results.

use serde::{Deserialize, Serialize};

use super::{
    averages::{ClassCounts, Products},
    calibration::{Calibration, CalibrationBin},
    confusion::ConfusionMatrix,
    gathered::{ExampleSums, Gathered, reported},
    options::ClassificationOptions,
    ranking::Ranking,
};
use crate::metrics::{Metrics, nonfinite};

/// All metrics of a classifier on a set of examples. See the [module](super) for what each is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    count: u64,
    non_finite: u64,
    metrics: Metrics,
    classes: Vec<ClassMetrics>,
    confusion: ConfusionMatrix,
    calibration: Vec<CalibrationBin>,
}

/// The metrics of one class against the rest. They cover the examples with finite probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Examples with this label.
    pub support: u64,
    /// Examples given this prediction.
    pub predicted: u64,
    /// The share of its predictions that are right; 0 when it is never predicted.
    pub precision: f64,
    /// The share of its examples that are found; 0 when it has none.
    pub recall: f64,
    /// The harmonic mean of the two; 0 when the class does not occur.
    pub f1: f64,
    /// Beta and F-beta, for each beta of the options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub f_beta: Vec<(f64, f64)>,
    /// NaN when there is no example of the class, or none of another; `None` when ranking is off.
    #[serde(
        default,
        with = "nonfinite::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub roc_auc: Option<f64>,
    /// 0 when there is no example of the class; `None` when ranking is off.
    #[serde(
        default,
        with = "nonfinite::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub average_precision: Option<f64>,
}

/// The counts and sums of all examples.
pub(super) struct Parts<'a> {
    pub(super) options: &'a ClassificationOptions,
    pub(super) non_finite: u64,
    pub(super) confusion: ConfusionMatrix,
    pub(super) sums: &'a ExampleSums,
    pub(super) calibration: &'a Calibration,
    pub(super) ranking: Option<Vec<Ranking>>,
}

impl ClassificationReport {
    pub(super) fn assemble(parts: Parts<'_>) -> Self {
        let Parts {
            options,
            non_finite,
            confusion,
            sums,
            calibration,
            ranking,
        } = parts;
        let finite = confusion.total();
        let counts = ClassCounts::of(&confusion);
        let gathered = Gathered {
            products: Products::of(&counts),
            counts: &counts,
            examples: finite,
            sums,
            calibration,
            ranking: ranking.as_deref().unwrap_or_default(),
        };
        let mut metrics: Metrics = reported(options, counts.len())
            .into_iter()
            .map(|metric| (metric.to_string(), gathered.value(metric)))
            .collect();
        if non_finite > 0 {
            metrics = metrics
                .names()
                .map(|name| (name.to_owned(), f64::NAN))
                .collect();
        }

        let classes = counts
            .iter()
            .enumerate()
            .map(|(i, class)| {
                let ranking = ranking.as_ref().and_then(|ranking| ranking.get(i));
                ClassMetrics {
                    support: class.support,
                    predicted: class.predicted,
                    precision: class.precision(),
                    recall: class.recall(),
                    f1: class.f_beta(1.0),
                    f_beta: options
                        .betas()
                        .iter()
                        .map(|beta| (*beta, class.f_beta(*beta)))
                        .collect(),
                    roc_auc: ranking.map(|ranking| ranking.roc_auc),
                    average_precision: ranking.map(|ranking| ranking.average_precision),
                }
            })
            .collect();
        let count = finite + non_finite;
        Self {
            count,
            non_finite,
            metrics,
            classes,
            confusion,
            calibration: calibration.bins(),
        }
    }

    /// The number of examples, with finite probabilities or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of examples with probabilities that are not finite. If any, all metrics are NaN.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// The metrics by name, each with `prefix` and a `/` before it (unless the prefix is empty or ends with one).
    #[must_use]
    pub fn metrics(&self, prefix: &str) -> Metrics {
        let slash = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        self.metrics
            .iter()
            .map(|(name, value)| (format!("{prefix}{slash}{name}"), value))
            .collect()
    }

    /// One metric by its bare name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)
    }

    /// The metrics of each class.
    #[must_use]
    pub fn classes(&self) -> &[ClassMetrics] {
        &self.classes
    }

    /// Which class is taken for which.
    #[must_use]
    pub fn confusion(&self) -> &ConfusionMatrix {
        &self.confusion
    }

    /// The bins of the calibration error, from confidence 0 to 1: the reliability diagram.
    #[must_use]
    pub fn calibration(&self) -> &[CalibrationBin] {
        &self.calibration
    }
}
