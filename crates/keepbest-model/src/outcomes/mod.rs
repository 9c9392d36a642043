//! The outcome of each image of a split, and what follows from it: intervals, and tests of two models in pairs.

mod resampled;

use keepbest_core::classification::{
    ClassificationOptions, DecisionMetric, Thresholds, Tuned, log_loss_of, tune_while,
};
use keepbest_core::statistics::{StatisticsError, mcnemar_exact};
use keepbest_core::{ClassificationAccumulator, ClassificationError, ClassificationReport};

use crate::criterion::CriterionSum;

pub use resampled::{ClassIntervals, Intervals, Resampled};

/// Probabilities, label and criterion of each image, in the split's order.
#[derive(Debug, Clone)]
pub struct Outcomes {
    classes: usize,
    options: ClassificationOptions,
    probabilities: Vec<f64>,
    labels: Vec<u32>,
    criterion: Vec<CriterionSum>,
}

/// Why intervals or a test could not be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomesError {
    /// The measurement did not keep how each image came out.
    #[error("no outcomes were kept")]
    NotKept,
    /// Whoever waited said to stop.
    #[error("interrupted before all intervals were computed")]
    Interrupted,
    /// There is nothing to resample, or the two models do not pair.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The probabilities make no sense.
    #[error(transparent)]
    Metrics(#[from] ClassificationError),
    /// The images' labels differ, so they are not the same images.
    #[error("image {image} has the label {second} for one model and {first} for the other")]
    Labels {
        /// Its place.
        image: usize,
        /// Its label with the first model.
        first: u32,
        /// Its label with the second.
        second: u32,
    },
}

/// A wrong answer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Wrong {
    /// The image's place in the split.
    pub image: usize,
    /// Its label.
    pub label: u32,
    /// The class it was taken for.
    pub predicted: u32,
    /// The probability of that class.
    pub probability: f64,
}

/// On which of the same images two models are right.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The number of images that both get right.
    pub both_right: u64,
    /// The number that only the first gets right.
    pub only_first: u64,
    /// The number that only the second gets right.
    pub only_second: u64,
    /// The number that neither gets right.
    pub both_wrong: u64,
    /// McNemar's exact two-sided p-value that they are equally often right.
    pub mcnemar_p: f64,
}

impl Outcomes {
    pub(crate) fn new(classes: usize, options: ClassificationOptions) -> Self {
        Self {
            classes,
            options,
            probabilities: Vec::new(),
            labels: Vec::new(),
            criterion: Vec::new(),
        }
    }

    pub(crate) fn tune(
        &self,
        metric: DecisionMetric,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Tuned, ClassificationError> {
        let (probabilities, labels) = (&self.probabilities, &self.labels);
        tune_while(self.classes, probabilities, labels, metric, go_on)
    }

    /// The same images, decided for by other thresholds.
    pub(crate) fn decided_by(&mut self, thresholds: Option<Thresholds>) {
        self.options = std::mem::take(&mut self.options).with_thresholds(thresholds);
    }

    pub(crate) fn report(&self) -> Result<ClassificationReport, ClassificationError> {
        let mut accumulator =
            ClassificationAccumulator::with_options(self.classes, self.options.clone());
        accumulator.update(&self.probabilities, &self.labels)?;
        accumulator.finish()
    }

    pub(crate) fn push(&mut self, label: u32, criterion: CriterionSum) {
        self.labels.push(label);
        self.criterion.push(criterion);
    }

    pub(crate) fn extend(&mut self, probabilities: &[f64]) {
        self.probabilities.extend_from_slice(probabilities);
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn rows(&self) -> impl Iterator<Item = (&[f64], u32)> {
        let rows = self.probabilities.chunks_exact(self.classes.max(1));
        rows.zip(self.labels.iter().copied())
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The label of each image.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The class that is decided for; `None` where a probability is not finite.
    pub fn decided(&self) -> impl Iterator<Item = Option<u32>> {
        self.rows().map(|(row, _)| {
            let finite = row.iter().all(|p| p.is_finite());
            finite.then(|| self.options.decide(row))
        })
    }

    /// Whether each image was right: its label is what the model decides for.
    pub fn right(&self) -> impl Iterator<Item = bool> {
        let labels = self.labels.iter();
        self.decided()
            .zip(labels)
            .map(|(decided, label)| decided == Some(*label))
    }

    /// The wrong answers that the model was surest of, surest first, at most `count`; of equals the first.
    #[must_use]
    pub fn most_wrong(&self, count: usize) -> Vec<Wrong> {
        let mut wrong: Vec<Wrong> = self
            .rows()
            .enumerate()
            .filter(|(_, (row, _))| row.iter().all(|p| p.is_finite()))
            .filter_map(|(image, (row, label))| {
                let predicted = self.options.decide(row);
                let probability = row[predicted as usize];
                (predicted != label).then_some(Wrong {
                    image,
                    label,
                    predicted,
                    probability,
                })
            })
            .collect();
        wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        wrong.truncate(count);
        wrong
    }

    /// Log loss of each image, as the metric `log_loss` has it.
    #[must_use]
    pub fn log_losses(&self) -> Vec<f64> {
        self.rows()
            .map(|(row, label)| log_loss_of(row[label as usize]))
            .collect()
    }

    /// On which images two models are right, and whether their accuracies differ.
    ///
    /// # Errors
    /// [`OutcomesError`] when the images are not the same in number or labels.
    pub fn compare(&self, other: &Self) -> Result<Comparison, OutcomesError> {
        if self.len() != other.len() {
            return Err(StatisticsError::NotPaired {
                first: self.len(),
                second: other.len(),
            }
            .into());
        }
        let pairs = self.labels.iter().zip(&other.labels).enumerate();
        for (image, (&first, &second)) in pairs {
            if first != second {
                return Err(OutcomesError::Labels {
                    image,
                    first,
                    second,
                });
            }
        }
        let mut counts = [0u64; 4];
        for (first, second) in self.right().zip(other.right()) {
            counts[usize::from(!first) * 2 + usize::from(!second)] += 1;
        }
        let [both_right, only_first, only_second, both_wrong] = counts;
        Ok(Comparison {
            both_right,
            only_first,
            only_second,
            both_wrong,
            mcnemar_p: mcnemar_exact(only_first, only_second),
        })
    }
}

#[cfg(test)]
mod tests {
    use keepbest_core::statistics::wilson;

    use super::*;

    fn outcomes(probabilities: &[[f64; 2]], labels: &[u32]) -> Outcomes {
        let mut outcomes = Outcomes::new(2, ClassificationOptions::default());
        outcomes.extend(probabilities.as_flattened());
        for &label in labels {
            outcomes.push(label, CriterionSum::default());
        }
        outcomes
    }

    #[test]
    fn thresholds_decide_what_is_right() {
        let mut some = outcomes(&[[0.7, 0.3], [0.9, 0.1], [0.6, 0.4]], &[1, 0, 0]);
        assert!(some.right().eq([false, true, true]));
        let accuracy = |some: &Outcomes| some.report().unwrap().metric("accuracy").unwrap();
        assert!((accuracy(&some) - 2.0 / 3.0).abs() < 1e-12);
        some.decided_by(Some(Thresholds::new(vec![0.75, 0.25]).unwrap()));
        assert!(some.right().eq([true, true, false]));
        let wrong = some.most_wrong(9);
        assert_eq!(wrong.len(), 1);
        assert_eq!((wrong[0].image, wrong[0].predicted), (2, 1));
        assert_eq!(wrong[0].probability, 0.4);
        let intervals = some.resample("val").unwrap().intervals();
        assert_eq!(
            intervals.metrics["val/accuracy"],
            wilson(2, 3, 0.95).unwrap()
        );
    }

    #[test]
    fn pairs_are_counted() {
        let labels = [0, 0, 1, 1, 0];
        let first = outcomes(
            &[[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.5, 0.5]],
            &labels,
        );
        let second = outcomes(
            &[[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]],
            &labels,
        );
        // Of equals the first class is the prediction.
        assert!(first.right().eq([true, true, false, true, true]));
        let wrong = second.most_wrong(2).into_iter();
        let wrong: Vec<(usize, u32)> = wrong.map(|wrong| (wrong.image, wrong.predicted)).collect();
        assert_eq!(wrong, [(4, 1), (2, 0)]);
        let found = first.compare(&second).unwrap();
        let counts = [
            found.both_right,
            found.only_first,
            found.only_second,
            found.both_wrong,
        ];
        assert_eq!(counts, [2, 2, 0, 1]);
        assert!((found.mcnemar_p - 0.5).abs() < 1e-12);
        let resampled = |of: &Outcomes| of.resample("val").unwrap();
        let differences = resampled(&first).minus(&resampled(&second)).unwrap();
        let metrics = |of: &Outcomes| of.report().unwrap().metrics("val");
        let (of_first, of_second) = (metrics(&first), metrics(&second));
        for (name, value) in of_first.iter() {
            let expected = value - of_second.get(name).unwrap();
            let found = differences[name];
            assert!((found.difference - expected).abs() < 1e-12, "{name}");
            assert!(
                found.interval.low <= expected && expected <= found.interval.high,
                "{name}"
            );
        }
        assert!(differences["val/log_loss"].difference < 0.0);
        let intervals = resampled(&first).intervals();
        assert_eq!(
            intervals.metrics["val/accuracy"],
            wilson(4, 5, 0.95).unwrap()
        );
        assert_eq!(intervals.classes[0].recall, wilson(3, 3, 0.95).ok());
        assert_eq!(intervals.classes[0].precision, wilson(3, 4, 0.95).ok());
        let f1 = intervals.classes[0].f1.unwrap();
        assert!(f1.low < 6.0 / 7.0 && f1.high > 6.0 / 7.0, "{f1:?}");
        assert_eq!(
            outcomes(&[], &[]).resample("val").unwrap_err(),
            OutcomesError::Statistics(StatisticsError::NoExamples)
        );
        let others = outcomes(&[[0.9, 0.1]; 5], &[0, 1, 1, 1, 0]);
        assert_eq!(
            first.compare(&others),
            Err(OutcomesError::Labels {
                image: 1,
                first: 0,
                second: 1
            })
        );
    }
}
