//! Logits to probabilities.

/// Appends the softmax of each row of `logits` (`[n, classes]`, row-major) to `out`, in double precision: exp(x - max)
/// over its sum, added from class 0 up, so that it is the same to the last bit everywhere.
///
/// A row with a NaN or a positive infinity, or with nothing but negative infinities, gives NaN. A last row that is not
/// whole is left out, and so is everything when `classes` is 0.
///
/// ```
/// let mut probabilities = Vec::new();
/// keepbest_core::classification::softmax_into(&[0.0, 0.0, 1000.0, 0.0], 2, &mut probabilities);
/// assert_eq!(probabilities, [0.5, 0.5, 1.0, 0.0]);
/// ```
pub fn softmax_into(logits: &[f32], classes: usize, out: &mut Vec<f64>) {
    if classes == 0 {
        return;
    }
    out.reserve(logits.len());
    for row in logits.chunks_exact(classes) {
        let max =
            row.iter().copied().fold(
                f32::NEG_INFINITY,
                |a, b| if a.is_nan() || a > b { a } else { b },
            );
        let start = out.len();
        let mut sum = 0.0;
        for logit in row {
            let power = libm::exp(f64::from(*logit) - f64::from(max));
            sum += power;
            out.push(power);
        }
        for power in &mut out[start..] {
            *power /= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(logits: &[f32], classes: usize) -> Vec<f64> {
        let mut out = Vec::new();
        softmax_into(logits, classes, &mut out);
        out
    }

    #[test]
    fn rows_are_probabilities() {
        let row = softmax(&[1.0, -2.0, 0.5, 3e38, -3e38, 0.0], 3);
        assert_eq!(&row[3..], [1.0, 0.0, 0.0]);
        assert!((row[..3].iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!(row[0] > row[2] && row[2] > row[1]);
        assert_eq!(softmax(&[f32::NEG_INFINITY, 0.0], 2), [0.0, 1.0]);
    }

    #[test]
    fn what_is_not_finite_gives_nan() {
        for bad in [
            [f32::NAN, 0.0],
            [0.0, f32::NAN],
            [f32::INFINITY, 0.0],
            [f32::NEG_INFINITY; 2],
        ] {
            assert!(softmax(&bad, 2).iter().any(|p| p.is_nan()), "{bad:?}");
        }
        assert!(softmax(&[1.0], 0).is_empty());
        assert!(softmax(&[1.0], 2).is_empty());
    }
}
