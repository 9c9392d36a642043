//! What lies between the training loop and the writer thread.
//!
//! At most one save is in flight, and one waits for each objective whose best it is to be: with one objective at most two snapshots
//! are held here, however slow the disk is. Everything else in the queue is only words for the journal.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepbest_core::retention::Checkpoint;
use keepbest_core::{EvaluationRecord, WeightsDigest};
use keepbest_formats::SnapshotHandle;
use keepbest_formats::model_file::Attachments;
use keepbest_store::RefName;
use serde_json::Value;

use crate::best_progress::BestProgress;
use crate::event::{BestRecord, KeeperEvent, SaveFailure};

/// Work for the writer thread, in the order of the offers.
#[derive(Debug)]
pub(crate) enum Job {
    /// Journal an evaluation, and save its snapshot if it still has one.
    Evaluated(Box<EvaluatedJob>),
    /// Save a resume point without an evaluation.
    Last(Box<LastJob>),
    /// Try again what could not be saved.
    Settle,
    /// Journal that training was stopped from outside.
    Interrupted,
    /// Journal that training is over.
    Finished(Value),
}

#[derive(Clone, Debug)]
pub(crate) struct EvaluatedJob {
    /// Place in the history.
    pub index: usize,
    pub record: EvaluationRecord,
    /// `None` when it was superseded.
    pub snapshot: Option<SnapshotHandle>,
    /// What it is to become.
    pub refs: Vec<RefName>,
    /// Whether it is to be saved even if it becomes neither.
    pub candidate: bool,
    /// What it will not become, and why.
    pub superseded: Vec<(RefName, String)>,
    /// What its file holds that no other of the run does.
    pub attachments: Attachments,
}

#[derive(Debug)]
pub(crate) struct LastJob {
    pub snapshot: SnapshotHandle,
    pub epoch: u64,
    /// What its file holds that no other of the run does.
    pub attachments: Attachments,
}

impl Job {
    fn holds_snapshot(&self) -> bool {
        match self {
            Self::Evaluated(job) => job.snapshot.is_some(),
            Self::Last(_) => true,
            Self::Settle | Self::Interrupted | Self::Finished(_) => false,
        }
    }
}

impl EvaluatedJob {
    /// Gives up the snapshot, and with it every ref it was to become.
    fn supersede(&mut self, reason: impl Fn(&RefName) -> String) {
        self.snapshot = None;
        self.candidate = false;
        for reference in self.refs.drain(..) {
            let reason = reason(&reference);
            self.superseded.push((reference, reason));
        }
    }

    /// Gives up what a later one is to become as well, and the snapshot when it is no best without that.
    fn yield_to(&mut self, later: &Self) {
        let step = later.record.step;
        let reason = |reference: &RefName| match reference.is_best() {
            true => format!("step {step} was better before this one was written"),
            false => format!("step {step} is newer"),
        };
        let (given_up, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.refs)
            .into_iter()
            .partition(|reference| later.refs.contains(reference));
        if kept.iter().any(RefName::is_best) {
            self.refs = kept;
            let words = given_up.into_iter().map(|name| (reason(&name), name));
            self.superseded.extend(words.map(|(why, name)| (name, why)));
        } else {
            self.refs = given_up.into_iter().chain(kept).collect();
            self.supersede(reason);
        }
    }

    fn is_best(&self) -> bool {
        self.refs.iter().any(RefName::is_best)
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub queue: VecDeque<Job>,
    pub busy: bool,
    pub closing: bool,
    /// The writer thread has ended.
    pub ended: bool,
    /// The bests, the first objective's first.
    pub bests: Vec<BestProgress>,
    /// Digests of evaluations, as they become known.
    pub digests: Vec<(usize, WeightsDigest)>,
    /// The checkpoints on disk that policies are about.
    pub present: Vec<Checkpoint>,
    pub events: Vec<KeeperEvent>,
    pub failures: Vec<SaveFailure>,
    /// Failures that nothing made good for, known at the end.
    pub unresolved: Vec<SaveFailure>,
    /// Why the other form of best is not in step with best.
    pub also_error: Option<String>,
    /// Why the last job of the run failed.
    pub end_error: Option<String>,
}

impl State {
    /// The best on disk by the first objective.
    pub(crate) fn best(&self) -> Option<&BestRecord> {
        self.bests.first()?.best.as_ref()
    }

    /// What is known of the best of a name, with the place of its objective.
    pub(crate) fn progress(&mut self, reference: &RefName) -> Option<(usize, &mut BestProgress)> {
        let mut bests = self.bests.iter_mut().enumerate();
        bests.find(|(_, best)| best.reference == *reference)
    }

    /// Takes note that an evaluation is on disk as the best of each objective that it still was to be of, or will never be.
    pub(crate) fn settled(&mut self, index: usize) {
        for best in &mut self.bests {
            best.expect_no_more(index);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Something was done.
    progress: Condvar,
}

impl Queue {
    pub(crate) fn new(bests: Vec<BestProgress>) -> Self {
        Self {
            state: Mutex::new(State {
                bests,
                ..State::default()
            }),
            ..Self::default()
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an evaluation. Never waits.
    pub(crate) fn offer(&self, mut job: EvaluatedJob) {
        let mut state = self.lock();
        let State { queue, bests, .. } = &mut *state;
        if !job.is_best() {
            // Neither a better model nor a resume point that was asked for is given up for a newer last.
            let first = queue.iter().rev().find_map(|waiting| match waiting {
                Job::Evaluated(best) if best.is_best() => {
                    let step = best.record.step;
                    Some(format!("the best, of step {step}, waits to be saved first"))
                }
                Job::Last(_) => Some("a resume point waits to be saved first".to_owned()),
                _ => None,
            });
            if let Some(reason) = first {
                job.supersede(|_| reason.clone());
            }
        }
        for waiting in queue.iter_mut() {
            if let (Job::Evaluated(waiting), true) = (waiting, job.snapshot.is_some())
                && waiting.snapshot.is_some()
            {
                waiting.yield_to(&job);
                for best in bests.iter_mut() {
                    if job.refs.contains(&best.reference) {
                        best.expect_no_more(waiting.index);
                    }
                }
            }
        }
        for (place, best) in bests.iter_mut().enumerate() {
            let judgement = job.record.judgement(place);
            if let Some(score) = judgement.and_then(|judgement| judgement.score)
                && job.refs.contains(&best.reference)
            {
                best.expect(job.index, score);
            }
        }
        state.queue.push_back(Job::Evaluated(Box::new(job)));
        self.work.notify_one();
    }

    /// Adds a job once no save waits.
    pub(crate) fn push_when_free(&self, job: Job) {
        let mut state = self.lock();
        while !state.ended && state.queue.iter().any(Job::holds_snapshot) {
            state = self.wait_for_progress(state);
        }
        state.queue.push_back(job);
        self.work.notify_one();
    }

    /// Waits until everything is done. False when the writer thread ended before.
    pub(crate) fn wait_idle(&self) -> bool {
        let mut state = self.lock();
        while !state.ended && (state.busy || !state.queue.is_empty()) {
            state = self.wait_for_progress(state);
        }
        state.queue.is_empty() && !state.busy
    }

    /// Waits until everything is done, but no longer than this. Whether it is.
    pub(crate) fn wait_idle_for(&self, patience: Duration) -> bool {
        let state = self.lock();
        let working = |state: &mut State| !state.ended && (state.busy || !state.queue.is_empty());
        let waited = self.progress.wait_timeout_while(state, patience, working);
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    fn wait_for_progress<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.progress
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the writer thread end when everything is done.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// The next job; `None` when there will be none. Marks the one before as done.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.busy = false;
        self.progress.notify_all();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.busy = true;
                return Some(job);
            }
            if state.closing {
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The writer thread has ended, in order or not.
    pub(crate) fn ended(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.busy = false;
        self.progress.notify_all();
    }
}
