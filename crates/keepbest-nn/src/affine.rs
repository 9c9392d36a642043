//! Batch norm as `x * scale + shift`, from whatever statistics are in use.

/// `1 / sqrt(variance + eps)` of each channel, rounded once.
pub(crate) fn inverse_deviation(variance: &[f32], eps: f64, inv_std: &mut [f32]) {
    for (inv_std, variance) in inv_std.iter_mut().zip(variance) {
        *inv_std = (1.0 / libm::sqrt(f64::from(*variance) + eps)) as f32;
    }
}

/// `scale = gamma * inv_std` and `shift = beta - mean * scale` of each channel.
pub(crate) fn affine(
    mean: &[f32],
    inv_std: &[f32],
    gamma: &[f32],
    beta: &[f32],
    scale: &mut [f32],
    shift: &mut [f32],
) {
    for c in 0..mean.len() {
        scale[c] = gamma[c] * inv_std[c];
        shift[c] = (f64::from(beta[c]) - f64::from(mean[c]) * f64::from(scale[c])) as f32;
    }
}
