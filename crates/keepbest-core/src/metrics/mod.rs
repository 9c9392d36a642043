//! Named metric values and what is known about them.

mod direction;
pub mod nonfinite;

use std::{borrow::Borrow, collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::suggest::slips;

pub use direction::{Direction, ParseDirectionError};

/// Metric values by name, such as `val/accuracy` -> 0.8912, in the order of their names.
///
/// Serialised as a map. NaN and infinities, which JSON has no numbers for, become the strings `"NaN"`, `"inf"` and
/// `"-inf"`, so that a diverged evaluation is recorded as what it was. Two sets are equal when names and values are;
/// a NaN equals a NaN here.
///
/// ```
/// use keepbest_core::Metrics;
///
/// let metrics = Metrics::from_iter([("val/loss", f64::NAN), ("val/accuracy", 0.5)]);
/// assert_eq!(serde_json::to_string(&metrics)?, r#"{"val/accuracy":0.5,"val/loss":"NaN"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// No metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value, and returns the one that was there before.
    pub fn insert(&mut self, name: impl Into<String>, value: f64) -> Option<f64> {
        self.0.insert(name.into(), value)
    }

    /// The value of a metric.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Whether there is a metric of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Removes a metric.
    pub fn remove(&mut self, name: &str) -> Option<f64> {
        self.0.remove(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f64)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The number of them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The existing name that is most likely meant by one that does not exist, if one is near: the same on another split, of those
    /// val's first (`val/accuracy` for `accuracy`); one that it is the beginning or a word of (`val/acc`, `auc`); one that a few
    /// slips lead to (see [`suggest`](crate::suggest)).
    #[must_use]
    pub fn nearest_name(&self, wanted: &str) -> Option<&str> {
        nearest_metric(wanted, self.names())
    }
}

impl PartialEq for Metrics {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|((a, x), (b, y))| a == b && (x == y || x.is_nan() && y.is_nan()))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<S: Into<String>> FromIterator<(S, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (S, f64)>>(items: I) -> Self {
        Self(
            items
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        )
    }
}

impl<S: Into<String>> Extend<(S, f64)> for Metrics {
    fn extend<I: IntoIterator<Item = (S, f64)>>(&mut self, items: I) {
        self.0
            .extend(items.into_iter().map(|(name, value)| (name.into(), value)));
    }
}

impl IntoIterator for Metrics {
    type Item = (String, f64);
    type IntoIter = std::collections::btree_map::IntoIter<String, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<BTreeMap<String, f64>> for Metrics {
    fn from(values: BTreeMap<String, f64>) -> Self {
        Self(values)
    }
}

impl From<Metrics> for BTreeMap<String, f64> {
    fn from(metrics: Metrics) -> Self {
        metrics.0
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.iter()
                .map(|(name, value)| (name, nonfinite::Number(value))),
        )
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, nonfinite::Number>::deserialize(deserializer)?;
        Ok(Self(
            values
                .into_iter()
                .map(|(name, number)| (name, number.0))
                .collect(),
        ))
    }
}

/// A value for people: four digits after the point where the value is of everyday size, four significant digits
/// where it is smaller or larger, `NaN`, `inf` and `-inf` by name.
///
/// ```
/// use keepbest_core::format_value;
///
/// assert_eq!(format_value(0.89123), "0.8912");
/// assert_eq!(format_value(0.000012345), "1.234e-5");
/// assert_eq!(format_value(-0.0), "0.0000");
/// ```
#[must_use]
pub fn format_value(value: f64) -> String {
    format_with(value, 4)
}

fn format_with(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else {
            format!("{value}")
        };
    }
    let magnitude = value.abs();
    if value == 0.0 {
        format!("{:.digits$}", 0.0)
    } else if (1e-2..1e7).contains(&magnitude) {
        format!("{value:.digits$}")
    } else {
        format!("{value:.*e}", digits.saturating_sub(1))
    }
}

/// Two values for people, with as many digits as it takes to tell them apart (four at least).
pub(crate) fn format_apart(a: f64, b: f64) -> (String, String) {
    let mut digits = 4;
    loop {
        let shown = (format_with(a, digits), format_with(b, digits));
        if shown.0 != shown.1 || a == b || digits >= 20 || a.is_nan() || b.is_nan() {
            return shown;
        }
        digits += 1;
    }
}

/// The candidate that is most likely meant, if any is near enough: the same metric (upper case, and `-` for `_`, aside), before one
/// whose name begins with what was written (`acc`), before one that has it as a word (`auc`), before one that a few slips lead to.
/// Of those, one of the same split before one of val before any other; then the fewest slips; then the first.
pub(crate) fn nearest_metric<'a, S: Borrow<str> + ?Sized + 'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let folded = wanted.to_lowercase().replace('-', "_");
    let (split, metric) = folded.rsplit_once('/').unwrap_or(("", &folded));
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == metric);
    let metric = other.map_or(metric, |(_, ours)| ours);
    let ranked = candidates.into_iter().filter_map(|candidate| {
        let candidate: &'a str = candidate.borrow();
        let (own_split, own) = candidate.rsplit_once('/').unwrap_or(("", candidate));
        // A split that is right says nothing of the metric.
        let slipped = own_split != split && are_near(&folded, candidate);
        let kind = likeness(metric, own, slipped)?;
        let place = match own_split {
            _ if own_split == split => 0,
            "val" => 1,
            _ => 2,
        };
        let slips = slips(metric, own).min(slips(&folded, candidate));
        Some(((kind, place, slips), candidate))
    });
    // The first of equals.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, name)| name)
}

/// Whether a few slips lead from one name to the other.
fn are_near(a: &str, b: &str) -> bool {
    let longest = a.chars().count().max(b.chars().count());
    slips(a, b) <= (longest / 3).max(1)
}

/// What others call metrics by, where no likeness leads from one name to the other.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("mcc", "matthews"),
    ("auroc", "roc_auc_ovr"),
    ("bacc", "balanced_accuracy"),
    ("nll", "log_loss"),
];

/// The likeness of a metric to the one that was written: 0 for the same, more for less; `None` for another. `slipped` is whether a few slips
/// lead to its name with the split.
fn likeness(metric: &str, own: &str, slipped: bool) -> Option<u8> {
    if metric == own {
        Some(0)
    } else if metric.len() >= 2 && own.starts_with(metric) {
        Some(1)
    } else if metric.len() >= 3 && own.split('_').any(|word| word.starts_with(metric)) {
        Some(2)
    } else if are_near(metric, own) || slipped {
        Some(3)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_every_kind_of_number() {
        let metrics = Metrics::from_iter([
            ("a", f64::NAN),
            ("b", f64::INFINITY),
            ("c", f64::NEG_INFINITY),
            ("d", -0.0),
            ("e", 0.1 + 0.2),
            ("f", 5e-324),
            ("g", f64::MAX),
            ("h", 3.0),
        ]);
        let json = serde_json::to_string(&metrics).unwrap();
        let back: Metrics = serde_json::from_str(&json).unwrap();
        assert_eq!(back, metrics);
        assert!(back.get("d").unwrap().is_sign_negative());
        // Written by another hand: integers are numbers too.
        let other: Metrics = serde_json::from_str(r#"{"x": 1, "y": -2}"#).unwrap();
        assert_eq!(other, Metrics::from_iter([("x", 1.0), ("y", -2.0)]));
        assert!(serde_json::from_str::<Metrics>(r#"{"x": "many"}"#).is_err());
        assert!(serde_json::from_str::<Metrics>(r#"{"x": null}"#).is_err());
    }

    #[test]
    fn nearest_name_finds_slips_and_other_splits() {
        let metrics = Metrics::from_iter([
            ("train/loss", 0.0),
            ("val/accuracy", 0.0),
            ("val/f1_macro", 0.0),
        ]);
        assert_eq!(metrics.nearest_name("val/acuracy"), Some("val/accuracy"));
        assert_eq!(metrics.nearest_name("accuracy"), Some("val/accuracy"));
        assert_eq!(metrics.nearest_name("val/loss"), Some("train/loss"));
        assert_eq!(metrics.nearest_name("val/f1-macro"), Some("val/f1_macro"));
        assert_eq!(metrics.nearest_name("throughput"), None);
        assert_eq!(Metrics::new().nearest_name("x"), None);
    }

    #[test]
    fn what_is_written_short_means_the_metric_of_val() {
        let names = [
            "latency_ms",
            "train/accuracy",
            "train/loss",
            "val/accuracy",
            "val/balanced_accuracy",
            "val/ece",
            "val/f1_macro",
            "val/log_loss",
            "val/loss",
            "val/roc_auc_ovr",
            "val/top5_accuracy",
        ];
        for (written, meant) in [
            ("val/acc", "val/accuracy"),
            ("accuracy", "val/accuracy"),
            ("acc", "val/accuracy"),
            ("Accuracy", "val/accuracy"),
            ("validation/accuracy", "val/accuracy"),
            ("test/accuracy", "val/accuracy"),
            ("train/acc", "train/accuracy"),
            ("train/f1", "val/f1_macro"),
            ("loss", "val/loss"),
            ("val_loss", "val/loss"),
            ("f1", "val/f1_macro"),
            ("val/auc", "val/roc_auc_ovr"),
            ("top5", "val/top5_accuracy"),
            ("latency", "latency_ms"),
            ("val/los", "val/loss"),
            ("val/auroc", "val/roc_auc_ovr"),
            ("nll", "val/log_loss"),
        ] {
            assert_eq!(nearest_metric(written, names), Some(meant), "{written}");
        }
        // `val/matthews`, which is not there, and not `val/ece`, whose split is the same.
        for written in ["val/throughput", "val/mcc"] {
            assert_eq!(nearest_metric(written, names), None, "{written}");
        }
    }

    #[test]
    fn values_are_told_apart() {
        assert_eq!(format_apart(0.89, 0.88), ("0.8900".into(), "0.8800".into()));
        assert_eq!(
            format_apart(0.891_234, 0.891_238),
            ("0.89123".into(), "0.89124".into())
        );
        assert_eq!(
            format_apart(1.0, 1.0 + f64::EPSILON).0,
            "1.0000000000000000"
        );
        assert_eq!(format_apart(0.5, 0.5), ("0.5000".into(), "0.5000".into()));
        assert_eq!(format_value(f64::NEG_INFINITY), "-inf");
        assert_eq!(format_value(f64::NAN), "NaN");
        assert_eq!(format_value(12345.678), "12345.6780");
        assert_eq!(format_value(1.5e9), "1.500e9");
    }
}
