//! Metrics of a classifier, streaming and exact: the values scikit-learn gives, from batches of probabilities.
//!
//! | metric | scikit-learn 1.9 |
//! |---|---|
//! | `accuracy` | `accuracy_score`; the prediction is the first of the highest probabilities, unless there are thresholds |
//! | `top5_accuracy` | `top_k_accuracy_score(k=5)`: among equal probabilities the higher class counts first |
//! | `balanced_accuracy` | `balanced_accuracy_score`: over the classes that occur as labels |
//! | `log_loss` | `log_loss` of float64: natural logarithm, clipped to [2^-52, 1 - 2^-52] |
//! | `precision_macro`, `recall_macro`, `f1_macro`, `fbeta2_macro` | `zero_division=0`; over the classes that occur as labels or predictions |
//! | `..._micro`, `..._weighted` | the same with the other averages |
//! | `matthews` | `matthews_corrcoef`; 0 where it is undefined |
//! | `cohen_kappa` | `cohen_kappa_score`; NaN where it is undefined |
//! | `roc_auc_ovr` | `roc_auc_score(average="macro")` of one-hot labels; NaN when a class has no positive or no negative example |
//! | `average_precision` | `average_precision_score(average="macro")` of one-hot labels; 0 for a class without examples |
//! | `ece` | expected calibration error with equal-width bins, Guo et al. 2017 (arXiv 1706.04599) |
//!
//! # Decisions
//!
//! Decided for is the first of the highest probabilities, or what [`Thresholds`] say
//! ([`ClassificationOptions::with_thresholds`]). The confusion matrix is of decisions, and so are the metrics that follow from
//! it: accuracy, balanced accuracy, precision, recall, F, Matthews, kappa. Top-k, log loss, ROC AUC, average precision and
//! calibration are of the probabilities, which thresholds leave as they are.
//!
//! # Diverged models
//!
//! A row with a NaN or an infinity in it is counted, and makes every metric NaN: not an error, since it is what the model
//! said, and never a best. The confusion matrix covers the other rows.
//!
//! # Memory
//!
//! All but the ranking metrics are sums. ROC AUC and average precision are exact, so they need every probability:
//! 4 bytes each as long as all are exactly representable in single precision, 8 bytes from then on. 10,000 examples of 10
//! classes in single precision take 400 kB, 50,000 of 1,000 classes 200 MB, and twice that after
//! [`update_logits`](ClassificationAccumulator::update_logits), whose softmax is double; [`ClassificationOptions::ranking`] turns
//! them off.
//!
//! # Determinism
//!
//! The result depends on the examples and their order, not on how they are cut into batches, on threads or on the machine.

mod accumulator;
mod averages;
mod calibration;
mod confusion;
mod draws;
mod example;
mod options;
mod ranking;
mod report;
mod softmax;
mod sum;
mod thresholds;

pub use accumulator::{ClassificationAccumulator, ClassificationError, first_highest, log_loss_of};
pub use calibration::CalibrationBin;
pub use confusion::ConfusionMatrix;
pub use draws::ClassificationExamples;
pub use options::{ClassificationOptions, OptionsError};
pub use report::{ClassMetrics, ClassificationReport};
pub use softmax::softmax_into;
pub use thresholds::{
    DecisionMetric, Thresholds, ThresholdsError, Tuned, UnknownDecisionMetric, tune, tune_while,
};
