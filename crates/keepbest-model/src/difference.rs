//! Metrics that were measured again, against those recorded.

use std::fmt;

use keepbest_core::Metrics;

use crate::costs::{Costs, is_timed};

/// What metrics of one model may differ by when two engines measured them, or one that does not promise the same bits: sums in another
/// order decide otherwise for an image of which two classes are as likely. So it is two of the `images` at least.
#[must_use]
pub fn engine_tolerance(images: usize) -> f64 {
    (2.0 / images.max(1) as f64).max(ENGINE_TOLERANCE)
}

/// What metrics may differ by from engine to engine, where it is more than two images.
const ENGINE_TOLERANCE: f64 = 1e-3;

/// What the name of a metric ends with that is another one smoothed over the evaluations.
pub const SMOOTHED_SUFFIX: &str = "_ema";

/// A metric that was recorded and measured otherwise, or by one of the two alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricDifference {
    /// Its name.
    pub name: String,
    /// What was recorded, if it was.
    pub recorded: Option<f64>,
    /// What was measured, if it was.
    pub found: Option<f64>,
}

impl MetricDifference {
    /// The first metric of a split that differs, to the last bit, in its value or in being there; of other metrics, those that both
    /// have. Times are left out: another measurement takes another time.
    #[must_use]
    pub fn first(split: &str, found: &Metrics, recorded: &Metrics) -> Option<Self> {
        Self::first_beyond(0.0, split, found, recorded)
    }

    /// As [`first`](Self::first), of what differs by more than `tolerance`: in itself, and of values above 1 by that part of them.
    #[must_use]
    pub fn first_beyond(
        tolerance: f64,
        split: &str,
        found: &Metrics,
        recorded: &Metrics,
    ) -> Option<Self> {
        let of_split = |name: &str| {
            let rest = name
                .strip_prefix(split)
                .and_then(|rest| rest.strip_prefix('/'));
            rest.is_some() && !is_smoothed(name, found)
        };
        let close = |it: &Self| match (it.found, it.recorded) {
            (Some(is), Some(was)) => (is - was).abs() <= tolerance * was.abs().max(1.0),
            _ => false,
        };
        let mut all = Self::all(found, recorded).filter(|it| !close(it));
        all.find(|it| of_split(&it.name) || (it.recorded.is_some() && it.found.is_some()))
    }

    /// The first metric that differs, in its value or in being there. What a model costs is measured where something asks for it:
    /// that only one of the two has it is no difference.
    #[must_use]
    pub fn first_of_all(found: &Metrics, recorded: &Metrics) -> Option<Self> {
        let mut all = Self::all(found, recorded);
        all.find(|it| {
            let both = it.recorded.is_some() && it.found.is_some();
            both || !Costs::NAMES.contains(&&*it.name)
        })
    }

    fn all<'a>(found: &'a Metrics, recorded: &'a Metrics) -> impl Iterator<Item = Self> + use<'a> {
        let only_recorded = recorded.names().filter(|name| !found.contains(name));
        let names = found.names().chain(only_recorded);
        names.filter_map(move |name| {
            let (is, was) = (found.get(name), recorded.get(name));
            let same = match (is, was) {
                (Some(is), Some(was)) => is == was || (is.is_nan() && was.is_nan()),
                _ => false,
            };
            (!same && !is_timed(name)).then(|| Self {
                name: name.to_owned(),
                recorded: was,
                found: is,
            })
        })
    }
}

/// Whether a metric is another one's average over the evaluations: it is measured with that one, and not again.
fn is_smoothed(name: &str, found: &Metrics) -> bool {
    let raw = name.strip_suffix(SMOOTHED_SUFFIX);
    raw.is_some_and(|raw| found.contains(raw) && !found.contains(name))
}

impl fmt::Display for MetricDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.found, self.recorded) {
            (Some(found), Some(recorded)) => {
                write!(f, "{name} is {found}, {recorded} was recorded")
            }
            (Some(found), None) => write!(f, "{name} is {found}, and is not recorded"),
            (None, recorded) => {
                let recorded = recorded.unwrap_or(f64::NAN);
                write!(
                    f,
                    "{name} was recorded as {recorded}, and no such metric is measured"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_on_either_side_differs() {
        let metrics = |names: &[(&str, f64)]| Metrics::from_iter(names.iter().copied());
        let found = metrics(&[("val/a", 0.5), ("val/b", f64::NAN)]);
        let first = |recorded: &[(&str, f64)]| {
            MetricDifference::first("val", &found, &metrics(recorded)).map(|it| it.to_string())
        };
        let both = [("val/a", 0.5), ("val/b", f64::NAN)];
        assert_eq!(first(&both), None);
        // What is not of the split is not measured again; an average is not, nor is a time.
        let more = [("train/loss", 1.0), ("val/a_ema", 0.4), ("latency_ms", 3.0)];
        assert_eq!(first(&[&both[..], &more].concat()), None);
        assert_eq!(
            first(&both[..1]).unwrap(),
            "val/b is NaN, and is not recorded"
        );
        assert_eq!(
            first(&[&both[..], &[("val/c", 1.0)]].concat()).unwrap(),
            "val/c was recorded as 1, and no such metric is measured"
        );
        assert_eq!(
            first(&[("val/a", 0.25), both[1]]).unwrap(),
            "val/a is 0.5, 0.25 was recorded"
        );
        let recorded = metrics(&[&both[..], &more[..1]].concat());
        let difference = MetricDifference::first_of_all(&found, &recorded).unwrap();
        assert_eq!(difference.name, "train/loss");
        let costs = metrics(&[&both[..], &[("model_bytes", 9.0)]].concat());
        assert_eq!(MetricDifference::first_of_all(&found, &costs), None);
    }
}
