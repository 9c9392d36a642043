//! The training criterion, computed exactly for evaluations.

/// Cross entropy with label smoothing and class weights, `torch.nn.CrossEntropyLoss(reduction="mean")`, in `f64`.
///
/// With weights `w`, smoothing `s` and `C` classes, the mean over images of label `y` is
/// `sum((1 - s) * w[y] * -log p[y] + s / C * sum_c(w[c] * -log p[c])) / sum(w[y])`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Criterion {
    /// Part of the target spread over all classes.
    pub label_smoothing: f64,
    /// A weight for each class; all 1 when absent.
    pub class_weights: Option<Vec<f64>>,
}

/// A mean criterion in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CriterionSum {
    sum: f64,
    weight: f64,
}

impl Criterion {
    /// Adds one image: its log-probabilities by class and its label.
    pub(crate) fn add(&self, sum: &mut CriterionSum, log_probabilities: &[f64], label: u32) {
        let weight = |class: usize| {
            self.class_weights
                .as_ref()
                .map_or(1.0, |weights| weights[class])
        };
        let label = label as usize;
        let hit = -weight(label) * log_probabilities[label];
        let mut loss = (1.0 - self.label_smoothing) * hit;
        if self.label_smoothing > 0.0 {
            let spread: f64 = log_probabilities
                .iter()
                .enumerate()
                .map(|(class, log)| -weight(class) * log)
                .sum();
            loss += self.label_smoothing / log_probabilities.len() as f64 * spread;
        }
        sum.sum += loss;
        sum.weight += weight(label);
    }
}

impl CriterionSum {
    /// Adds what another has summed.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    /// The mean; NaN of nothing.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

/// Logarithms of the softmax of one image's scores, in `f64`. `out` has as many places as `logits`.
pub(crate) fn log_softmax(logits: &[f32], out: &mut [f64]) {
    // NaN among the scores has to come out as NaN, which `f64::max` would hide.
    let top = logits.iter().fold(f64::NEG_INFINITY, |top, &x| {
        if f64::from(x) > top {
            f64::from(x)
        } else {
            top
        }
    });
    let sum: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - top)).sum();
    let log_sum = libm::log(sum);
    for (out, &x) in out.iter_mut().zip(logits) {
        *out = f64::from(x) - top - log_sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        logits: Vec<Vec<f32>>,
        labels: Vec<u32>,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        smoothing: f64,
        weights: Option<Vec<f64>>,
        loss: f64,
    }

    #[test]
    fn equals_pytorch() {
        let golden: Golden =
            serde_json::from_str(include_str!("../tests/golden/criterion.json")).unwrap();
        assert_eq!(golden.cases.len(), 6);
        for case in golden.cases {
            let criterion = Criterion {
                label_smoothing: case.smoothing,
                class_weights: case.weights,
            };
            let (mut sum, mut row) = (CriterionSum::default(), [0.0; 4]);
            for (logits, label) in golden.logits.iter().zip(&golden.labels) {
                log_softmax(logits, &mut row);
                criterion.add(&mut sum, &row, *label);
            }
            let (found, expected) = (sum.mean(), case.loss);
            assert!(
                (found - expected).abs() <= 1e-13 * expected.abs(),
                "{criterion:?}: {found}, PyTorch {expected}"
            );
        }
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays_nan() {
        let mut row = [0.0; 2];
        log_softmax(&[1e30, -1e30], &mut row);
        assert_eq!(row[0], 0.0);
        assert!(row[1].is_finite() && row[1] < -1e29);
        log_softmax(&[f32::NAN, 1.0], &mut row);
        assert!(row[0].is_nan() && row[1].is_nan());
    }
}
