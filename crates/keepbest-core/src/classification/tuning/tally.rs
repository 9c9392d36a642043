//! Counts of decisions, and a metric of them that follows each change at once.

use crate::classification::averages::{Average, ClassCounts, Products};
use crate::classification::decision::DecisionMetric;
use crate::classification::metric::{Compute, Metric};

/// What a metric needs to know of all decisions. A changed decision costs the same however many classes there are, and
/// the sums are of whole numbers: the way to some counts leaves no trace in them.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    metric: Metric,
    counts: Vec<ClassCounts>,
    products: Products,
    /// Classes that the mean is over.
    averaged: u64,
    /// Sum over them of the metric of one class, times its support for a weighted mean; in units of 2^-52.
    sum: i128,
}

impl Tally {
    pub(super) fn new(metric: DecisionMetric, counts: Vec<ClassCounts>) -> Self {
        let mut tally = Self {
            metric: metric.metric(),
            products: Products::of(&counts),
            counts,
            averaged: 0,
            sum: 0,
        };
        for class in 0..tally.counts.len() {
            let (averaged, term) = tally.part_of(class);
            tally.averaged += averaged;
            tally.sum += term;
        }
        tally
    }

    /// An example with this label is decided for another class.
    pub(super) fn moved(&mut self, label: u32, from: u32, to: u32) {
        if from == to {
            return;
        }
        self.take(label, from, false);
        self.take(label, to, true);
    }

    /// An example comes to a class, or leaves it.
    fn take(&mut self, label: u32, class: u32, comes: bool) {
        let at = class as usize;
        let (averaged, term) = self.part_of(at);
        self.averaged -= averaged;
        self.sum -= term;
        let counts = &mut self.counts[at];
        let support = u128::from(counts.support);
        let hit = label == class;
        if comes {
            // (n + 1)^2 - n^2
            self.products.predictions_squared += 2 * u128::from(counts.predicted) + 1;
            self.products.mixed += support;
            counts.predicted += 1;
            counts.hits += u64::from(hit);
            self.products.correct += u128::from(hit);
        } else {
            counts.predicted -= 1;
            counts.hits -= u64::from(hit);
            self.products.predictions_squared -= 2 * u128::from(counts.predicted) + 1;
            self.products.mixed -= support;
            self.products.correct -= u128::from(hit);
        }
        let (averaged, term) = self.part_of(at);
        self.averaged += averaged;
        self.sum += term;
    }

    /// Whether a class counts for the mean, and what it adds to the sum.
    fn part_of(&self, class: usize) -> (u64, i128) {
        let class = self.counts[class];
        let Compute::Classes(_, of) = self.metric.compute() else {
            return (0, 0);
        };
        let weight = match self.metric.average() {
            Average::Macro if class.occurs() => 1,
            Average::Labelled if class.support > 0 => 1,
            Average::Weighted => i128::from(class.support),
            Average::Macro | Average::Labelled | Average::Micro => return (0, 0),
        };
        let value = of(class, self.metric.number());
        (1, (value * UNIT).round() as i128 * weight)
    }

    /// How good the decisions are: the metric in steps so coarse that rounding makes no difference, and so fine that an
    /// example does. The lowest where there is no value.
    pub(super) fn rank(&self) -> i64 {
        let value = match self.metric.compute() {
            Compute::Decisions(of) => of(&self.products),
            Compute::Classes(_, of) => match self.metric.average() {
                Average::Macro | Average::Labelled => self.sum as f64 / UNIT / self.averaged as f64,
                Average::Weighted => self.sum as f64 / UNIT / self.products.total as f64,
                Average::Micro => of(self.products.summed(), self.metric.number()),
            },
            _ => f64::NAN,
        };
        if value.is_nan() {
            i64::MIN
        } else {
            (value * RANKS).round() as i64
        }
    }
}

/// 2^52, so that 0 to 1 keep all their digits.
const UNIT: f64 = 4_503_599_627_370_496.0;

/// 2^42: steps of a fourth of a millionth of a millionth.
const RANKS: f64 = 4_398_046_511_104.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// After any moves the value is that of the counts computed anew.
    #[test]
    fn follows_every_move() {
        let names = DecisionMetric::names()
            .iter()
            .copied()
            .chain(["fbeta2_macro"]);
        for name in names {
            let metric: DecisionMetric = name.parse().unwrap();
            let labels = [0u32, 0, 0, 1, 1, 3, 3, 3, 3];
            let mut decisions = [0u32; 9];
            let counts = |decisions: &[u32; 9]| -> Vec<ClassCounts> {
                let of = |class: u32| ClassCounts {
                    support: labels.iter().filter(|label| **label == class).count() as u64,
                    predicted: decisions.iter().filter(|d| **d == class).count() as u64,
                    hits: labels
                        .iter()
                        .zip(decisions)
                        .filter(|(label, d)| **label == class && **d == class)
                        .count() as u64,
                };
                (0..5).map(of).collect()
            };
            let mut tally = Tally::new(metric, counts(&decisions));
            for step in 0..200u32 {
                let example = (step * 7 % 9) as usize;
                let to = (step * 3 + step / 5) % 5;
                tally.moved(labels[example], decisions[example], to);
                decisions[example] = to;
                let expected = metric.of(&counts(&decisions));
                let found = tally.rank();
                if expected.is_nan() {
                    assert_eq!(found, i64::MIN, "{name}");
                } else {
                    assert!(
                        (found as f64 / RANKS - expected).abs() < 1e-12,
                        "{name}: {found} {expected}"
                    );
                }
                let anew = Tally::new(metric, counts(&decisions));
                assert_eq!((tally.sum, tally.averaged), (anew.sum, anew.averaged));
            }
        }
    }
}
