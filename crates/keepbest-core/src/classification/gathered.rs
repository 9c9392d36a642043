//! The counts and sums of all examples, and the value of a metric from them.

use super::averages::{ClassCounts, Products};
use super::calibration::Calibration;
use super::example::Example;
use super::metric::{Compute, METRICS, Metric, Needs, Parameter};
use super::options::ClassificationOptions;
use super::ranking::Ranking;
use super::sum::{Sum, mean};

/// The metrics that a report has, by its options.
pub(super) fn reported(options: &ClassificationOptions, classes: usize) -> Vec<Metric> {
    let betas = options.betas();
    // With as many classes as k or fewer it could only be 1.
    let top_k = options.top_k().iter().filter(|k| **k < classes);
    let top_k: Vec<f64> = top_k.map(|k| *k as f64).collect();
    let is_wanted = |needs: Needs| match needs {
        Needs::Decisions | Needs::Probabilities => true,
        Needs::Ranking => options.ranking(),
        Needs::Criterion | Needs::Model => false,
    };
    METRICS
        .iter()
        .filter(|definition| is_wanted(definition.needs()))
        .flat_map(|definition| {
            definition.members(match definition.parameter() {
                Some(Parameter::K) => &top_k,
                Some(Parameter::Beta) => betas,
                None => &[],
            })
        })
        .collect()
}

/// The sums of those metrics that are means over examples.
#[derive(Debug, Clone)]
pub(super) struct ExampleSums(Vec<ExampleSum>);

#[derive(Debug, Clone)]
struct ExampleSum {
    metric: Metric,
    of: fn(&Example, f64) -> f64,
    sum: Sum,
}

impl ExampleSums {
    pub(super) fn new(options: &ClassificationOptions, classes: usize) -> Self {
        let sum = |metric: Metric| match metric.compute() {
            Compute::Examples(of) => Some(ExampleSum {
                metric,
                of: *of,
                sum: Sum::default(),
            }),
            _ => None,
        };
        Self(
            reported(options, classes)
                .into_iter()
                .filter_map(sum)
                .collect(),
        )
    }

    /// Takes in an example so many times.
    pub(super) fn add(&mut self, example: &Example, times: u64) {
        for ExampleSum { metric, of, sum } in &mut self.0 {
            sum.add(of(example, metric.number()) * times as f64);
        }
    }

    fn value(&self, metric: Metric) -> f64 {
        let found = self.0.iter().find(|sum| sum.metric == metric);
        found.map_or(f64::NAN, |found| found.sum.value())
    }
}

/// The counts and sums that metrics are computed from.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub(super) counts: &'a [ClassCounts],
    pub(super) products: Products,
    /// The number of examples with finite probabilities.
    pub(super) examples: u64,
    pub(super) sums: &'a ExampleSums,
    pub(super) calibration: &'a Calibration,
    /// One a class; empty without ranking metrics.
    pub(super) ranking: &'a [Ranking],
}

impl Gathered<'_> {
    /// The value of a metric; NaN of one that does not follow from examples.
    pub(super) fn value(&self, metric: Metric) -> f64 {
        match metric.compute() {
            Compute::Decisions(_) | Compute::Classes(..) => {
                of_decisions(metric, self.counts, &self.products)
            }
            Compute::Examples(_) => self.sums.value(metric) / self.examples as f64,
            Compute::Ranking(of) => mean(self.ranking.iter().map(of)),
            Compute::Calibration(of) => of(self.calibration),
            Compute::Criterion | Compute::Cost => f64::NAN,
        }
    }
}

/// The value of a metric of decisions; NaN of another.
pub(super) fn of_decisions(metric: Metric, counts: &[ClassCounts], products: &Products) -> f64 {
    match metric.compute() {
        Compute::Decisions(of) => of(products),
        Compute::Classes(_, of) => metric
            .average()
            .over(counts, |class| of(class, metric.number())),
        _ => f64::NAN,
    }
}
