//! Sums that keep their low bits.

/// Neumaier's compensated sum: the error does not grow with the number of terms, and the order of terms is the order of
/// calls. (Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974.)
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    total: f64,
    compensation: f64,
}

impl Sum {
    pub(super) fn add(&mut self, term: f64) {
        let total = self.total + term;
        self.compensation += if self.total.abs() >= term.abs() {
            (self.total - total) + term
        } else {
            (term - total) + self.total
        };
        self.total = total;
    }

    pub(super) fn value(self) -> f64 {
        self.total + self.compensation
    }
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        terms.into_iter().for_each(|term| sum.add(term));
        sum
    }
}

/// Arithmetic mean; NaN of nothing.
pub(super) fn mean(terms: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = terms.len() as f64;
    terms.collect::<Sum>().value() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_are_kept() {
        let sum: Sum = [1.0, 1e100, 1.0, -1e100].into_iter().collect();
        assert_eq!(sum.value(), 2.0);
        let sum: Sum = std::iter::repeat_n(0.1, 1_000_000).collect();
        assert_eq!(sum.value(), 100_000.0);
        assert!(mean([].into_iter()).is_nan());
    }
}
