//! Takes in batches.

use super::batch::{ClassificationError, check_batch, check_shape, check_thresholds};
use super::calibration::Calibration;
use super::confusion::ConfusionMatrix;
use super::example::Example;
use super::gathered::ExampleSums;
use super::options::ClassificationOptions;
use super::ranking::Scores;
use super::report::{ClassificationReport, Parts};
use super::softmax::softmax_into;

/// Takes in batches of probabilities with their labels, and gives the report.
///
/// ```
/// use keepbest_core::ClassificationAccumulator;
///
/// let mut accumulator = ClassificationAccumulator::new(3);
/// accumulator.update(&[0.7, 0.2, 0.1, 0.3, 0.3, 0.4], &[0, 1])?;
/// accumulator.update(&[0.0, 0.0, 1.0], &[2])?;
/// let report = accumulator.finish()?;
/// assert_eq!(report.count(), 3);
/// assert_eq!(report.metrics("val").get("val/accuracy"), Some(2.0 / 3.0));
/// # Ok::<(), keepbest_core::classification::ClassificationError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassificationAccumulator {
    classes: usize,
    options: ClassificationOptions,
    non_finite: u64,
    confusion: ConfusionMatrix,
    sums: ExampleSums,
    calibration: Calibration,
    scores: Scores,
    /// The labels that go with `scores`.
    labels: Vec<u32>,
    softmax: Vec<f64>,
}

impl ClassificationAccumulator {
    /// For so many classes, with the default options.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self::with_options(classes, ClassificationOptions::default())
    }

    /// For so many classes.
    #[must_use]
    pub fn with_options(classes: usize, options: ClassificationOptions) -> Self {
        Self {
            classes,
            non_finite: 0,
            confusion: ConfusionMatrix::new(classes),
            sums: ExampleSums::new(&options, classes),
            calibration: Calibration::new(options.calibration_bins()),
            scores: Scores::new(),
            labels: Vec::new(),
            softmax: Vec::new(),
            options,
        }
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Takes in a batch: probabilities `[n, classes]`, row-major, and n labels.
    ///
    /// # Errors
    /// When the lengths do not match, a label is not a class, thresholds are of other classes, or a row of finite values is no
    /// distribution (negative, above 1, or with a sum other than 1, by more than 0.01). Then nothing of the batch is taken in. A row with a NaN or an
    /// infinity is no error, see the [module](super).
    pub fn update(
        &mut self,
        probabilities: &[f64],
        labels: &[u32],
    ) -> Result<(), ClassificationError> {
        check_thresholds(&self.options, self.classes)?;
        check_batch(self.classes, probabilities, labels)?;
        for (row, label) in probabilities.chunks_exact(self.classes.max(1)).zip(labels) {
            self.record(row, *label);
        }
        Ok(())
    }

    /// Takes in a batch of logits `[n, classes]`, row-major: the [softmax](softmax_into) of each row, in double precision,
    /// is its probabilities.
    ///
    /// # Errors
    /// When the lengths do not match, a label is not a class, or thresholds are of other classes. Then nothing of the batch is
    /// taken in.
    pub fn update_logits(
        &mut self,
        logits: &[f32],
        labels: &[u32],
    ) -> Result<(), ClassificationError> {
        check_thresholds(&self.options, self.classes)?;
        check_shape(self.classes, logits.len(), labels)?;
        let mut probabilities = std::mem::take(&mut self.softmax);
        probabilities.clear();
        softmax_into(logits, self.classes, &mut probabilities);
        for (row, label) in probabilities.chunks_exact(self.classes.max(1)).zip(labels) {
            self.record(row, *label);
        }
        self.softmax = probabilities;
        Ok(())
    }

    /// Takes in one checked example.
    fn record(&mut self, row: &[f64], label: u32) {
        let Some(example) = Example::of(row, label, &self.options) else {
            self.non_finite += 1;
            return;
        };
        self.confusion.record(label, example.decision, 1);
        self.calibration
            .record(example.confidence, example.is_likeliest, 1);
        self.sums.add(&example, 1);
        if self.options.ranking() {
            self.scores.extend(row);
            self.labels.push(label);
        }
    }

    /// The report on everything taken in. Sorting for the ranking metrics happens here: O(classes * n log n).
    ///
    /// # Errors
    /// [`ClassificationError::NoExamples`] when nothing was taken in.
    pub fn finish(&self) -> Result<ClassificationReport, ClassificationError> {
        if self.confusion.total() + self.non_finite == 0 {
            return Err(ClassificationError::NoExamples);
        }
        Ok(ClassificationReport::assemble(Parts {
            options: &self.options,
            non_finite: self.non_finite,
            confusion: self.confusion.clone(),
            sums: &self.sums,
            calibration: &self.calibration,
            ranking: self
                .options
                .ranking()
                .then(|| self.scores.one_vs_rest(self.classes, &self.labels)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accumulator() -> ClassificationAccumulator {
        ClassificationAccumulator::new(3)
    }

    #[test]
    fn wrong_batches_are_refused_and_leave_nothing_behind() {
        let mut acc = accumulator();
        let good = [0.2, 0.3, 0.5];
        let cases: [(&[f64], &[u32], ClassificationError); 7] = [
            (
                &[0.5, 0.5],
                &[0],
                ClassificationError::Length {
                    labels: 1,
                    classes: 3,
                    found: 2,
                },
            ),
            (
                &good,
                &[],
                ClassificationError::Length {
                    labels: 0,
                    classes: 3,
                    found: 3,
                },
            ),
            (
                &good,
                &[3],
                ClassificationError::Label {
                    example: 0,
                    label: 3,
                    classes: 3,
                },
            ),
            (
                &[0.2, 0.3, 0.5, 1.2, -0.1, -0.1],
                &[0, 0],
                ClassificationError::NotAProbability {
                    example: 1,
                    class: 0,
                    value: 1.2,
                },
            ),
            (
                &[0.6, -0.1, 0.5],
                &[0],
                ClassificationError::NotAProbability {
                    example: 0,
                    class: 1,
                    value: -0.1,
                },
            ),
            (
                &[0.25, 0.25, 0.25],
                &[0],
                ClassificationError::NotADistribution {
                    example: 0,
                    sum: 0.75,
                },
            ),
            (
                &[0.0; 3],
                &[0],
                ClassificationError::NotADistribution {
                    example: 0,
                    sum: 0.0,
                },
            ),
        ];
        for (probabilities, labels, error) in cases {
            assert_eq!(acc.update(probabilities, labels), Err(error));
        }
        assert_eq!(
            acc.update_logits(&[1.0], &[0]),
            Err(ClassificationError::Length {
                labels: 1,
                classes: 3,
                found: 1
            })
        );
        assert_eq!(acc.finish(), Err(ClassificationError::NoExamples));
        acc.update(&[], &[]).unwrap();
        assert_eq!(acc.finish(), Err(ClassificationError::NoExamples));
        acc.update(&good, &[2]).unwrap();
        assert_eq!(acc.finish().unwrap().count(), 1);
    }

    #[test]
    fn no_classes_is_no_panic() {
        let mut acc = ClassificationAccumulator::new(0);
        assert!(matches!(
            acc.update(&[], &[0]),
            Err(ClassificationError::Label { .. })
        ));
        assert!(matches!(
            acc.update(&[1.0], &[0]),
            Err(ClassificationError::Length { .. })
        ));
        assert!(matches!(
            acc.update_logits(&[], &[0]),
            Err(ClassificationError::Label { .. })
        ));
        acc.update(&[], &[]).unwrap();
        assert_eq!(acc.finish(), Err(ClassificationError::NoExamples));
    }

    #[test]
    fn a_single_class_has_its_metrics() {
        let mut acc = ClassificationAccumulator::new(1);
        acc.update(&[1.0, 1.0], &[0, 0]).unwrap();
        let report = acc.finish().unwrap();
        let metrics = report.metrics("val/");
        assert_eq!(metrics.get("val/accuracy"), Some(1.0));
        assert_eq!(metrics.get("val/f1_macro"), Some(1.0));
        assert_eq!(metrics.get("val/average_precision"), Some(1.0));
        assert_eq!(metrics.get("val/ece"), Some(0.0));
        assert!(metrics.get("val/roc_auc_ovr").unwrap().is_nan());
        assert!(!metrics.contains("val/top5_accuracy"));
        assert_eq!(
            report.metrics("").get("accuracy"),
            report.metric("accuracy")
        );
    }

    #[test]
    fn without_ranking_its_metrics_are_left_out() {
        let options = ClassificationOptions::default().with_ranking(false);
        let mut acc = ClassificationAccumulator::with_options(2, options);
        acc.update(&[0.9, 0.1], &[0]).unwrap();
        let report = acc.finish().unwrap();
        assert!(report.metric("accuracy").is_some());
        assert_eq!(
            (
                report.metric("roc_auc_ovr"),
                report.metric("average_precision")
            ),
            (None, None)
        );
        assert_eq!(report.classes()[0].roc_auc, None);
    }

    #[test]
    fn a_diverged_model_gives_nan_everywhere() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut acc = accumulator();
            acc.update(&[0.2, 0.3, 0.5, 0.0, bad, 0.5], &[2, 1])
                .unwrap();
            let report = acc.finish().unwrap();
            assert_eq!((report.count(), report.non_finite()), (2, 1));
            let metrics = report.metrics("val");
            assert!(metrics.len() > 15);
            assert!(
                metrics.iter().all(|(_, value)| value.is_nan()),
                "{metrics:?}"
            );
            assert_eq!(report.confusion().total(), 1);
        }
        let mut acc = accumulator();
        acc.update_logits(&[f32::NAN, 0.0, 0.0], &[0]).unwrap();
        assert!(
            acc.finish()
                .unwrap()
                .metrics("")
                .iter()
                .all(|(_, value)| value.is_nan())
        );
    }

    #[test]
    fn batches_do_not_matter() {
        let n = 97;
        let logits: Vec<f32> = (0..n * 3)
            .map(|i| libm::sinf((i * 7919 % 1013) as f32 / 200.0) * 3.0)
            .collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| i * 31 % 3).collect();
        let mut whole = accumulator();
        whole.update_logits(&logits, &labels).unwrap();
        let whole = serde_json::to_string(&whole.finish().unwrap()).unwrap();
        for size in [1, 2, 10, 64] {
            let mut acc = accumulator();
            for (logits, labels) in logits.chunks(size * 3).zip(labels.chunks(size)) {
                acc.update_logits(logits, labels).unwrap();
            }
            assert_eq!(
                serde_json::to_string(&acc.finish().unwrap()).unwrap(),
                whole
            );
        }
    }
}
