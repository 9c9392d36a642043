//! Metrics of the order of scores: ROC AUC and average precision.

use super::sum::Sum;

/// Every probability, row by row, as compact as it can be without changing one.
///
/// Probabilities are not negative, so the bit patterns order as the numbers do, and the sign bit is free.
#[derive(Debug, Clone)]
pub(super) enum Scores {
    /// All so far are exactly representable in single precision.
    Single(Vec<u32>),
    Double(Vec<u64>),
}

/// The bits of a finite number that is not negative; -0.0 counts as 0.0.
fn bits(value: f64) -> u64 {
    (value + 0.0).to_bits()
}

impl Scores {
    pub(super) fn new() -> Self {
        Self::Single(Vec::new())
    }

    pub(super) fn extend(&mut self, row: &[f64]) {
        if let Self::Single(scores) = self {
            if row.iter().all(|p| f64::from(*p as f32) == *p) {
                scores.extend(row.iter().map(|p| (*p as f32 + 0.0).to_bits()));
                return;
            }
            *self = Self::Double(
                scores
                    .iter()
                    .map(|score| bits(f32::from_bits(*score).into()))
                    .collect(),
            );
        }
        if let Self::Double(scores) = self {
            scores.extend(row.iter().map(|p| bits(*p)));
        }
    }

    /// ROC AUC and average precision of each class against the rest.
    pub(super) fn one_vs_rest(&self, classes: usize, labels: &[u32]) -> Vec<Ranking> {
        (0..classes)
            .map(|class| {
                let positives = labels.iter().map(|label| *label as usize == class);
                match self {
                    Self::Single(scores) => {
                        let column = scores.iter().skip(class).step_by(classes);
                        rank(
                            column
                                .zip(positives)
                                .map(|(score, positive)| score << 1 | u32::from(positive)),
                        )
                    }
                    Self::Double(scores) => {
                        let column = scores.iter().skip(class).step_by(classes);
                        rank(
                            column
                                .zip(positives)
                                .map(|(score, positive)| score << 1 | u64::from(positive)),
                        )
                    }
                }
            })
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ranking {
    /// NaN without a positive or without a negative example.
    pub(super) roc_auc: f64,
    /// 0 without a positive example.
    pub(super) average_precision: f64,
}

/// A score with the label in its lowest bit.
trait Key: Ord + Copy {
    fn score(self) -> u64;
    fn is_positive(self) -> bool;
}

impl Key for u32 {
    fn score(self) -> u64 {
        u64::from(self >> 1)
    }

    fn is_positive(self) -> bool {
        self & 1 == 1
    }
}

impl Key for u64 {
    fn score(self) -> u64 {
        self >> 1
    }

    fn is_positive(self) -> bool {
        self & 1 == 1
    }
}

/// One pass over the scores from the highest down; equal scores are one threshold.
fn rank<K: Key>(keys: impl Iterator<Item = K>) -> Ranking {
    let mut keys: Vec<K> = keys.collect();
    keys.sort_unstable();
    let mut curve = Curve::default();
    for equal in keys.chunk_by(|a, b| a.score() == b.score()).rev() {
        let hits = equal.iter().filter(|key| key.is_positive()).count() as u64;
        curve.threshold(hits, equal.len() as u64 - hits);
    }
    curve.ranking()
}

/// What has been counted from the highest threshold down.
///
/// The area under the ROC curve is the share of pairs of a positive and a negative in which the positive has the higher
/// score, equal scores counting half: counted in integers, rounded once. Average precision is the sum over
/// thresholds of precision times the step in recall.
#[derive(Debug, Clone, Default)]
pub(super) struct Curve {
    positives: u64,
    negatives: u64,
    /// Pairs won, doubled.
    won: u128,
    precision_steps: Sum,
}

impl Curve {
    /// Takes in the positive and negative examples of the next lower score.
    pub(super) fn threshold(&mut self, hits: u64, misses: u64) {
        self.won += u128::from(misses) * u128::from(2 * self.positives + hits);
        self.positives += hits;
        self.negatives += misses;
        if hits > 0 {
            let precision = self.positives as f64 / (self.positives + self.negatives) as f64;
            self.precision_steps.add(hits as f64 * precision);
        }
    }

    pub(super) fn ranking(&self) -> Ranking {
        let pairs = u128::from(self.positives) * u128::from(self.negatives);
        Ranking {
            roc_auc: if pairs == 0 {
                f64::NAN
            } else {
                self.won as f64 / (2 * pairs) as f64
            },
            average_precision: if self.positives == 0 {
                0.0
            } else {
                self.precision_steps.value() / self.positives as f64
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition: over all pairs.
    fn auc_by_pairs(scores: &[f64], positive: &[bool]) -> f64 {
        let (mut won, mut pairs) = (0.0, 0.0);
        for (s, p) in scores.iter().zip(positive) {
            for (t, q) in scores.iter().zip(positive) {
                if *p && !*q {
                    pairs += 1.0;
                    won += if s > t {
                        1.0
                    } else if s == t {
                        0.5
                    } else {
                        0.0
                    };
                }
            }
        }
        won / pairs
    }

    #[test]
    fn area_is_the_share_of_pairs() {
        let mut state: u64 = 7;
        for round in 0..50 {
            let mut scores = Vec::new();
            let mut positive = Vec::new();
            for _ in 0..40 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Few distinct values, so that many are equal; some not representable in single precision.
                scores.push((state >> 60) as f64 / if round % 2 == 0 { 16.0 } else { 17.0 });
                positive.push(state >> 33 & 3 == 0);
            }
            let labels: Vec<u32> = positive.iter().map(|p| u32::from(!p)).collect();
            let mut stored = Scores::new();
            scores
                .iter()
                .for_each(|score| stored.extend(&[*score, 1.0 - score]));
            assert_eq!(matches!(stored, Scores::Single(_)), round % 2 == 0);
            let ranking = stored.one_vs_rest(2, &labels);
            let expected = auc_by_pairs(&scores, &positive);
            assert!((ranking[0].roc_auc - expected).abs() < 1e-14);
        }
    }

    #[test]
    fn widening_keeps_what_is_there() {
        let mut scores = Scores::new();
        scores.extend(&[0.25, -0.0, 1e-45f32.into()]);
        scores.extend(&[0.1]);
        let Scores::Double(bits) = scores else {
            panic!("0.1 is not a single")
        };
        let back: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
        assert_eq!(back, [0.25, 0.0, f64::from(1e-45f32), 0.1]);
        assert!(back[1].is_sign_positive());
    }

    #[test]
    fn without_positives_or_negatives() {
        let mut scores = Scores::new();
        scores.extend(&[0.5, 0.5]);
        let ranking = scores.one_vs_rest(2, &[0]);
        assert!(ranking[0].roc_auc.is_nan() && ranking[1].roc_auc.is_nan());
        assert_eq!(ranking[0].average_precision, 1.0);
        assert_eq!(ranking[1].average_precision, 0.0);
    }
}
