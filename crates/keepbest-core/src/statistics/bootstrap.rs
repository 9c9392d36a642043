//! Resampling the examples (Efron 1979).

use serde::{Deserialize, Serialize};

use super::interval::check_confidence;
use super::random::SplitMix64;
use super::{Interval, StatisticsError};

/// A bootstrap: how often, from which seed, for which confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The number of times that the examples are drawn anew.
    pub replicates: u32,
    /// Makes the draws repeatable.
    pub seed: u64,
    /// The confidence of the intervals.
    pub confidence: f64,
}

impl Default for Bootstrap {
    /// 2,000 replicates, seed 0, 95 %.
    fn default() -> Self {
        Self {
            replicates: 2000,
            seed: 0,
            confidence: 0.95,
        }
    }
}

/// The advantage of the first of two models on the same examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean of first minus second.
    pub difference: f64,
    /// The range in which the true difference may lie.
    pub interval: Interval,
    /// Two-sided: how likely a difference at least so large is, were there none. Never 0: at least one over the replicates.
    pub p_value: f64,
}

/// The amount by which the score of a chosen best flatters it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelectionOptimism {
    /// Mean score of the candidate with the highest mean.
    pub score: f64,
    /// By how much, on average, the score of the chosen is above what it would score on examples it was not chosen by.
    pub optimism: f64,
    /// The share of examples drawn anew on which the candidate chosen on all is chosen too, 0 to 1.
    pub agreement: f64,
}

impl Bootstrap {
    fn check(&self, examples: usize) -> Result<u32, StatisticsError> {
        check_confidence(self.confidence)?;
        if self.replicates == 0 {
            return Err(StatisticsError::NoReplicates);
        }
        match u32::try_from(examples) {
            Ok(0) | Err(_) => Err(StatisticsError::NoExamples),
            Ok(n) => Ok(n),
        }
    }

    /// Draws `n` of `n` examples with replacement, once a replicate.
    fn draws(&self, n: u32) -> impl Iterator<Item = Vec<u32>> + use<> {
        let seed = self.seed;
        (0..u64::from(self.replicates)).map(move |replicate| {
            let mut random = SplitMix64::new(seed, replicate);
            (0..n).map(|_| random.below(n)).collect()
        })
    }

    /// Measures several statistics of `examples` examples, such as metrics, or one metric of several models: of all examples, and
    /// of each draw of them, which is the same for all. `measure` is given the examples' places and fills in a value for each
    /// statistic; NaN where there is none (a class that was not drawn, say).
    ///
    /// # Errors
    /// When there are no examples or replicates, or the confidence is not between 0 and 1; and whatever `measure` gives.
    pub fn replicate<E: From<StatisticsError>>(
        &self,
        examples: usize,
        statistics: usize,
        mut measure: impl FnMut(&[u32], &mut [f64]) -> Result<(), E>,
    ) -> Result<Vec<Replicates>, E> {
        let n = self.check(examples)?;
        let mut values = vec![f64::NAN; statistics];
        let all: Vec<u32> = (0..n).collect();
        measure(&all, &mut values)?;
        let mut found: Vec<Replicates> = values
            .iter()
            .map(|value| Replicates {
                value: *value,
                drawn: Vec::with_capacity(self.replicates as usize),
                confidence: self.confidence,
            })
            .collect();
        for draw in self.draws(n) {
            values.fill(f64::NAN);
            measure(&draw, &mut values)?;
            for (found, value) in found.iter_mut().zip(&values) {
                found.drawn.push(*value);
            }
        }
        Ok(found)
    }

    /// Compares two models by a value of each example, such as its loss or 1 for right and 0 for wrong: the mean of first minus
    /// second, tested as in [`Replicates::minus`].
    ///
    /// # Errors
    /// As [`replicate`](Self::replicate); when the numbers of examples differ, or a value is not finite.
    pub fn paired_difference(
        &self,
        first: &[f64],
        second: &[f64],
    ) -> Result<PairedDifference, StatisticsError> {
        check_pairs(first, second)?;
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        let mut found = self.replicate(first.len(), 1, |draw, mean| {
            mean[0] = mean_of(&differences, draw);
            Ok::<(), StatisticsError>(())
        })?;
        let found = found.pop().and_then(Replicates::against_none);
        found.ok_or(StatisticsError::NoReplicates)
    }

    /// Estimates how much the score of the best of several candidates is due to the choice, from their values on each example:
    /// [`SelectionOptimism::of`] their means.
    ///
    /// # Errors
    /// As [`paired_difference`](Self::paired_difference), and when there is no candidate.
    pub fn selection_optimism(
        &self,
        candidates: &[&[f64]],
    ) -> Result<SelectionOptimism, StatisticsError> {
        let first = candidates.first().ok_or(StatisticsError::NoExamples)?;
        for candidate in candidates {
            check_pairs(first, candidate)?;
        }
        let means = self.replicate(first.len(), candidates.len(), |draw, means| {
            for (mean, values) in means.iter_mut().zip(candidates) {
                *mean = mean_of(values, draw);
            }
            Ok::<(), StatisticsError>(())
        })?;
        SelectionOptimism::of(&means).ok_or(StatisticsError::NoReplicates)
    }
}

/// A statistic of all examples, and of draws of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    /// The value of all examples.
    pub value: f64,
    /// The value of each draw.
    drawn: Vec<f64>,
    confidence: f64,
}

impl Replicates {
    /// The percentile interval. Draws in which the statistic is NaN are left out; `None` if it always is.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        let mut values = self.drawn.clone();
        values.retain(|value| !value.is_nan());
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        (!values.is_empty()).then(|| Interval {
            low: percentile(&values, tail),
            high: percentile(&values, 1.0 - tail),
            confidence: self.confidence,
        })
    }

    /// By how much it is above another statistic of the same draws. The p-value is that of the bootstrap centred on no difference
    /// (Efron and Tibshirani 1993, section 16.4). Draws in which either is NaN are left out; `None` if either is NaN on all
    /// examples or in every draw.
    ///
    /// # Errors
    /// [`StatisticsError::NotPaired`] when the numbers of draws differ.
    pub fn minus(&self, other: &Self) -> Result<Option<PairedDifference>, StatisticsError> {
        if self.drawn.len() != other.drawn.len() {
            return Err(StatisticsError::NotPaired {
                first: self.drawn.len(),
                second: other.drawn.len(),
            });
        }
        let pairs = self.drawn.iter().zip(&other.drawn);
        let difference = Self {
            value: self.value - other.value,
            drawn: pairs.map(|(a, b)| a - b).collect(),
            confidence: self.confidence,
        };
        Ok(difference.against_none())
    }

    /// What a difference says against there being none.
    fn against_none(mut self) -> Option<PairedDifference> {
        self.drawn.retain(|value| !value.is_nan());
        let interval = self.interval().filter(|_| !self.value.is_nan())?;
        // Rounding of equal differences must not count as a smaller one.
        let least = self.value.abs() * (1.0 - 1e-9);
        let as_far = self
            .drawn
            .iter()
            .filter(|drawn| (*drawn - self.value).abs() >= least)
            .count();
        Some(PairedDifference {
            difference: self.value,
            p_value: (as_far + 1) as f64 / (self.drawn.len() + 1) as f64,
            interval,
        })
    }
}

impl SelectionOptimism {
    /// From the candidates' scores on the same draws, higher being better; of equals the earlier is chosen, and never one that is
    /// NaN. With one candidate the optimism is 0. `None` without candidates or draws, or when there is nothing to choose.
    ///
    /// In each draw the best there is chosen, and its score there compared with its score on all examples (the optimism of
    /// Efron and Tibshirani 1993, section 17.6). The scores on all examples, among which the draws choose, already hold noise as
    /// large as that of the draws; where candidates are truly alike this takes 1 / sqrt 2 off, which is put back. Where they
    /// truly differ the estimate is up to that factor too high.
    #[must_use]
    pub fn of(candidates: &[Replicates]) -> Option<Self> {
        let chosen = best_of(candidates.iter().map(|candidate| candidate.value))?;
        let draws = candidates
            .iter()
            .map(|candidate| candidate.drawn.len())
            .min()?;
        let (mut flattery, mut agreed, mut counted) = (0.0, 0u32, 0u32);
        for draw in 0..draws {
            let scores = candidates.iter().map(|candidate| candidate.drawn[draw]);
            let Some(best) = best_of(scores) else {
                continue;
            };
            counted += 1;
            agreed += u32::from(best == chosen);
            flattery += candidates[best].drawn[draw] - candidates[best].value;
        }
        let counted = (counted > 0).then_some(f64::from(counted))?;
        let optimism = std::f64::consts::SQRT_2 * flattery / counted;
        Some(Self {
            score: candidates[chosen].value,
            optimism: if candidates.len() == 1 { 0.0 } else { optimism },
            agreement: f64::from(agreed) / counted,
        })
    }
}

/// The first of the highest; `None` when all are NaN.
fn best_of(scores: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, score) in scores.enumerate() {
        if score > best.map_or(f64::NEG_INFINITY, |(_, score)| score) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

/// Whether both have a finite value for each of as many examples.
fn check_pairs(first: &[f64], second: &[f64]) -> Result<(), StatisticsError> {
    if first.len() != second.len() {
        return Err(StatisticsError::NotPaired {
            first: first.len(),
            second: second.len(),
        });
    }
    check_finite(first)?;
    check_finite(second)
}

fn check_finite(values: &[f64]) -> Result<(), StatisticsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(example) => Err(StatisticsError::NotFinite {
            example,
            value: values[example],
        }),
        None => Ok(()),
    }
}

fn mean_of(values: &[f64], at: &[u32]) -> f64 {
    at.iter().map(|&at| values[at as usize]).sum::<f64>() / at.len() as f64
}

/// Linear between order statistics, as numpy's default.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_everywhere_has_no_width() {
        let found = Bootstrap::default().replicate(50, 1, |draw, mean| {
            mean[0] = mean_of(&[0.25; 50], draw);
            Ok::<(), StatisticsError>(())
        });
        assert_eq!(
            found.unwrap()[0].interval(),
            Some(Interval {
                low: 0.25,
                high: 0.25,
                confidence: 0.95
            })
        );
    }

    #[test]
    fn bad_input_is_an_error() {
        let bootstrap = Bootstrap::default();
        assert_eq!(
            bootstrap.paired_difference(&[], &[]),
            Err(StatisticsError::NoExamples)
        );
        assert_eq!(
            bootstrap.paired_difference(&[1.0], &[1.0, 0.0]),
            Err(StatisticsError::NotPaired {
                first: 1,
                second: 2
            })
        );
        assert!(matches!(
            bootstrap.paired_difference(&[1.0, f64::NAN], &[1.0, 0.0]),
            Err(StatisticsError::NotFinite { example: 1, .. })
        ));
        let none = Bootstrap {
            replicates: 0,
            ..bootstrap
        };
        assert_eq!(
            none.paired_difference(&[1.0], &[0.0]),
            Err(StatisticsError::NoReplicates)
        );
        let sure = Bootstrap {
            confidence: 1.0,
            ..bootstrap
        };
        assert_eq!(
            sure.paired_difference(&[1.0], &[0.0]),
            Err(StatisticsError::Confidence { found: 1.0 })
        );
    }

    #[test]
    fn equal_models_do_not_differ() {
        let values: Vec<f64> = (0..100).map(|at| f64::from(at % 7)).collect();
        let found = Bootstrap::default()
            .paired_difference(&values, &values)
            .unwrap();
        assert_eq!((found.difference, found.p_value), (0.0, 1.0));
    }
}
