//! The metrics to compute.

use serde::{Deserialize, Serialize};

use super::row::first_highest;
use super::thresholds::Thresholds;

/// The metrics to compute beside the standard ones, checked when they are set.
///
/// ```
/// use keepbest_core::classification::{ClassificationAccumulator, ClassificationOptions};
///
/// let options = ClassificationOptions::default().with_top_k(&[3])?.with_betas(&[0.5, 2.0])?;
/// let mut accumulator = ClassificationAccumulator::with_options(4, options);
/// accumulator.update(&[0.7, 0.1, 0.1, 0.1], &[0])?;
/// let metrics = accumulator.finish()?.metrics("val");
/// assert_eq!(metrics.get("val/top3_accuracy"), Some(1.0));
/// assert!(metrics.contains("val/fbeta0.5_macro"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct ClassificationOptions {
    top_k: Vec<usize>,
    betas: Vec<f64>,
    calibration_bins: usize,
    ranking: bool,
    thresholds: Option<Thresholds>,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    top_k: Vec<usize>,
    betas: Vec<f64>,
    calibration_bins: usize,
    ranking: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thresholds: Option<Thresholds>,
}

impl Default for Raw {
    fn default() -> Self {
        ClassificationOptions::default().into()
    }
}

impl From<ClassificationOptions> for Raw {
    fn from(options: ClassificationOptions) -> Self {
        let ClassificationOptions {
            top_k,
            betas,
            calibration_bins,
            ranking,
            thresholds,
        } = options;
        Self {
            top_k,
            betas,
            calibration_bins,
            ranking,
            thresholds,
        }
    }
}

impl TryFrom<Raw> for ClassificationOptions {
    type Error = OptionsError;

    fn try_from(raw: Raw) -> Result<Self, OptionsError> {
        let options = Self {
            ranking: raw.ranking,
            thresholds: raw.thresholds,
            ..Self::default()
        };
        options
            .with_top_k(&raw.top_k)?
            .with_betas(&raw.betas)?
            .with_calibration_bins(raw.calibration_bins)
    }
}

impl Default for ClassificationOptions {
    /// Top-5, no F-beta beside F1, 15 calibration bins, ranking metrics on; the likeliest class is decided for.
    fn default() -> Self {
        Self {
            top_k: vec![5],
            betas: Vec::new(),
            calibration_bins: 15,
            ranking: true,
            thresholds: None,
        }
    }
}

/// An option makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Top-0.
    #[error("top-k needs a k of 1 or more")]
    TopK,
    /// A beta that is not positive and finite.
    #[error("F-beta needs a positive, finite beta, found {beta}")]
    Beta {
        /// The value given.
        beta: f64,
    },
    /// No calibration bins, or absurdly many.
    #[error("the calibration error needs 1 to {limit} bins, found {bins}")]
    CalibrationBins {
        /// The value given.
        bins: usize,
        /// The most there may be.
        limit: usize,
    },
}

const MAX_BINS: usize = 100_000;

impl ClassificationOptions {
    /// Which top-k accuracies to compute. Those with a k of at least the number of classes would always be 1 and are
    /// left out of the report.
    ///
    /// # Errors
    /// [`OptionsError::TopK`] for a k of 0.
    pub fn with_top_k(mut self, top_k: &[usize]) -> Result<Self, OptionsError> {
        if top_k.contains(&0) {
            return Err(OptionsError::TopK);
        }
        self.top_k = top_k.to_vec();
        self.top_k.sort_unstable();
        self.top_k.dedup();
        Ok(self)
    }

    /// Which F-beta to compute beside F1.
    ///
    /// # Errors
    /// [`OptionsError::Beta`] unless all are positive and finite.
    pub fn with_betas(mut self, betas: &[f64]) -> Result<Self, OptionsError> {
        if let Some(beta) = betas
            .iter()
            .find(|beta| !(beta.is_finite() && **beta > 0.0))
        {
            return Err(OptionsError::Beta { beta: *beta });
        }
        self.betas = betas.to_vec();
        self.betas.sort_unstable_by(f64::total_cmp);
        self.betas.dedup();
        Ok(self)
    }

    /// The number of equal-width bins of the calibration error.
    ///
    /// # Errors
    /// [`OptionsError::CalibrationBins`] unless there are 1 to 100,000.
    pub fn with_calibration_bins(mut self, bins: usize) -> Result<Self, OptionsError> {
        if !(1..=MAX_BINS).contains(&bins) {
            return Err(OptionsError::CalibrationBins {
                bins,
                limit: MAX_BINS,
            });
        }
        self.calibration_bins = bins;
        Ok(self)
    }

    /// Whether to compute ROC AUC and average precision, which need memory for every probability.
    #[must_use]
    pub fn with_ranking(mut self, ranking: bool) -> Self {
        self.ranking = ranking;
        self
    }

    /// What is decided for, where it is not the likeliest class. There must be one threshold a class.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: Option<Thresholds>) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// The class that is decided for by these probabilities: by the thresholds, or the first of the highest.
    #[must_use]
    pub fn decide(&self, probabilities: &[f64]) -> u32 {
        match &self.thresholds {
            Some(thresholds) => thresholds.decide(probabilities),
            None => first_highest(probabilities).0,
        }
    }

    /// The thresholds that decide, if any.
    #[must_use]
    pub fn thresholds(&self) -> Option<&Thresholds> {
        self.thresholds.as_ref()
    }

    /// The k of the top-k accuracies, ascending.
    #[must_use]
    pub fn top_k(&self) -> &[usize] {
        &self.top_k
    }

    /// The betas beside 1, ascending.
    #[must_use]
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// The number of bins of the calibration error.
    #[must_use]
    pub fn calibration_bins(&self) -> usize {
        self.calibration_bins
    }

    /// Whether ROC AUC and average precision are computed.
    #[must_use]
    pub fn ranking(&self) -> bool {
        self.ranking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_refused() {
        let options = ClassificationOptions::default();
        assert_eq!(options.clone().with_top_k(&[1, 0]), Err(OptionsError::TopK));
        assert!(matches!(
            options.clone().with_betas(&[1.0, -2.0]),
            Err(OptionsError::Beta { beta: -2.0 })
        ));
        assert!(options.clone().with_betas(&[f64::NAN]).is_err());
        assert!(options.clone().with_calibration_bins(0).is_err());
        assert!(options.with_calibration_bins(1_000_000).is_err());
        assert!(serde_json::from_str::<ClassificationOptions>(r#"{"top_k": [0]}"#).is_err());
        let some =
            serde_json::from_str::<ClassificationOptions>(r#"{"betas": [2, 0.5, 2]}"#).unwrap();
        assert_eq!(some.betas(), [0.5, 2.0]);
        assert_eq!(some.top_k(), [5]);
        let back: ClassificationOptions =
            serde_json::from_str(&serde_json::to_string(&some).unwrap()).unwrap();
        assert_eq!(back, some);
    }
}
