//! What lies between the training loop and the writer thread.
//!
//! At most one save is in flight and one waits, so at most two snapshots are held here, however slow the disk is. Everything else
//! in the queue is only words for the journal.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use keepbest_core::{EvaluationRecord, Objective, Score, WeightsDigest};
use keepbest_store::RefName;
use serde_json::Value;

use crate::event::{BestRecord, KeeperEvent, SaveFailure};
use crate::snapshot::SnapshotHandle;

/// Work for the writer thread, in the order of the offers.
#[derive(Debug)]
pub(crate) enum Job {
    /// Journal an evaluation, and save its snapshot if it still has one.
    Evaluated(Box<EvaluatedJob>),
    /// Save a resume point without an evaluation.
    Last(Box<LastJob>),
    /// Journal that training was stopped from outside.
    Interrupted,
    /// Journal that training is over.
    Finished(Value),
}

#[derive(Debug)]
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
    /// Trainer state.
    pub training: Value,
}

#[derive(Debug)]
pub(crate) struct LastJob {
    pub snapshot: SnapshotHandle,
    pub epoch: u64,
    pub training: Value,
}

impl Job {
    fn holds_snapshot(&self) -> bool {
        match self {
            Self::Evaluated(job) => job.snapshot.is_some(),
            Self::Last(_) => true,
            Self::Interrupted | Self::Finished(_) => false,
        }
    }
}

impl EvaluatedJob {
    /// Gives up the snapshot, and with it every ref it was to become.
    fn supersede(&mut self, reason: impl Fn(RefName) -> String) {
        self.snapshot = None;
        self.candidate = false;
        for reference in self.refs.drain(..) {
            self.superseded.push((reference, reason(reference)));
        }
    }

    fn wants(&self, reference: RefName) -> bool {
        self.refs.contains(&reference)
    }
}

/// A best that was judged so and is not on disk yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub index: usize,
    pub score: Score,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub queue: VecDeque<Job>,
    pub busy: bool,
    pub closing: bool,
    /// The writer thread has ended.
    pub ended: bool,
    /// Judged best, in flight or waiting: each better than the one before.
    pub pending: Vec<Pending>,
    /// Best on disk.
    pub best: Option<BestRecord>,
    /// Digests of evaluations, as they become known.
    pub digests: Vec<(usize, WeightsDigest)>,
    pub events: Vec<KeeperEvent>,
    pub failures: Vec<SaveFailure>,
    /// The best score that could not be saved and is better than what is on disk.
    pub unsaved: Option<Score>,
    /// Why the other form of best is not in step with best.
    pub also_error: Option<String>,
    /// Why the last job of the run failed.
    pub end_error: Option<String>,
}

impl State {
    /// The score to beat, as far as the disk and what is on its way to it are concerned.
    pub fn to_beat(&self) -> Option<Score> {
        self.pending
            .last()
            .map(|pending| pending.score)
            .or_else(|| self.best.as_ref().map(|best| best.score))
    }

    /// Takes note that best was judged so and could not be saved.
    pub fn failed_best(&mut self, objective: &Objective, score: Score) {
        let worse = |unsaved: Score| objective.compare_total(&unsaved, &score).is_lt();
        if self.unsaved.is_none_or(worse) {
            self.unsaved = Some(score);
        }
    }

    /// Takes note of a new best on disk.
    pub fn promoted_best(&mut self, objective: &Objective, best: Option<BestRecord>) {
        if let Some(best) = &best {
            self.unsaved
                .take_if(|unsaved| objective.compare_total(unsaved, &best.score).is_le());
        }
        self.best = best;
    }

    /// Takes note that an evaluation is on disk, or will never be.
    pub fn settled(&mut self, index: usize) {
        self.pending.retain(|pending| pending.index != index);
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
    pub fn new(best: Option<BestRecord>) -> Self {
        Self {
            state: Mutex::new(State {
                best,
                ..State::default()
            }),
            ..Self::default()
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an evaluation. Never waits.
    pub fn offer(&self, mut job: EvaluatedJob) {
        let mut state = self.lock();
        let step = job.record.step;
        let best = job.wants(RefName::Best);
        let waiting = state.queue.iter_mut().find_map(|waiting| match waiting {
            Job::Evaluated(waiting) if waiting.snapshot.is_some() => Some(waiting),
            _ => None,
        });
        if let Some(waiting) = waiting {
            if waiting.wants(RefName::Best) && !best {
                let step = waiting.record.step;
                job.supersede(|_| format!("the best, of step {step}, waits to be saved first"));
            } else {
                waiting.supersede(|reference| match reference {
                    RefName::Best => format!("step {step} was better before this one was written"),
                    RefName::Last => format!("step {step} is newer"),
                });
                let index = waiting.index;
                state.settled(index);
            }
        } else if !best && state.queue.iter().any(Job::holds_snapshot) {
            // A resume point that was asked for is not given up, nor is a better model.
            job.supersede(|_| "a resume point waits to be saved first".to_owned());
        }
        if let (true, Some(score)) = (job.wants(RefName::Best), job.record.score) {
            state.pending.push(Pending {
                index: job.index,
                score,
            });
        }
        state.queue.push_back(Job::Evaluated(Box::new(job)));
        self.work.notify_one();
    }

    /// Adds a job once no save waits.
    pub fn push_when_free(&self, job: Job) {
        let mut state = self.lock();
        while !state.ended && state.queue.iter().any(Job::holds_snapshot) {
            state = self.wait_for_progress(state);
        }
        state.queue.push_back(job);
        self.work.notify_one();
    }

    /// Waits until everything is done. False when the writer thread ended before.
    pub fn wait_idle(&self) -> bool {
        let mut state = self.lock();
        while !state.ended && (state.busy || !state.queue.is_empty()) {
            state = self.wait_for_progress(state);
        }
        state.queue.is_empty() && !state.busy
    }

    fn wait_for_progress<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.progress
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the writer thread end when everything is done.
    pub fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// The next job; `None` when there will be none. Marks the one before as done.
    pub fn next(&self) -> Option<Job> {
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
    pub fn ended(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.busy = false;
        self.progress.notify_all();
    }
}
