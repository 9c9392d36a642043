//! Bests that could not be saved: held, and tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use keepbest_store::RefName;

use super::Background;
use crate::event::SaveFailure;
use crate::prune::would_keep;
use crate::queue::EvaluatedJob;

impl Background<'_> {
    /// The saves that failed and that nothing made good for.
    pub(super) fn unresolved(&self) -> Vec<SaveFailure> {
        let mut state = self.queue.lock();
        let failures = state.failures.clone();
        let run = self.run.state();
        let mut matters = |failure: &SaveFailure| {
            let best = failure.refs.iter().any(|reference| {
                let best = state.progress(reference);
                best.is_some_and(|(_, best)| best.unsaved.is_some())
            });
            let last = failure.refs.contains(&RefName::LAST)
                && run.last().is_none_or(|last| last.step < failure.step);
            let saved = run.present().any(|it| it.saved.step == failure.step);
            let record = self.history.iter().find(|it| it.step == failure.step);
            let kept = record.is_some_and(|record| would_keep(run, &self.config, record));
            best || last || (failure.candidate && !saved && kept)
        };
        failures
            .into_iter()
            .filter(|failure| matters(failure))
            .collect()
    }

    /// Tries again to save the bests that could not be, but for those that `next` is better than.
    pub(super) fn retry(&mut self, next: Option<&EvaluatedJob>) {
        self.forget_beaten();
        for mut job in std::mem::take(&mut self.unsaved) {
            let (later, now) = std::mem::take(&mut job.refs)
                .into_iter()
                .partition(|reference| next.is_some_and(|next| self.improves(next, reference)));
            job.refs = now;
            if !job.refs.is_empty() {
                self.save_again(&job);
            }
            job.refs.extend::<Vec<_>>(later);
            self.unsaved.push(job);
        }
        self.forget_beaten();
    }

    /// That it fails again is no news.
    fn save_again(&mut self, job: &EvaluatedJob) {
        let Some(snapshot) = &job.snapshot else {
            return;
        };
        let history = self.history.iter().take(job.index).cloned().collect();
        let begun = catch_unwind(AssertUnwindSafe(|| self.begin(job, snapshot, &history)));
        if let (Ok(outcome), Ok(())) = (begun, self.journal_backlog()) {
            for file in outcome.begun {
                self.commit(file, job);
            }
        }
    }

    /// Lets go of the snapshots that are no longer the best of what could not be saved.
    pub(super) fn forget_beaten(&mut self) {
        let mut state = self.queue.lock();
        for job in &mut self.unsaved {
            let record = &job.record;
            job.refs.retain(|reference| {
                let best = state.progress(reference);
                best.is_some_and(|(_, best)| best.misses(record))
            });
        }
        self.unsaved.retain(|job| !job.refs.is_empty());
    }

    /// Whether an evaluation was judged better than all before by the objective of a ref.
    fn improves(&self, job: &EvaluatedJob, reference: &RefName) -> bool {
        let place = self
            .queue
            .lock()
            .progress(reference)
            .map(|(place, _)| place);
        let judgement = place.and_then(|place| job.record.judgement(place));
        job.refs.contains(reference) && judgement.is_some_and(|it| it.verdict.is_improved())
    }

    /// What was only to stand in for a best that is on disk by now is not needed.
    pub(super) fn stand_back(&self, job: &mut EvaluatedJob) {
        for reference in std::mem::take(&mut job.refs) {
            let mut state = self.queue.lock();
            let better = state.progress(&reference).and_then(|(place, best)| {
                let judgement = job.record.judgement(place)?;
                let stands_in = !judgement.verdict.is_improved() && best.has(&judgement.score?);
                stands_in.then(|| best.best.as_ref().map_or(0, |best| best.step))
            });
            drop(state);
            match better {
                Some(step) => {
                    let reason = format!("that of step {step}, saved meanwhile, is better");
                    job.superseded.push((reference, reason));
                }
                None => job.refs.push(reference),
            }
        }
    }
}
