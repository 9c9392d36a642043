//! What lies between the training loop and the writer thread.
//!
//! At most one save is in flight, and one waits for each objective whose best it is to be: with one objective at most two snapshots
//! are held here, however slow the disk is. Everything else in the queue is only words for the journal.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepbest_core::retention::Checkpoint;
use keepbest_core::{EvaluationRecord, Objective, Score, WeightsDigest};
use keepbest_store::RefName;
use serde_json::Value;

use crate::event::{BestRecord, KeeperEvent, SaveFailure, UnsavedBest};
use crate::snapshot::SnapshotHandle;

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
    /// Trainer state.
    pub training: Value,
    /// What decided when it was measured, where that is not the likeliest class.
    pub thresholds: Option<Value>,
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

/// A best that was judged so and is not on disk yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub index: usize,
    pub score: Score,
}

/// The best by one objective: on disk, on its way there, or kept from it.
#[derive(Debug)]
pub(crate) struct Track {
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

impl Track {
    pub fn new(reference: RefName, objective: Objective, best: Option<BestRecord>) -> Self {
        Self {
            reference,
            objective,
            pending: Vec::new(),
            best,
            unsaved: None,
            held: false,
        }
    }

    /// The score to beat, as far as the disk and what is on its way to it are concerned.
    pub fn to_beat(&self) -> Option<Score> {
        self.pending
            .last()
            .map(|pending| pending.score)
            .or_else(|| self.best.as_ref().map(|best| best.score))
    }

    /// The best score that is on disk or can still come there.
    pub fn reached(&self) -> Option<Score> {
        let unsaved = self.unsaved.as_ref().filter(|_| self.held);
        let unsaved = unsaved.map(|unsaved| unsaved.score);
        match (self.to_beat(), unsaved) {
            (Some(a), Some(b)) if self.objective.compare_total(&a, &b).is_lt() => Some(b),
            (a, b) => a.or(b),
        }
    }

    /// Takes note that an evaluation was to be best and could not be saved, and whether it can be tried again.
    pub fn failed(&mut self, record: &EvaluationRecord, score: Score, held: bool) {
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
    pub fn misses(&self, record: &EvaluationRecord) -> bool {
        self.unsaved
            .as_ref()
            .is_some_and(|unsaved| unsaved.step == record.step)
    }

    /// Whether what is on disk is as good as a score.
    pub fn has(&self, score: &Score) -> bool {
        self.best
            .as_ref()
            .is_some_and(|best| self.objective.compare_total(&best.score, score).is_ge())
    }

    /// Takes note of a new best on disk.
    pub fn promoted(&mut self, best: Option<BestRecord>) {
        if let Some(best) = &best {
            let objective = &self.objective;
            self.unsaved
                .take_if(|unsaved| objective.compare_total(&unsaved.score, &best.score).is_le());
        }
        self.best = best;
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
    pub bests: Vec<Track>,
    /// Digests of evaluations, as they become known.
    pub digests: Vec<(usize, WeightsDigest)>,
    /// The checkpoints on disk that policies are about.
    pub present: Vec<Checkpoint>,
    pub events: Vec<KeeperEvent>,
    pub failures: Vec<SaveFailure>,
    /// Those that nothing made good for, known at the end.
    pub unresolved: Vec<SaveFailure>,
    /// Why the other form of best is not in step with best.
    pub also_error: Option<String>,
    /// Why the last job of the run failed.
    pub end_error: Option<String>,
}

impl State {
    /// The best on disk by the first objective.
    pub fn best(&self) -> Option<&BestRecord> {
        self.bests.first()?.best.as_ref()
    }

    /// What is known of the best of a name, with the place of its objective.
    pub fn track(&mut self, reference: &RefName) -> Option<(usize, &mut Track)> {
        let mut tracks = self.bests.iter_mut().enumerate();
        tracks.find(|(_, track)| track.reference == *reference)
    }

    /// Takes note that an evaluation is on disk as the best of each objective that it still was to be of, or will never be.
    pub fn settled(&mut self, index: usize) {
        for track in &mut self.bests {
            track.pending.retain(|pending| pending.index != index);
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
    pub fn new(bests: Vec<Track>) -> Self {
        Self {
            state: Mutex::new(State {
                bests,
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
                for track in bests.iter_mut() {
                    if job.refs.contains(&track.reference) {
                        track
                            .pending
                            .retain(|pending| pending.index != waiting.index);
                    }
                }
            }
        }
        for (place, track) in bests.iter_mut().enumerate() {
            let judgement = job.record.judgement(place);
            if let Some(score) = judgement.and_then(|judgement| judgement.score)
                && job.refs.contains(&track.reference)
            {
                track.pending.push(Pending {
                    index: job.index,
                    score,
                });
            }
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

    /// Waits until everything is done, but no longer than this. Whether it is.
    pub fn wait_idle_for(&self, patience: Duration) -> bool {
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
