//! Metrics of a classifier, streaming and exact: the values scikit-learn gives, from batches of probabilities.
//!
//! [`METRICS`] is the table of them: name, direction, meaning, and what each is computed from.
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
mod batch;
mod calibration;
mod confusion;
mod decision;
mod draws;
mod example;
mod gathered;
mod metric;
mod options;
mod ranking;
mod report;
mod row;
mod softmax;
mod sum;
mod thresholds;
mod tuning;

pub use accumulator::ClassificationAccumulator;
pub use batch::ClassificationError;
pub use calibration::CalibrationBin;
pub use confusion::ConfusionMatrix;
pub use decision::{DecisionMetric, UnknownDecisionMetric};
pub use draws::ClassificationExamples;
pub use metric::{Definition, METRICS, Metric, Needs};
pub use options::{ClassificationOptions, OptionsError};
pub use report::{ClassMetrics, ClassificationReport};
pub use row::{first_highest, log_loss_of};
pub use softmax::softmax_into;
pub use thresholds::{Thresholds, ThresholdsError};
pub use tuning::{Tuned, tune, tune_while};
