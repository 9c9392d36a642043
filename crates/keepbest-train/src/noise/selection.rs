//! The evaluations that cannot be told from the best, and how much choosing among them flatters it.

use keepbest_core::statistics::SelectionOptimism;
use keepbest_keeper::RunView;
use serde::Serialize;

use super::{PairedTest, REPLICATES, Trace};

/// Words of every page that tells what cannot be told from the best, or that it was flattered.
pub(crate) const MARKS: [&str; 2] = ["best cannot be told from epoch", "flatters it by about"];
/// p-values below it are called a difference.
const SIGNIFICANT: f64 = 0.05;
/// An optimism of the val score from which on it is worth a warning: half a percent point.
const WORTH_A_WARNING: f64 = 0.005;
/// Images times evaluations times replicates that may be looked at: a second or two.
const BUDGET: usize = 600_000_000;

/// An evaluation beside the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compared {
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The probability of such a difference between two that are equally good.
    pub p_value: f64,
}

/// The choice of a run's best, in the light of chance.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Selection {
    /// The paired test, in words.
    pub test: String,
    /// The score that the test and the optimism are of: a metric without its split, or an expression.
    pub scored: String,
    /// Images of the val split.
    pub images: usize,
    /// Evaluations that were compared with the best, by step.
    pub compared: Vec<Compared>,
    /// The part of the best's score that it owes to being chosen, positive where less is better, too.
    pub optimism: Option<SelectionOptimism>,
}

impl Selection {
    /// The selection that the traces of a run tell; `None` when it has no best, or no trace of it.
    #[must_use]
    pub fn of(view: &RunView) -> Option<Self> {
        let best = view.best()?;
        let test = PairedTest::of(&view.state().started.as_ref()?.objective);
        let chosen = Trace::read(view.path(), best.step).ok()?;
        // Those that could not have been best were not in the choice.
        let (records, traces): (Vec<_>, Vec<_>) = view
            .history()
            .iter()
            .filter(|record| record.score.is_some())
            .filter_map(|record| {
                let trace = Trace::read(view.path(), record.step).ok()?;
                trace.pairs_with(&chosen).then_some((record, trace))
            })
            .unzip();
        let cost = chosen.len() * traces.len();
        let replicates = (BUDGET / cost.max(1)).clamp(100, REPLICATES as usize) as u32;
        let scores = test
            .replicate(&traces.iter().collect::<Vec<_>>(), replicates)
            .ok()?;
        let at = records.iter().position(|record| record.step == best.step)?;
        let mut compared = Vec::new();
        for ((record, trace), of_trace) in records.iter().zip(&traces).zip(&scores) {
            if record.step != best.step {
                let (p_value, _) = test
                    .tell_apart((&chosen, &scores[at]), (trace, of_trace))
                    .ok()?;
                compared.push(Compared {
                    step: record.step,
                    epoch: record.epoch,
                    p_value,
                });
            }
        }
        let optimism = SelectionOptimism::of(&scores).map(|found| SelectionOptimism {
            score: test.sign() * found.score,
            ..found
        });
        Some(Self {
            test: test.to_string(),
            scored: test.scored(),
            images: chosen.len(),
            compared,
            optimism,
        })
    }

    /// The evaluations that cannot be told from the best.
    pub fn alike(&self) -> impl Iterator<Item = &Compared> {
        self.compared
            .iter()
            .filter(|compared| compared.p_value >= SIGNIFICANT)
    }

    /// These evaluations in words; `None` when the best stands apart.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let epochs: Vec<u64> = self.alike().map(|compared| compared.epoch).collect();
        let epochs = ranges(&epochs);
        (!epochs.is_empty()).then(|| {
            format!(
                "on {} val images the best cannot be told from epoch {epochs} ({}, p >= {SIGNIFICANT})",
                self.images, self.test
            )
        })
    }

    /// The warning that the val score of the best is too good, `test` being its score on unseen images.
    #[must_use]
    pub fn warning(&self, test: Option<f64>) -> Option<String> {
        let found = self
            .optimism
            .filter(|found| found.optimism >= WORTH_A_WARNING)?;
        let beside = test.map_or_else(String::new, |test| format!("; on test it is {test:.4}"));
        let what = format!("{} of {:.4} on val", self.scored, found.score);
        Some(format!(
            "the best was chosen among {} evaluations on {} images: its {what} flatters it by about {:.4}{beside}",
            self.compared.len() + 1,
            self.images,
            found.optimism
        ))
    }
}

/// `3, 5 to 8, 11`.
fn ranges(sorted: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for &number in sorted {
        match parts.last_mut() {
            Some((_, to)) if number <= *to + 1 => *to = number,
            _ => parts.push((number, number)),
        }
    }
    let words = parts.iter().map(|(from, to)| match to - from {
        0 => from.to_string(),
        1 => format!("{from}, {to}"),
        _ => format!("{from} to {to}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn epochs_are_told_in_ranges() {
        assert_eq!(ranges(&[3, 5, 6, 7, 9, 10]), "3, 5 to 7, 9, 10");
        assert_eq!(ranges(&[4, 4, 5]), "4, 5");
        assert_eq!(ranges(&[]), "");
    }
}
