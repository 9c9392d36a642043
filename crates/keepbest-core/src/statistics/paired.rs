//! Two models on the same examples.

/// McNemar's exact test (McNemar 1947): the two-sided p-value that two models are equally often right, given on how many
/// examples only the first is right, and on how many only the second. Examples that both get right, or both wrong, tell
/// nothing. 1 when they never differ.
#[must_use]
pub fn mcnemar_exact(only_first: u64, only_second: u64) -> f64 {
    let n = only_first.saturating_add(only_second) as f64;
    let fewer = only_first.min(only_second);
    if only_first == only_second {
        return 1.0;
    }
    // Twice the lower tail of a fair coin's binomial, summed from its largest term down.
    let k = fewer as f64;
    let log_largest = libm::lgamma(n + 1.0)
        - libm::lgamma(k + 1.0)
        - libm::lgamma(n - k + 1.0)
        - n * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    let mut at = k;
    while at > 0.0 {
        term *= at / (n - at + 1.0);
        sum += term;
        at -= 1.0;
        if term < sum * 1e-18 {
            break;
        }
    }
    (2.0 * sum * libm::exp(log_largest)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::mcnemar_exact;

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(7, 7), 1.0);
        // 5 against 0: 2 / 32.
        assert!((mcnemar_exact(5, 0) - 0.0625).abs() < 1e-12);
        // 1 against 3: 2 (1 + 4) / 16.
        assert!((mcnemar_exact(3, 1) - 0.625).abs() < 1e-12);
        assert_eq!(mcnemar_exact(3, 1), mcnemar_exact(1, 3));
    }
}
