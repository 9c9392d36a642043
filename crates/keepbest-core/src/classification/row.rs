//! One row of probabilities: its highest, and the log loss of its label.

/// The log loss of an example with this probability of its label, kept finite as scikit-learn does.
#[must_use]
pub fn log_loss_of(probability: f64) -> f64 {
    -libm::log(probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON))
}

/// The place of the first of the highest values, the prediction, and the value: numpy's `argmax`.
#[must_use]
pub fn first_highest(row: &[f64]) -> (u32, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (class, p) in (0..).zip(row) {
        if *p > best.1 {
            best = (class, *p);
        }
    }
    best
}
