//! Metrics of draws of the images, and the intervals and differences that follow.

use std::collections::BTreeMap;

use keepbest_core::ClassificationReport;
use keepbest_core::classification::ClassificationExamples;
use keepbest_core::statistics::{
    Bootstrap, Interval, PairedDifference, Replicates, StatisticsError, wilson,
};
use serde::Serialize;

use super::{Outcomes, OutcomesError};
use crate::criterion::CriterionSum;

/// Draws of the images, where that does not take too long.
const REPLICATES: u32 = 1000;
/// Draws at least, with which the ends of an interval are rough.
const LEAST: u32 = 200;
/// Images times classes times draws that may be looked at: some seconds.
const BUDGET: usize = 1_000_000_000;

/// Metrics of the images of a split, and of draws of them.
#[derive(Debug, Clone)]
pub struct Resampled {
    report: ClassificationReport,
    confidence: f64,
    metrics: BTreeMap<String, Replicates>,
    /// F1 of each class.
    f1: Vec<Replicates>,
}

/// An interval of each metric, 95 %.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Intervals {
    /// The intervals of metrics by name: `test/accuracy` and so on. One that cannot be computed has none.
    pub metrics: BTreeMap<String, Interval>,
    /// The intervals of each class.
    pub classes: Vec<ClassIntervals>,
}

/// Intervals of one class against the rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassIntervals {
    /// None when the class is never predicted.
    pub precision: Option<Interval>,
    /// None when it has no images.
    pub recall: Option<Interval>,
    /// None when it occurs in no draw.
    pub f1: Option<Interval>,
}

impl Outcomes {
    /// All metrics, named `split/accuracy` and so on, of the images and of draws of them: O(draws * classes * n), with 1,000
    /// draws, or fewer, at least 200, with very many images and classes. The draws depend on the number of images alone.
    ///
    /// # Errors
    /// [`OutcomesError::Statistics`] when there are no images.
    pub fn resample(&self, split: &str) -> Result<Resampled, OutcomesError> {
        self.resample_while(split, &mut || true)
    }

    /// As [`resample`](Self::resample); `go_on` is asked before each draw.
    ///
    /// # Errors
    /// As [`resample`](Self::resample), and [`OutcomesError::Interrupted`] when it says no.
    pub fn resample_while(
        &self,
        split: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Resampled, OutcomesError> {
        let examples = ClassificationExamples::new(
            self.classes,
            &self.options,
            &self.probabilities,
            &self.labels,
        )?;
        if self.is_empty() {
            return Err(StatisticsError::NoExamples.into());
        }
        let all: Vec<u32> = (0..).take(self.len()).collect();
        let report = examples.report(&all)?;
        let names: Vec<String> = report.metrics(split).names().map(Into::into).collect();
        let cost = self.len() * self.classes.max(1);
        let bootstrap = Bootstrap {
            replicates: u32::try_from(BUDGET / cost.max(1))
                .map_or(REPLICATES, |fit| fit.clamp(LEAST, REPLICATES)),
            ..Bootstrap::default()
        };
        let statistics = names.len() + 1 + self.classes;
        let found = bootstrap.replicate(self.len(), statistics, |draw, values| {
            if !go_on() {
                return Err(OutcomesError::Interrupted);
            }
            let report = examples.report(draw)?;
            let (of_metrics, rest) = values.split_at_mut(names.len());
            for (value, (_, found)) in of_metrics.iter_mut().zip(report.metrics("").iter()) {
                *value = found;
            }
            let mut criterion = CriterionSum::default();
            for at in draw {
                criterion.merge(self.criterion[*at as usize]);
            }
            rest[0] = criterion.mean();
            for (value, class) in rest[1..].iter_mut().zip(report.classes()) {
                // A class that was not drawn has no F1.
                let occurs = class.support + class.predicted > 0;
                *value = if occurs { class.f1 } else { f64::NAN };
            }
            Ok::<(), OutcomesError>(())
        })?;
        let mut found = found.into_iter();
        let names = names.into_iter().chain([format!("{split}/loss")]);
        Ok(Resampled {
            report,
            confidence: bootstrap.confidence,
            metrics: names.zip(found.by_ref()).collect(),
            f1: found.collect(),
        })
    }
}

impl Resampled {
    /// An interval of each metric: Wilson's for shares of images (accuracy, top-k and micro averages, precision and recall of a
    /// class), by bootstrap for all others.
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        let share = |hits: f64, of: u64| wilson(hits.round() as u64, of, self.confidence).ok();
        let of_metric = |(name, of): (&String, &Replicates)| {
            let interval = if is_share(name) && of.value.is_finite() {
                let images = self.report.count();
                share(of.value * images as f64, images)
            } else {
                of.interval()
            };
            Some((name.clone(), interval?))
        };
        let of_class = |(hits, (class, f1)): (u64, (_, &Replicates))| {
            let class: &keepbest_core::classification::ClassMetrics = class;
            ClassIntervals {
                precision: share(hits as f64, class.predicted),
                recall: share(hits as f64, class.support),
                f1: f1.interval(),
            }
        };
        let classes = self.report.classes().iter().zip(&self.f1);
        let hits = (0..).map(|class| self.report.confusion().count(class, class));
        Intervals {
            metrics: self.metrics.iter().filter_map(of_metric).collect(),
            classes: hits.zip(classes).map(of_class).collect(),
        }
    }

    /// By how much each metric is above that of another model on the same images, by the paired bootstrap. A metric that
    /// cannot be computed has none.
    ///
    /// # Errors
    /// [`StatisticsError::NotPaired`] when the numbers of images or of classes differ.
    pub fn minus(
        &self,
        other: &Self,
    ) -> Result<BTreeMap<String, PairedDifference>, StatisticsError> {
        let (first, second) = (self.report.count(), other.report.count());
        if first != second {
            return Err(StatisticsError::NotPaired {
                first: first as usize,
                second: second as usize,
            });
        }
        let mut differences = BTreeMap::new();
        for (name, first) in &self.metrics {
            if let Some(second) = other.metrics.get(name)
                && let Some(difference) = first.minus(second)?
            {
                differences.insert(name.clone(), difference);
            }
        }
        Ok(differences)
    }
}

/// Whether a metric is a number of images over all of them.
fn is_share(metric: &str) -> bool {
    let bare = metric.rsplit('/').next().unwrap_or(metric);
    let is_top = bare.starts_with("top") && bare.ends_with("_accuracy");
    bare == "accuracy" || is_top || bare.ends_with("_micro")
}
