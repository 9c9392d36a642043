//! Examples kept so that many draws of them are measured fast, as the bootstrap does.

use std::collections::BTreeMap;

use super::batch::{ClassificationError, check_batch, check_thresholds};
use super::calibration::Calibration;
use super::confusion::ConfusionMatrix;
use super::example::Example;
use super::gathered::ExampleSums;
use super::options::ClassificationOptions;
use super::ranking::{Curve, Ranking};
use super::report::{ClassificationReport, Parts};

/// Examples of a classifier, sorted once, so that any draw of them is measured without sorting.
///
/// ```
/// use keepbest_core::classification::{ClassificationExamples, ClassificationOptions};
///
/// let probabilities = [0.7, 0.3, 0.6, 0.4, 0.2, 0.8];
/// let examples = ClassificationExamples::new(2, &ClassificationOptions::default(), &probabilities, &[0, 1, 1])?;
/// assert_eq!(examples.report(&[0, 1, 2])?.metric("accuracy"), Some(2.0 / 3.0));
/// assert_eq!(examples.report(&[2, 2, 2, 1])?.metric("accuracy"), Some(0.75));
/// # Ok::<(), keepbest_core::classification::ClassificationError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassificationExamples {
    classes: usize,
    options: ClassificationOptions,
    /// `None` where a probability is not finite.
    examples: Vec<Option<Example>>,
    /// Pairs of label and decision that occur, and which of them each example is.
    cells: Vec<(u32, u32)>,
    cell_of: Vec<u32>,
    /// The order by probability of each class, when there are ranking metrics.
    orders: Vec<Order>,
}

/// Examples from the highest probability of a class to the lowest.
#[derive(Debug, Clone)]
struct Order {
    examples: Vec<u32>,
    /// Whether its probability is lower than that of the one before.
    is_lower: Vec<bool>,
}

impl ClassificationExamples {
    /// The examples of probabilities `[n, classes]`, row-major, and n labels.
    ///
    /// # Errors
    /// As [`ClassificationAccumulator::update`](super::ClassificationAccumulator::update).
    pub fn new(
        classes: usize,
        options: &ClassificationOptions,
        probabilities: &[f64],
        labels: &[u32],
    ) -> Result<Self, ClassificationError> {
        check_thresholds(options, classes)?;
        check_batch(classes, probabilities, labels)?;
        let rows = || probabilities.chunks_exact(classes.max(1)).zip(labels);
        let examples: Vec<Option<Example>> = rows()
            .map(|(row, label)| Example::of(row, *label, options))
            .collect();
        let mut known = BTreeMap::new();
        let mut cells = Vec::new();
        let cell_of = examples
            .iter()
            .map(|example| {
                let Some(example) = example else {
                    return u32::MAX;
                };
                let cell = (example.label, example.decision);
                *known.entry(cell).or_insert_with(|| {
                    cells.push(cell);
                    (cells.len() - 1) as u32
                })
            })
            .collect();
        let ranked = if options.ranking() { classes } else { 0 };
        let finite: Vec<u32> = (0..)
            .zip(&examples)
            .filter_map(|(at, example)| example.map(|_| at))
            .collect();
        let orders = (0..ranked).map(|class| {
            let score = |at: &u32| probabilities[*at as usize * classes + class];
            let mut order = finite.clone();
            // Stable, so that the order is the same everywhere; -0.0 equals 0.0 as it does in comparisons.
            order.sort_by(|a, b| (score(b) + 0.0).total_cmp(&(score(a) + 0.0)));
            let lower = order.windows(2).map(|two| score(&two[1]) < score(&two[0]));
            Order {
                is_lower: std::iter::once(true)
                    .chain(lower)
                    .take(order.len())
                    .collect(),
                examples: order,
            }
        });
        Ok(Self {
            classes,
            options: options.clone(),
            orders: orders.collect(),
            examples,
            cells,
            cell_of,
        })
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The report on a draw, given by the places of the drawn examples, each as often as it was drawn: O(classes * n). It is
    /// that of an accumulator that took in the same examples; sums of doubles may differ in their last bit.
    ///
    /// # Errors
    /// [`ClassificationError::NoExamples`] when none was drawn.
    ///
    /// # Panics
    /// When a place is not below [`len`](Self::len).
    pub fn report(&self, draw: &[u32]) -> Result<ClassificationReport, ClassificationError> {
        if draw.is_empty() {
            return Err(ClassificationError::NoExamples);
        }
        let mut times = vec![0u32; self.examples.len()];
        for at in draw {
            times[*at as usize] += 1;
        }
        let mut in_cell = vec![0u64; self.cells.len()];
        let mut sums = ExampleSums::new(&self.options, self.classes);
        let mut calibration = Calibration::new(self.options.calibration_bins());
        let mut non_finite = 0;
        let drawn = self.examples.iter().zip(&self.cell_of).zip(&times);
        for ((example, cell), times) in drawn.filter(|(_, times)| **times > 0) {
            let times = u64::from(*times);
            let Some(example) = example else {
                non_finite += times;
                continue;
            };
            in_cell[*cell as usize] += times;
            sums.add(example, times);
            calibration.record(example.confidence, example.is_likeliest, times);
        }
        let mut confusion = ConfusionMatrix::new(self.classes);
        for ((label, decision), times) in self.cells.iter().zip(in_cell) {
            if times > 0 {
                confusion.record(*label, *decision, times);
            }
        }
        let ranking = self.options.ranking().then(|| {
            let of_class = (0..).zip(&self.orders);
            of_class
                .map(|(class, order)| self.ranked(class, order, &times))
                .collect()
        });
        Ok(ClassificationReport::assemble(Parts {
            options: &self.options,
            non_finite,
            confusion,
            sums: &sums,
            calibration: &calibration,
            ranking,
        }))
    }

    fn ranked(&self, class: u32, order: &Order, times: &[u32]) -> Ranking {
        let mut curve = Curve::default();
        let (mut hits, mut misses) = (0, 0);
        for (at, is_lower) in order.examples.iter().zip(&order.is_lower) {
            let at = *at as usize;
            if *is_lower {
                curve.threshold(hits, misses);
                (hits, misses) = (0, 0);
            }
            let times = u64::from(times[at]);
            let is_positive = self.examples[at].is_some_and(|example| example.label == class);
            hits += times * u64::from(is_positive);
            misses += times * u64::from(!is_positive);
        }
        curve.threshold(hits, misses);
        curve.ranking()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classification::{ClassificationAccumulator, Thresholds};

    /// Rows of a few distinct probabilities, so that many are equal.
    fn some(classes: usize, n: usize) -> (Vec<f64>, Vec<u32>) {
        let mut state = 11u64;
        let mut next = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut probabilities = Vec::new();
        for _ in 0..n {
            let row: Vec<f64> = (0..classes).map(|_| next(5) as f64 + 0.5).collect();
            let sum: f64 = row.iter().sum();
            probabilities.extend(row.into_iter().map(|p| p / sum));
        }
        let labels = (0..n).map(|_| next(classes as u64) as u32).collect();
        (probabilities, labels)
    }

    #[test]
    fn a_draw_is_measured_as_if_its_examples_were_taken_in() {
        let own = Thresholds::new(vec![0.5, 0.2, 0.9, 0.4, 0.4, 0.4, 0.4]).unwrap();
        for (classes, thresholds) in [(2, None), (3, None), (7, None), (7, Some(own))] {
            let options = ClassificationOptions::default()
                .with_top_k(&[1, 2, 5])
                .unwrap()
                .with_betas(&[2.0])
                .unwrap()
                .with_thresholds(thresholds);
            let (probabilities, labels) = some(classes, 60);
            let examples =
                ClassificationExamples::new(classes, &options, &probabilities, &labels).unwrap();
            let all: Vec<u32> = (0..60).collect();
            let twice: Vec<u32> = (0..60).map(|at| at * at % 23).collect();
            for draw in [&all[..], &twice[..], &[5], &[3, 3]] {
                let mut accumulator =
                    ClassificationAccumulator::with_options(classes, options.clone());
                for at in draw {
                    let at = *at as usize;
                    let row = &probabilities[at * classes..(at + 1) * classes];
                    accumulator.update(row, &labels[at..at + 1]).unwrap();
                }
                let (found, expected) = (
                    examples.report(draw).unwrap(),
                    accumulator.finish().unwrap(),
                );
                assert_eq!(found.confusion(), expected.confusion());
                let (found, expected) = (found.metrics(""), expected.metrics(""));
                assert!(found.names().eq(expected.names()));
                for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
                    let same =
                        (found - expected).abs() < 1e-13 || found.is_nan() && expected.is_nan();
                    assert!(same, "{name}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_counts_only_when_it_is_drawn() {
        let options = ClassificationOptions::default();
        let probabilities = [0.7, 0.3, f64::NAN, 0.4, 0.2, 0.8];
        let examples =
            ClassificationExamples::new(2, &options, &probabilities, &[0, 1, 1]).unwrap();
        assert_eq!(
            examples.report(&[0, 2]).unwrap().metric("accuracy"),
            Some(1.0)
        );
        let report = examples.report(&[0, 1, 1]).unwrap();
        assert_eq!((report.non_finite(), report.count()), (2, 3));
        assert!(report.metric("accuracy").unwrap().is_nan());
        assert_eq!(examples.report(&[]), Err(ClassificationError::NoExamples));
    }
}
