//! Whether a model is right as often as it says.

use serde::{Deserialize, Serialize};

use super::sum::Sum;

/// The examples whose confidence, the highest probability, lies in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The number of examples.
    pub count: u64,
    /// The number of them that are right.
    pub correct: u64,
    /// Their mean confidence, 0 when there are none.
    pub confidence: f64,
}

/// Bins `(i/M, (i+1)/M]` of confidence, equal in width. Guo et al., "On Calibration of Modern Neural Networks", 2017,
/// section 2.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    bins: Vec<(u64, u64, Sum)>,
}

impl Calibration {
    pub(super) fn new(bins: usize) -> Self {
        Self {
            bins: vec![(0, 0, Sum::default()); bins],
        }
    }

    pub(super) fn record(&mut self, confidence: f64, correct: bool, times: u64) {
        let index = bin_of(confidence, self.bins.len());
        if let Some((count, right, sum)) = self.bins.get_mut(index) {
            *count += times;
            *right += u64::from(correct) * times;
            sum.add(confidence * times as f64);
        }
    }

    /// The weighted mean over bins of |accuracy - confidence|.
    pub(super) fn error(&self) -> f64 {
        let total: u64 = self.bins.iter().map(|(count, _, _)| count).sum();
        let gaps: Sum = self
            .bins
            .iter()
            .map(|(_, correct, sum)| (*correct as f64 - sum.value()).abs())
            .collect();
        gaps.value() / total as f64
    }

    pub(super) fn bins(&self) -> Vec<CalibrationBin> {
        let bin = |(count, correct, sum): &(u64, u64, Sum)| {
            let confidence = if *count > 0 {
                sum.value() / *count as f64
            } else {
                0.0
            };
            CalibrationBin {
                count: *count,
                correct: *correct,
                confidence,
            }
        };
        self.bins.iter().map(bin).collect()
    }
}

/// The `i` with i/M < confidence <= (i+1)/M, the edges being the doubles nearest to the fractions.
fn bin_of(confidence: f64, bins: usize) -> usize {
    let edge = |i: usize| i as f64 / bins as f64;
    // A guess that rounding may have put one off.
    let mut i = ((confidence * bins as f64) as usize).min(bins.saturating_sub(1));
    while i > 0 && confidence <= edge(i) {
        i -= 1;
    }
    while i + 1 < bins && confidence > edge(i + 1) {
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bin_below() {
        for bins in [1, 2, 3, 7, 10, 15, 100, 997] {
            for i in 1..=bins {
                let edge = i as f64 / bins as f64;
                assert_eq!(bin_of(edge, bins), i - 1, "{i}/{bins}");
                assert_eq!(
                    bin_of(edge.next_up(), bins),
                    i.min(bins - 1),
                    "above {i}/{bins}"
                );
                assert_eq!(bin_of(edge.next_down(), bins), i - 1, "below {i}/{bins}");
            }
            assert_eq!(bin_of(0.0, bins), 0);
        }
    }
}
