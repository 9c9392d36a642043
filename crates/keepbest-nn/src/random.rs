//! Random starts and masks: keys for what is drawn, and what is drawn by them.

use keepbest_kernels::random::{bits, mix};

/// A key for a purpose: `parts` say which (a stream number, a layer, a step).
pub(crate) fn key(seed: u64, parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(mix(seed ^ 0x6B65_6570_6265_7374), |key, part| {
            mix(bits(key, *part))
        })
}

/// Uniform in `[0, 1)`, 53 bits.
pub(crate) fn uniform(key: u64, position: u64) -> f64 {
    (bits(key, position) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Two standard normals (Box and Muller 1958), those at positions `2 * pair` and the next of the sequence.
pub(crate) fn normal_pair(key: u64, pair: u64) -> [f64; 2] {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(key, 2 * pair)));
    let angle = std::f64::consts::TAU * uniform(key, 2 * pair + 1);
    [radius * libm::cos(angle), radius * libm::sin(angle)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000u64;
        let k = key(7, &[1, 2]);
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        assert!((mean(&|i| uniform(k, i)) - 0.5).abs() < 3e-3);
        let normal = |i: u64| normal_pair(k, i / 2)[(i % 2) as usize];
        assert!(mean(&|i| normal(i)).abs() < 1e-2);
        assert!((mean(&|i| normal(i) * normal(i)) - 1.0).abs() < 2e-2);
        assert!((mean(&|i| normal(i) * normal(i ^ 1))).abs() < 1e-2);
    }
}
