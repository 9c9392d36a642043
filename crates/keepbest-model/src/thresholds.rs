//! The thresholds by which a model decides, as its file records them.

use keepbest_core::classification::{DecisionMetric, Thresholds, Tuned};
use keepbest_core::format_value;
use keepbest_core::metrics::nonfinite;
use serde::{Deserialize, Serialize};

/// Thresholds, and how they came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TunedThresholds {
    /// One a class.
    pub values: Thresholds,
    /// The metric that they were tuned for.
    pub metric: DecisionMetric,
    /// The split that they were tuned on.
    pub split: String,
    /// The metric there when the likeliest class is decided for.
    #[serde(with = "nonfinite")]
    pub before: f64,
    /// The metric there by the thresholds.
    #[serde(with = "nonfinite")]
    pub after: f64,
}

impl TunedThresholds {
    /// The record of what came of tuning.
    pub fn new(tuned: Tuned, metric: DecisionMetric, split: impl Into<String>) -> Self {
        let Tuned {
            thresholds,
            before,
            after,
            ..
        } = tuned;
        Self {
            values: thresholds,
            metric,
            split: split.into(),
            before,
            after,
        }
    }

    /// `thresholds tuned for f1_macro on val: 0.8312, by the likeliest class 0.8104`.
    pub fn words(&self) -> String {
        format!(
            "thresholds tuned for {} on {}: {}, by the likeliest class {}",
            self.metric,
            self.split,
            format_value(self.after),
            format_value(self.before)
        )
    }

    /// `cat 0.2500`, for each class; a class without a name is called by its number.
    pub fn by_class(&self, classes: &[String]) -> Vec<String> {
        let values = self.values.values().iter().enumerate();
        values
            .map(|(class, threshold)| {
                let number = class.to_string();
                let name = classes.get(class).unwrap_or(&number);
                format!("{name} {}", format_value(*threshold))
            })
            .collect()
    }

    /// As a model file holds it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("numbers and text, those that are not finite as text")
    }
}
