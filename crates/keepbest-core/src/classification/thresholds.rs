//! Decision thresholds: which class is decided for, where it is not simply the likeliest.
//!
//! Every class c has a threshold t of its own, and the decision is the class with the greatest p / t; of equals the lower
//! class, as with argmax. Only the ratios of thresholds matter: when all are alike, the decision is argmax. With two classes
//! and thresholds 1 - t and t, class 1 is decided for exactly when its probability is above t.
//!
//! [`tune`](super::tune) finds thresholds by which a metric of decisions is as high as it can make it.

use serde::{Deserialize, Serialize};

use super::row::first_highest;

/// One threshold a class, each above 0 and at most 1. Serialised as their list.
///
/// ```
/// use keepbest_core::classification::Thresholds;
///
/// let thresholds = Thresholds::new(vec![0.8, 0.2])?;
/// assert_eq!(thresholds.decide(&[0.75, 0.25]), 1);
/// assert_eq!(thresholds.decide(&[0.85, 0.15]), 0);
/// assert_eq!(Thresholds::alike(2).decide(&[0.75, 0.25]), 0);
/// # Ok::<(), keepbest_core::classification::ThresholdsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Thresholds {
    values: Vec<f64>,
    /// Whether all are the same: then dividing by them could only lose what tells two probabilities apart.
    alike: bool,
}

/// A list is no list of thresholds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdsError {
    /// There are none.
    #[error("there are no thresholds: every class has one")]
    None,
    /// One is out of range.
    #[error("the threshold of class {class} is {value}: it must be above 0 and at most 1")]
    OutOfRange {
        /// The class.
        class: usize,
        /// The value found.
        value: f64,
    },
}

impl Thresholds {
    /// The thresholds of classes 0, 1, and so on.
    ///
    /// # Errors
    /// [`ThresholdsError`] when there are none, or one is not above 0 and at most 1.
    pub fn new(values: Vec<f64>) -> Result<Self, ThresholdsError> {
        let Some(first) = values.first() else {
            return Err(ThresholdsError::None);
        };
        if let Some(class) = values.iter().position(|t| !(*t > 0.0 && *t <= 1.0)) {
            return Err(ThresholdsError::OutOfRange {
                class,
                value: values[class],
            });
        }
        let alike = values.iter().all(|value| value == first);
        Ok(Self { values, alike })
    }

    /// The same for every class, by which the likeliest is decided for.
    #[must_use]
    pub fn alike(classes: usize) -> Self {
        Self {
            values: vec![1.0 / classes.max(1) as f64; classes.max(1)],
            alike: true,
        }
    }

    /// Whether all are the same.
    #[must_use]
    pub fn are_alike(&self) -> bool {
        self.alike
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.values.len()
    }

    /// The threshold of each class.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The class that is decided for: the first of those whose probability is the greatest multiple of their threshold.
    #[must_use]
    pub fn decide(&self, probabilities: &[f64]) -> u32 {
        if self.alike {
            return first_highest(probabilities).0;
        }
        let mut best = (0, f64::NEG_INFINITY);
        for (class, (p, threshold)) in (0..).zip(probabilities.iter().zip(&self.values)) {
            let multiple = p / threshold;
            if multiple > best.1 {
                best = (class, multiple);
            }
        }
        best.0
    }
}

impl TryFrom<Vec<f64>> for Thresholds {
    type Error = ThresholdsError;

    fn try_from(values: Vec<f64>) -> Result<Self, ThresholdsError> {
        Self::new(values)
    }
}

impl From<Thresholds> for Vec<f64> {
    fn from(thresholds: Thresholds) -> Self {
        thresholds.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_threshold_is_refused() {
        assert_eq!(Thresholds::new(Vec::new()), Err(ThresholdsError::None));
        for value in [0.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            let error = Thresholds::new(vec![0.5, value]).unwrap_err();
            assert!(error.to_string().contains("of class 1 is"), "{error}");
        }
        assert!(serde_json::from_str::<Thresholds>("[0.5, 0]").is_err());
        let some: Thresholds = serde_json::from_str("[0.5, 1]").unwrap();
        assert_eq!(serde_json::to_string(&some).unwrap(), "[0.5,1.0]");
    }

    #[test]
    fn ties_go_to_the_lower_class() {
        let thresholds = Thresholds::new(vec![0.5, 0.25, 0.25]).unwrap();
        assert_eq!(thresholds.decide(&[0.5, 0.25, 0.25]), 0);
        assert_eq!(thresholds.decide(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(thresholds.decide(&[0.48, 0.26, 0.26]), 1);
    }

    #[test]
    fn of_two_classes_the_second_is_decided_for_above_its_threshold() {
        let thresholds = Thresholds::new(vec![0.75, 0.25]).unwrap();
        for (p, class) in [(0.2, 0), (0.25, 0), (0.2500001, 1), (0.9, 1)] {
            assert_eq!(thresholds.decide(&[1.0 - p, p]), class, "{p}");
        }
    }

    #[test]
    fn alike_ones_tell_neighbouring_numbers_apart() {
        let p = 0.3;
        let above = f64::from_bits(f64::to_bits(p) + 1);
        for classes in 2..40 {
            let mut row = vec![0.0; classes];
            (row[0], row[1]) = (p, above);
            assert_eq!(Thresholds::alike(classes).decide(&row), 1);
        }
    }
}
