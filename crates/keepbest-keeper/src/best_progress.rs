//! The state of the best by one objective: reached, on disk, on its way.

use keepbest_core::{EvaluationRecord, Objective, Score};
use keepbest_store::RefName;

use crate::event::{BestRecord, UnsavedBest};

/// A best that was judged so and is not on disk yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    index: usize,
    score: Score,
}

/// The best by one objective: on disk, on its way there, or kept from it.
#[derive(Debug)]
pub(crate) struct BestProgress {
    pub reference: RefName,
    objective: Objective,
    /// Judged best, in flight or waiting: each better than the one before.
    pending: Vec<Pending>,
    /// Best on disk.
    pub best: Option<BestRecord>,
    /// The best that could not be saved and is better than what is on disk.
    pub unsaved: Option<UnsavedBest>,
    /// Its snapshot is held, to be tried again.
    held: bool,
}

impl BestProgress {
    pub(crate) fn new(reference: RefName, objective: Objective, best: Option<BestRecord>) -> Self {
        Self {
            reference,
            objective,
            pending: Vec::new(),
            best,
            unsaved: None,
            held: false,
        }
    }

    /// Takes note that an evaluation is on its way to be the best.
    pub(crate) fn expect(&mut self, index: usize, score: Score) {
        self.pending.push(Pending { index, score });
    }

    /// Takes note that an evaluation is the best on disk, or will never be.
    pub(crate) fn expect_no_more(&mut self, index: usize) {
        self.pending.retain(|pending| pending.index != index);
    }

    /// The score to beat, as far as the disk and what is on its way to it are concerned.
    pub(crate) fn to_beat(&self) -> Option<Score> {
        self.pending
            .last()
            .map(|pending| pending.score)
            .or_else(|| self.best.as_ref().map(|best| best.score))
    }

    /// The best score that is on disk or can still come there.
    pub(crate) fn reached(&self) -> Option<Score> {
        let unsaved = self.unsaved.as_ref().filter(|_| self.held);
        let unsaved = unsaved.map(|unsaved| unsaved.score);
        match (self.to_beat(), unsaved) {
            (Some(a), Some(b)) if self.objective.compare_total(&a, &b).is_lt() => Some(b),
            (a, b) => a.or(b),
        }
    }

    /// Takes note that an evaluation was to be best and could not be saved, and whether it can be tried again.
    pub(crate) fn failed(&mut self, record: &EvaluationRecord, score: Score, held: bool) {
        let worse =
            |other: &UnsavedBest| self.objective.compare_total(&other.score, &score).is_lt();
        if !self.has(&score) && self.unsaved.as_ref().is_none_or(worse) {
            self.unsaved = Some(UnsavedBest {
                reference: self.reference.clone(),
                step: record.step,
                epoch: record.epoch,
                score,
            });
            self.held = held;
        }
    }

    /// Whether an evaluation is the best that could not be saved.
    pub(crate) fn misses(&self, record: &EvaluationRecord) -> bool {
        self.unsaved
            .as_ref()
            .is_some_and(|unsaved| unsaved.step == record.step)
    }

    /// Whether what is on disk is as good as a score.
    pub(crate) fn has(&self, score: &Score) -> bool {
        self.best
            .as_ref()
            .is_some_and(|best| self.objective.compare_total(&best.score, score).is_ge())
    }

    /// Takes note of a new best on disk.
    pub(crate) fn promoted(&mut self, best: Option<BestRecord>) {
        if let Some(best) = &best {
            let objective = &self.objective;
            self.unsaved
                .take_if(|unsaved| objective.compare_total(&unsaved.score, &best.score).is_le());
        }
        self.best = best;
    }
}
