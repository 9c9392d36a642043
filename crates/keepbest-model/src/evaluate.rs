//! Measuring a model on a set of images.

use keepbest_core::classification::{ClassificationOptions, DecisionMetric, Tuned};
use keepbest_core::{ClassificationAccumulator, ClassificationReport, Metrics};
use keepbest_data::{LoadError, Preprocessing, Subset};
use keepbest_nn::{Alone, Collective, CollectiveError, Scorer};

use crate::criterion::{Criterion, CriterionSum, log_softmax};
use crate::outcomes::{Outcomes, OutcomesError};
use crate::scores::{Part, Scores};

/// What was measured on one split.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Measured {
    /// All classification metrics and the confusion matrix.
    pub report: ClassificationReport,
    /// Mean training criterion.
    pub loss: f64,
    /// What came of tuning thresholds, when [`Evaluator::tune`] asked for it: the report is of what they decide.
    pub tuned: Option<Tuned>,
    /// The outcome of each image, when [`Evaluator::keep_outcomes`] asked for it.
    pub outcomes: Option<Outcomes>,
}

impl Measured {
    /// Every metric by name, `split` in front: `val/accuracy`, ..., `val/loss`.
    pub fn metrics(&self, split: &str) -> Metrics {
        let mut metrics = self.report.metrics(split);
        metrics.insert(format!("{split}/loss"), self.loss);
        metrics
    }

    /// The outcome of each image.
    ///
    /// # Errors
    /// [`OutcomesError::NotKept`] unless [`Evaluator::keep_outcomes`] asked for it.
    pub fn kept_outcomes(&self) -> Result<&Outcomes, OutcomesError> {
        self.outcomes.as_ref().ok_or(OutcomesError::NotKept)
    }
}

/// Why images could not be measured or predicted on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Loading the images failed.
    #[error(transparent)]
    Load(#[from] keepbest_data::LoadError),
    /// The network failed.
    #[error(transparent)]
    Score(#[from] keepbest_nn::ScoreError),
    /// The probabilities make no sense.
    #[error(transparent)]
    Metrics(#[from] keepbest_core::ClassificationError),
    /// Another rank that was to score a part of the images is lost.
    #[error(transparent)]
    Ranks(#[from] CollectiveError),
    /// The images' classes are not the model's.
    #[error("the images have {found} classes, the model has {expected}")]
    Classes {
        /// Classes of the model.
        expected: usize,
        /// Classes of the images.
        found: usize,
    },
}

/// Measures a model on images, with these options.
pub struct Evaluator<'a> {
    /// The training criterion.
    pub criterion: &'a Criterion,
    /// From image to network input.
    pub preprocessing: &'a Preprocessing,
    /// Images at a time; the result does not depend on it.
    pub batch_size: usize,
    /// Metrics beside the standard ones.
    pub options: ClassificationOptions,
    /// Whether to keep what came out for each image, for intervals and tests: 8 bytes an image and class.
    pub keep_outcomes: bool,
    /// The metric to tune thresholds for, on what is measured; they replace those of the options.
    pub tune: Option<DecisionMetric>,
    /// The ranks that score together, each a part of the batches; this is the first, the others [`score_part`](Self::score_part).
    pub ranks: &'a dyn Collective,
}

impl<'a> Evaluator<'a> {
    /// With the standard metrics, 64 images at a time.
    pub fn new(criterion: &'a Criterion, preprocessing: &'a Preprocessing) -> Self {
        Self {
            criterion,
            preprocessing,
            batch_size: 64,
            options: ClassificationOptions::default(),
            keep_outcomes: false,
            tune: None,
            ranks: &Alone,
        }
    }

    /// Scores this rank's part of the images with the weights in `scorer`, for the first rank, which [measures](Self::measure).
    ///
    /// # Errors
    /// [`EvaluateError`] when an image cannot be read, or another rank is lost.
    pub fn score_part(&self, scorer: &mut dyn Scorer, split: &Subset) -> Result<(), EvaluateError> {
        Part::new(self, split, scorer.threads())?.score(scorer)
    }

    /// Measures the weights in `scorer` on all images of `split`: evaluation mode, in order, every image once.
    ///
    /// After each batch, and while something takes long, `go_on` is told how many images are done; when it says no, the answer
    /// is `None`.
    ///
    /// # Errors
    /// [`EvaluateError`] when an image cannot be read, or classes do not fit.
    pub fn measure(
        &self,
        scorer: &mut dyn Scorer,
        split: &Subset,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> Result<Option<Measured>, EvaluateError> {
        use keepbest_data::Dataset as _;
        let classes = scorer.network().classes();
        if split.classes().len() != classes {
            return Err(EvaluateError::Classes {
                expected: classes,
                found: split.classes().len(),
            });
        }
        let mut scores = Scores::new(self, split, scorer.threads())?;
        let mut accumulator =
            ClassificationAccumulator::with_options(classes, self.options.clone());
        let mut loss = CriterionSum::default();
        let mut probabilities = Vec::new();
        let mut log_probabilities = vec![0.0; classes];
        // Before the last image it is not known what is decided for.
        let tune = self.tune;
        let mut outcomes = (self.keep_outcomes || tune.is_some())
            .then(|| Outcomes::new(classes, self.options.clone()));
        let mut done = 0;
        loop {
            let (logits, labels) = match scores.next(scorer, &mut || go_on(done)) {
                Ok(Some(scored)) => scored,
                Ok(None) => break,
                Err(EvaluateError::Load(LoadError::Interrupted)) => return Ok(None),
                Err(error) => return Err(error),
            };
            probabilities.clear();
            for (row, &label) in logits.chunks_exact(classes).zip(labels) {
                log_softmax(row, &mut log_probabilities);
                let mut of_image = CriterionSum::default();
                self.criterion.add(&mut of_image, &log_probabilities, label);
                loss.merge(of_image);
                if let Some(outcomes) = &mut outcomes {
                    outcomes.push(label, of_image);
                }
                probabilities.extend(log_probabilities.iter().map(|&log| libm::exp(log)));
            }
            if tune.is_none() {
                accumulator.update(&probabilities, labels)?;
            }
            if let Some(outcomes) = &mut outcomes {
                outcomes.extend(&probabilities);
            }
            done += labels.len();
            if !go_on(done) {
                return Ok(None);
            }
        }
        let (report, tuned) = match (tune, &mut outcomes) {
            (Some(metric), Some(outcomes)) => {
                let tuned = outcomes.tune(metric, &mut || go_on(done))?;
                if !go_on(done) {
                    return Ok(None);
                }
                outcomes.decided_by(Some(tuned.thresholds.clone()));
                (outcomes.report()?, Some(tuned))
            }
            _ => (accumulator.finish()?, None),
        };
        Ok(Some(Measured {
            report,
            loss: loss.mean(),
            tuned,
            outcomes: outcomes.filter(|_| self.keep_outcomes),
        }))
    }
}
