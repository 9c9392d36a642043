//! Where a run began to learn its training images by heart.

use keepbest_core::History;

/// From some epoch on the loss on val rose while the loss in training went on falling.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Overfitting {
    /// The epoch of the lowest loss on val: after it the gap opened.
    pub epoch: u64,
    /// Loss in training, then and at the end.
    pub train: (f64, f64),
    /// Loss on val, then and at the end.
    pub val: (f64, f64),
}

/// The least rise of the loss on val that is called one, as a part of it: smaller ones come and go.
const RISE: f64 = 0.02;

/// The number of evaluations that it must have lasted for, the last one included.
const LASTING: usize = 3;

impl Overfitting {
    /// Looks for it in `train/loss` and `val/loss`. Both are the run's own criterion, but the former is the mean over the
    /// epoch, of images that augmentation changed: so only how they move is compared, not how far apart they are.
    #[must_use]
    pub fn of(history: &History) -> Option<Self> {
        let points: Vec<(u64, f64, f64)> = history
            .iter()
            .filter_map(|record| {
                let train = record.metrics.get("train/loss")?;
                let val = record.metrics.get("val/loss")?;
                (train.is_finite() && val.is_finite()).then_some((record.epoch, train, val))
            })
            .collect();
        let lowest = (0..points.len()).min_by(|a, b| points[*a].2.total_cmp(&points[*b].2))?;
        let (epoch, train, val) = points[lowest];
        let &(_, last_train, last_val) = points.last()?;
        let lasting = points[lowest + 1..].iter().rev().take(LASTING);
        let risen = lasting.filter(|point| point.2 > val * (1.0 + RISE)).count();
        (last_train < train && risen == LASTING).then_some(Self {
            epoch,
            train: (train, last_train),
            val: (val, last_val),
        })
    }

    /// In words, after which a full stop may stand.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { epoch, train, val } = self;
        format!(
            "after epoch {epoch} the loss on val rose from {:.4} to {:.4} while that in training fell from {:.4} to {:.4}",
            val.0, val.1, train.0, train.1
        )
    }
}

#[cfg(test)]
mod tests {
    use keepbest_core::{EvaluationRecord, Metrics, Verdict};

    use super::*;

    fn history(losses: &[(f64, f64)]) -> History {
        let records = losses.iter().enumerate();
        records
            .map(|(i, (train, val))| EvaluationRecord {
                step: i as u64 + 1,
                epoch: i as u64 + 1,
                metrics: Metrics::from_iter([("train/loss", *train), ("val/loss", *val)]),
                verdict: Verdict::Improved {
                    reason: String::new(),
                },
                score: None,
                value: 0.0,
                digest: None,
                others: Vec::new(),
                weights: None,
                unscheduled: false,
            })
            .collect()
    }

    #[test]
    fn the_gap_opens_where_val_turns() {
        let found = Overfitting::of(&history(&[
            (1.0, 1.1),
            (0.6, 0.8),
            (0.5, 0.9),
            (0.4, 0.9),
            (0.2, 1.0),
        ]));
        assert_eq!(found.unwrap().epoch, 2);
        assert_eq!(
            found.unwrap().words(),
            "after epoch 2 the loss on val rose from 0.8000 to 1.0000 while that in training fell from 0.6000 to 0.2000"
        );
        // Both fall; both rise; a rise within the noise; one that did not last; nothing measured.
        for losses in [
            &[(1.0, 1.1), (0.6, 0.8), (0.5, 0.7), (0.4, 0.6)][..],
            &[(0.6, 0.8), (0.9, 1.2), (1.0, 1.3), (1.1, 1.4)],
            &[(0.6, 0.8), (0.5, 0.81), (0.4, 0.81), (0.3, 0.81)],
            &[(0.6, 0.8), (0.5, 0.9), (0.4, 0.9)],
            &[],
        ] {
            assert_eq!(Overfitting::of(&history(losses)), None);
        }
    }
}
