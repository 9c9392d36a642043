//! Resampling the examples (Efron 1979).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::interval::check_confidence;
use super::random::SplitMix64;
use super::{Interval, StatisticsError};
use crate::metrics::Metrics;

/// A bootstrap: how often, from which seed, for which confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How many times the examples are drawn anew.
    pub replicates: u32,
    /// Makes the draws repeatable.
    pub seed: u64,
    /// Of the intervals.
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

/// How much better the first of two models is on the same examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean of first minus second.
    pub difference: f64,
    /// Where the true difference may lie.
    pub interval: Interval,
    /// Two-sided: how likely a difference at least so large is, were there none. Never 0: at least one over the replicates.
    pub p_value: f64,
}

/// How much the score of a chosen best flatters it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelectionOptimism {
    /// Mean score of the candidate with the highest mean.
    pub score: f64,
    /// By how much, on average, the score of the chosen is above what it would score on examples it was not chosen by.
    pub optimism: f64,
    /// How often the candidate chosen on all examples is also chosen on examples drawn anew, 0 to 1.
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

    fn percentiles(&self, mut values: Vec<f64>) -> Interval {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Interval {
            low: percentile(&values, tail),
            high: percentile(&values, 1.0 - tail),
            confidence: self.confidence,
        }
    }

    /// The percentile interval of any statistic of `examples` examples: `statistic` is given the drawn examples' places.
    /// Replicates in which it is NaN (a class that was not drawn, say) are left out; `None` if it always is.
    ///
    /// # Errors
    /// When there are no examples or replicates, or the confidence is not between 0 and 1.
    pub fn interval(
        &self,
        examples: usize,
        mut statistic: impl FnMut(&[u32]) -> f64,
    ) -> Result<Option<Interval>, StatisticsError> {
        let n = self.check(examples)?;
        let values: Vec<f64> = self
            .draws(n)
            .map(|draw| statistic(&draw))
            .filter(|value| !value.is_nan())
            .collect();
        Ok((!values.is_empty()).then(|| self.percentiles(values)))
    }

    /// The percentile interval of each of many metrics: `metrics` is given the drawn examples' places, and names the same
    /// metrics each time. A metric that is NaN in every replicate has no interval.
    ///
    /// # Errors
    /// As [`interval`](Self::interval), and whatever `metrics` gives.
    pub fn metric_intervals<E: From<StatisticsError>>(
        &self,
        examples: usize,
        mut metrics: impl FnMut(&[u32]) -> Result<Metrics, E>,
    ) -> Result<BTreeMap<String, Interval>, E> {
        let n = self.check(examples)?;
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for draw in self.draws(n) {
            for (name, value) in metrics(&draw)?.iter().filter(|(_, value)| !value.is_nan()) {
                match values.get_mut(name) {
                    Some(values) => values.push(value),
                    None => drop(values.insert(name.to_owned(), vec![value])),
                }
            }
        }
        let interval = |(name, values)| (name, self.percentiles(values));
        Ok(values.into_iter().map(interval).collect())
    }

    /// Compares two models by a value of each example, such as its loss or 1 for right and 0 for wrong.
    ///
    /// The p-value is that of the bootstrap centred on no difference (Efron and Tibshirani 1993, section 16.4).
    ///
    /// # Errors
    /// As [`interval`](Self::interval); when the numbers of examples differ, or a value is not finite.
    pub fn paired_difference(
        &self,
        first: &[f64],
        second: &[f64],
    ) -> Result<PairedDifference, StatisticsError> {
        if first.len() != second.len() {
            return Err(StatisticsError::NotPaired {
                first: first.len(),
                second: second.len(),
            });
        }
        let n = self.check(first.len())?;
        check_finite(first)?;
        check_finite(second)?;
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        let difference = mean(&differences);
        let means: Vec<f64> = self
            .draws(n)
            .map(|draw| mean_of(&differences, &draw))
            .collect();
        // Rounding of equal sums must not count as a smaller difference.
        let least = difference.abs() * (1.0 - 1e-12);
        let as_far = means
            .iter()
            .filter(|mean| (*mean - difference).abs() >= least)
            .count();
        Ok(PairedDifference {
            difference,
            p_value: (as_far + 1) as f64 / (means.len() + 1) as f64,
            interval: self.percentiles(means),
        })
    }

    /// Estimates how much the score of the best of several candidates is due to the choice. `candidates[i][e]` is candidate
    /// i's value on example e, higher is better; of equals the earlier is chosen. With one candidate the optimism is 0.
    ///
    /// In each replicate the best on the drawn examples is chosen, and its score there compared with its score on all of
    /// them (the optimism of Efron and Tibshirani 1993, section 17.6). The scores on all examples, among which the draws
    /// choose, already hold noise as large as that of the draws; where candidates are truly alike this takes
    /// 1 / sqrt 2 off, which is put back. Where they truly differ the estimate is up to that factor too high.
    ///
    /// # Errors
    /// As [`paired_difference`](Self::paired_difference), and when there is no candidate.
    pub fn selection_optimism(
        &self,
        candidates: &[&[f64]],
    ) -> Result<SelectionOptimism, StatisticsError> {
        let Some(first) = candidates.first() else {
            return Err(StatisticsError::NoExamples);
        };
        for candidate in candidates {
            if candidate.len() != first.len() {
                return Err(StatisticsError::NotPaired {
                    first: first.len(),
                    second: candidate.len(),
                });
            }
            check_finite(candidate)?;
        }
        let n = self.check(first.len())?;
        let scores: Vec<f64> = candidates.iter().map(|values| mean(values)).collect();
        let chosen = best_of(scores.iter().copied());
        let (mut flattery, mut agreed) = (0.0, 0u32);
        for draw in self.draws(n) {
            let drawn: Vec<f64> = candidates
                .iter()
                .map(|values| mean_of(values, &draw))
                .collect();
            let best = best_of(drawn.iter().copied());
            agreed += u32::from(best == chosen);
            flattery += drawn[best] - scores[best];
        }
        let replicates = f64::from(self.replicates);
        let optimism = std::f64::consts::SQRT_2 * flattery / replicates;
        Ok(SelectionOptimism {
            score: scores[chosen],
            optimism: if candidates.len() == 1 { 0.0 } else { optimism },
            agreement: f64::from(agreed) / replicates,
        })
    }
}

/// The first of the highest.
fn best_of(scores: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, score) in scores.enumerate() {
        if score > best.1 {
            best = (at, score);
        }
    }
    best.0
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

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
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
        let interval = Bootstrap::default().interval(50, |draw| mean_of(&[0.25; 50], draw));
        assert_eq!(
            interval.unwrap(),
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
            bootstrap.interval(0, |_| 0.0),
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
            none.interval(3, |_| 0.0),
            Err(StatisticsError::NoReplicates)
        );
        let sure = Bootstrap {
            confidence: 1.0,
            ..bootstrap
        };
        assert_eq!(
            sure.interval(3, |_| 0.0),
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
