//! Checks of a batch before it is taken in.

use super::options::ClassificationOptions;
use super::sum::Sum;
use super::thresholds::Thresholds;

/// A batch does not fit, or there was none. The accumulator is as it was before.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassificationError {
    /// There are not `classes` values for each label.
    #[error("{labels} labels of {classes} classes need {} values, found {found}", labels.saturating_mul(*classes))]
    Length {
        /// The number of labels.
        labels: usize,
        /// The number of classes.
        classes: usize,
        /// The number of values.
        found: usize,
    },
    /// A label is not a class.
    #[error("example {example} has the label {label}, but there are {classes} classes")]
    Label {
        /// Its place in the batch.
        example: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A value is finite, but no probability.
    #[error("example {example} has {value} for class {class}, which is no probability")]
    NotAProbability {
        /// Its place in the batch.
        example: usize,
        /// The class.
        class: usize,
        /// The value.
        value: f64,
    },
    /// Probabilities of an example do not sum to 1.
    #[error("the probabilities of example {example} sum to {sum}, not to 1")]
    NotADistribution {
        /// Its place in the batch.
        example: usize,
        /// Their sum.
        sum: f64,
    },
    /// The options' thresholds are of another number of classes.
    #[error("there are {found} thresholds for {classes} classes")]
    Thresholds {
        /// The number of classes.
        classes: usize,
        /// The number of thresholds.
        found: usize,
    },
    /// There was no example.
    #[error("there are no examples to compute metrics of")]
    NoExamples,
}

impl ClassificationError {
    /// A thing to try, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAProbability { .. } | Self::NotADistribution { .. } => {
                Some("raw scores of a network are logits: use `update_logits`")
            }
            _ => None,
        }
    }
}

/// How far a probability may exceed 1, and a sum of them miss 1: room for probabilities computed in half precision.
const ROUNDING: f64 = 1e-2;

/// Whether thresholds are of so many classes.
pub(super) fn check_thresholds(
    options: &ClassificationOptions,
    classes: usize,
) -> Result<(), ClassificationError> {
    match options.thresholds().map(Thresholds::classes) {
        Some(found) if found != classes => Err(ClassificationError::Thresholds { classes, found }),
        _ => Ok(()),
    }
}

/// Whether probabilities `[n, classes]` and n labels are what [`ClassificationAccumulator::update`](super::ClassificationAccumulator::update) takes.
pub(super) fn check_batch(
    classes: usize,
    probabilities: &[f64],
    labels: &[u32],
) -> Result<(), ClassificationError> {
    check_shape(classes, probabilities.len(), labels)?;
    for (example, row) in probabilities.chunks_exact(classes.max(1)).enumerate() {
        check_row(example, row)?;
    }
    Ok(())
}

pub(super) fn check_shape(
    classes: usize,
    values: usize,
    labels: &[u32],
) -> Result<(), ClassificationError> {
    if labels.len().checked_mul(classes) != Some(values) {
        return Err(ClassificationError::Length {
            labels: labels.len(),
            classes,
            found: values,
        });
    }
    match labels.iter().position(|label| *label as usize >= classes) {
        Some(example) => Err(ClassificationError::Label {
            example,
            label: labels[example],
            classes,
        }),
        None => Ok(()),
    }
}

fn check_row(example: usize, row: &[f64]) -> Result<(), ClassificationError> {
    if !row.iter().all(|p| p.is_finite()) {
        return Ok(());
    }
    if let Some(class) = row.iter().position(|p| !(0.0..=1.0 + ROUNDING).contains(p)) {
        return Err(ClassificationError::NotAProbability {
            example,
            class,
            value: row[class],
        });
    }
    let sum: f64 = row.iter().copied().collect::<Sum>().value();
    if (sum - 1.0).abs() > ROUNDING {
        return Err(ClassificationError::NotADistribution { example, sum });
    }
    Ok(())
}
