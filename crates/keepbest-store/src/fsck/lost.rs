//! Bests that are lost: those that a repair finds damaged or gone, and those of which only the files still tell.

use keepbest_core::{EvaluationRecord, Score};

use super::check::Check;
use super::recall::{Known, alike};
use super::report::FindingKind;
use crate::error::OpenError;
use crate::journal::{BestLostEvent, Event};
use crate::layout::RefName;

/// What was best before the mending.
pub(super) struct WasBest {
    epoch: u64,
    score: Score,
}

impl Check<'_> {
    /// Finds the bests that files tell of, as files written later do, and that are nowhere: the part of the journal that had them is
    /// gone, and so are they. What is best then is the best that is left, whether it was an improvement on them or not.
    pub(super) fn bests_untold(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        let mut lost = self.never_saved();
        if lost.is_empty() {
            return Ok(());
        }
        // One that only the journal tells of may have been on its way when the writer ended.
        let witnesses = self.witnesses()?;
        lost.retain(|(_, record, _)| {
            let mut told = witnesses.iter().flat_map(|it| it.testimony.history.iter());
            told.any(|told| alike(record, told))
        });
        for (reference, record, score) in lost {
            let EvaluationRecord { step, epoch, .. } = record;
            self.append(Event::BestLost(BestLostEvent {
                reference: reference.clone(),
                step,
                epoch,
            }))?;
            self.lost.insert(reference, WasBest { epoch, score });
        }
        Ok(())
    }

    /// The evaluations that were judged best, are better than what is best, and were never saved as far as the journal tells.
    fn never_saved(&self) -> Vec<(RefName, EvaluationRecord, Score)> {
        let state = self.state();
        let mut found = Vec::new();
        for (place, (reference, objective)) in state.objectives().into_iter().enumerate() {
            let improved = |record: &&EvaluationRecord| {
                let judgement = record.judgement(place);
                judgement.is_some_and(|judgement| judgement.verdict.is_improved())
                    && !state
                        .passed_over
                        .contains(&(reference.clone(), record.step))
            };
            let Some(record) = state.history.iter().rev().find(improved) else {
                continue;
            };
            let Some(score) = record.judgement(place).and_then(|it| it.score) else {
                continue;
            };
            let best = state.refs.get(&reference).and_then(|best| best.score);
            let is_better = best.is_none_or(|best| objective.compare_total(&score, &best).is_gt());
            let was_saved = state.checkpoints.values().any(|it| match record.digest {
                Some(digest) => it.saved.weights == digest,
                None => it.saved.step == record.step,
            });
            if is_better && !was_saved {
                found.push((reference, record.clone(), score));
            }
        }
        found
    }

    /// Says which bests are not as good as they were before the mending.
    pub(super) fn lost_bests(&mut self, before: &Known) -> Result<(), OpenError> {
        let state = self.state();
        let mut lost = Vec::new();
        for (reference, objective) in state.objectives() {
            let known = before.bests.get(&reference);
            let known = known.and_then(|best| Some((best.epoch, best.score?)));
            let untold = self.lost.get(&reference).map(|was| (was.epoch, was.score));
            let Some((epoch, score)) = untold.or(known) else {
                continue;
            };
            let is = state.refs.get(&reference);
            let is = is.and_then(|best| Some((best.epoch, best.score?)));
            // Equal is none lost.
            let worse = is.is_none_or(|(_, is)| objective.compare_total(&is, &score).is_lt());
            if worse {
                let words = |(epoch, score): (u64, Score)| {
                    let value = keepbest_core::format_value(score.value);
                    format!("{} {value}, epoch {epoch}", objective.monitor())
                };
                let problem = format!("what was best ({}) is lost", words((epoch, score)));
                let action = match is {
                    Some(is) => format!("the best that is left: {}", words(is)),
                    None => "no best is left".to_owned(),
                };
                lost.push((reference, problem, action));
            }
        }
        for (reference, problem, action) in lost {
            self.found(
                FindingKind::LostBest,
                reference.file_name(),
                problem,
                &action,
            )?;
        }
        Ok(())
    }
}
