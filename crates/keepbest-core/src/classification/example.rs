//! One example, as far as metrics need to know it.

use super::options::ClassificationOptions;
use super::row::{first_highest, log_loss_of};

/// An example with finite probabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    pub(super) label: u32,
    pub(super) decision: u32,
    /// The highest probability, and whether it is the label's.
    pub(super) confidence: f64,
    pub(super) is_likeliest: bool,
    pub(super) log_loss: f64,
    /// The number of classes that come before the label's.
    pub(super) ahead: usize,
}

impl Example {
    /// The example of a checked row of probabilities; `None` when one is not finite.
    pub(super) fn of(row: &[f64], label: u32, options: &ClassificationOptions) -> Option<Self> {
        if !row.iter().all(|p| p.is_finite()) {
            return None;
        }
        let (likeliest, confidence) = first_highest(row);
        Some(Self {
            label,
            decision: options.decide(row),
            confidence,
            is_likeliest: likeliest == label,
            log_loss: log_loss_of(row[label as usize]),
            ahead: ahead_of(row, label as usize),
        })
    }
}

/// The number of classes that are higher than this one, the higher class first among equals: scikit-learn's `top_k_accuracy_score`,
/// which sorts upwards, stably, and takes the end; with two classes it compares the probability of class 1 with one half.
fn ahead_of(row: &[f64], class: usize) -> usize {
    if let [_, second] = row {
        return usize::from((*second > 0.5) != (class == 1));
    }
    let own = row[class];
    row.iter()
        .enumerate()
        .filter(|(other, p)| **p > own || **p == own && *other > class)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_of_top_k_go_to_the_higher_class() {
        let row = [0.3, 0.3, 0.2, 0.2];
        let ahead: Vec<usize> = (0..4).map(|class| ahead_of(&row, class)).collect();
        assert_eq!(ahead, [1, 0, 3, 2]);
        assert_eq!(first_highest(&row).0, 0);
        // Of two classes at one half each, the first.
        assert_eq!((ahead_of(&[0.5, 0.5], 0), ahead_of(&[0.5, 0.5], 1)), (0, 1));
    }
}
