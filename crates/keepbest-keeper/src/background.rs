//! The writer thread: journals, saves, promotes, prunes, in the order of the offers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use keepbest_core::{History, WeightsDigest};
use keepbest_formats::weights_digest;
use keepbest_store::{
    Committed, Event, FinishedEvent, InterruptedEvent, PromoteError, PromotedEvent, RefName,
    RejectedEvent, RepairedEvent, RunWriter, SaveFailedEvent, SupersededEvent,
};
use serde_json::Value;

use crate::also::Follower;
use crate::config::{KeeperConfig, SaveMode};
use crate::error::with_causes;
use crate::event::{KeeperEvent, SaveFailure};
use crate::prune::{of_kind, prune, would_keep};
use crate::queue::{EvaluatedJob, Job, LastJob, Queue};
use crate::save::{Begun, Content, begin};
use crate::snapshot::SnapshotHandle;
use crate::view::best_record;

/// Starts the thread, which owns the run from now on.
pub(crate) fn start(
    queue: &Arc<Queue>,
    run: RunWriter,
    config: KeeperConfig,
    history: History,
) -> std::io::Result<JoinHandle<()>> {
    let queue = Arc::clone(queue);
    thread::Builder::new()
        .name("keepbest-writer".to_owned())
        .spawn(move || {
            let ended = Ended(&queue);
            let mut background = Background {
                queue: &queue,
                run,
                config,
                history,
                last_training: None,
                backlog: VecDeque::new(),
                // What a kill, or an edit, left behind is brought in step.
                also_behind: true,
                unsaved: Vec::new(),
                settled: true,
            };
            background.publish_present();
            background.follow_best();
            while let Some(job) = queue.next() {
                background.process(job);
            }
            drop(background);
            drop(ended);
        })
}

/// Tells the queue that the thread has ended, whatever ended it.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

struct Background<'a> {
    queue: &'a Queue,
    run: RunWriter,
    config: KeeperConfig,
    // What the journal has, for the metadata of the files.
    history: History,
    // Trainer state in what last points at.
    last_training: Option<Value>,
    // What the journal did not take yet, in order: written first when it takes something again.
    backlog: VecDeque<Event>,
    // Best may have moved since its other form was brought in step.
    also_behind: bool,
    // Bests that could not be saved, with their snapshots: at most one for each objective.
    unsaved: Vec<EvaluatedJob>,
    // They have been tried since the latest evaluation.
    settled: bool,
}

/// What a file is to become.
struct Target {
    mode: SaveMode,
    refs: Vec<RefName>,
}

impl Background<'_> {
    fn process(&mut self, job: Job) {
        match job {
            Job::Evaluated(job) => self.evaluated(*job),
            Job::Last(job) => self.last(*job),
            Job::Settle => self.settle(),
            Job::Interrupted => {
                let resume_step = self.run.state().last().map(|last| last.step);
                self.end(Event::Interrupted(InterruptedEvent { resume_step }));
            }
            Job::Finished(summary) => self.end(Event::Finished(FinishedEvent { summary })),
        }
    }

    fn settle(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.retry(None);
            self.prune();
        }
        self.follow_best();
    }

    fn end(&mut self, event: Event) {
        // Not once more right after it was: the best that was tested since is to stay the best.
        self.settle();
        // A ref whose move failed before gets one more try while the run is still open.
        let settled = self.run.settle_refs().map_err(|error| with_causes(&error));
        self.follow_best();
        let journalled = self.journal(event);
        let unresolved = self.unresolved();
        let mut state = self.queue.lock();
        state.unresolved = unresolved;
        if let Err(error) = settled.and(journalled) {
            state.end_error = Some(error);
        }
    }

    /// The saves that failed and that nothing made good for.
    fn unresolved(&self) -> Vec<SaveFailure> {
        let mut state = self.queue.lock();
        let failures = state.failures.clone();
        let run = self.run.state();
        let mut matters = |failure: &SaveFailure| {
            let best = failure.refs.iter().any(|reference| {
                let track = state.track(reference);
                track.is_some_and(|(_, track)| track.unsaved.is_some())
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
    fn retry(&mut self, next: Option<&EvaluatedJob>) {
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
    fn forget_beaten(&mut self) {
        let mut state = self.queue.lock();
        for job in &mut self.unsaved {
            let record = &job.record;
            job.refs.retain(|reference| {
                let track = state.track(reference);
                track.is_some_and(|(_, track)| track.misses(record))
            });
        }
        self.unsaved.retain(|job| !job.refs.is_empty());
    }

    /// Whether an evaluation was judged better than all before by the objective of a ref.
    fn improves(&self, job: &EvaluatedJob, reference: &RefName) -> bool {
        let place = self.queue.lock().track(reference).map(|(place, _)| place);
        let judgement = place.and_then(|place| job.record.judgement(place));
        job.refs.contains(reference) && judgement.is_some_and(|it| it.verdict.is_improved())
    }

    /// What was only to stand in for a best that is on disk by now is not needed.
    fn stand_back(&self, job: &mut EvaluatedJob) {
        for reference in std::mem::take(&mut job.refs) {
            let mut state = self.queue.lock();
            let better = state.track(&reference).and_then(|(place, track)| {
                let judgement = job.record.judgement(place)?;
                let stands_in = !judgement.verdict.is_improved() && track.has(&judgement.score?);
                stands_in.then(|| track.best.as_ref().map_or(0, |best| best.step))
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

    fn evaluated(&mut self, mut job: EvaluatedJob) {
        self.settled = false;
        if !self.unsaved.is_empty() {
            self.retry(Some(&job));
            self.stand_back(&mut job);
        }
        let mut begun = Vec::new();
        let mut failures: Vec<Failed> = Vec::new();
        let mut snapshot = job.snapshot.take();
        if let Some(of) = snapshot.clone() {
            // Foreign code runs inside: a panic there costs this save, not the run.
            match catch_unwind(AssertUnwindSafe(|| self.begin(&job, &of, &self.history))) {
                Ok(outcome) => {
                    job.record.digest = Some(outcome.digest);
                    self.queue.lock().digests.push((job.index, outcome.digest));
                    begun = outcome.begun;
                    failures = outcome.failures;
                }
                Err(panic) => {
                    failures.push((job.refs.clone(), panic_text(&*panic)));
                    // It would panic again.
                    snapshot = None;
                }
            }
        }
        self.history.push(job.record.clone());
        // While the disk has nothing else to do: this sync would wait for all that was written before it.
        if let Err(error) = self.journal_evaluation(&job) {
            // What the journal does not know cannot be promoted, so it need not be written.
            let unwritten: Vec<RefName> = begun.drain(..).flat_map(|file| file.refs).collect();
            match failures.last_mut() {
                Some((refs, first)) => {
                    refs.extend(unwritten);
                    *first = format!("{first}; {error}");
                }
                None => failures.push((unwritten, error)),
            }
        }
        for file in begun {
            failures.extend(self.commit(file, &job));
        }
        let mut missed = Vec::new();
        for (refs, error) in failures {
            for reference in &refs {
                let mut state = self.queue.lock();
                let on_disk = self.run.state().refs.get(reference);
                if let Some((place, track)) = state.track(reference)
                    && on_disk.is_none_or(|best| best.step != job.record.step)
                    && let Some(score) = job.record.judgement(place).and_then(|it| it.score)
                {
                    track.failed(&job.record, score, snapshot.is_some());
                    missed.push(reference.clone());
                }
            }
            self.failed(SaveFailure {
                refs,
                step: job.record.step,
                epoch: job.record.epoch,
                candidate: job.candidate,
                error,
            });
        }
        if !missed.is_empty() && snapshot.is_some() {
            self.unsaved.push(EvaluatedJob {
                refs: missed,
                snapshot,
                candidate: false,
                superseded: Vec::new(),
                ..job.clone()
            });
        }
        self.forget_beaten();
        self.follow_best();
        self.queue.lock().settled(job.index);
        self.prune();
    }

    fn targets(&self, job: &EvaluatedJob) -> Vec<Target> {
        let refs = &job.refs;
        match self.config.save {
            SaveMode::Full if !refs.is_empty() || job.candidate => vec![Target {
                mode: SaveMode::Full,
                refs: refs.clone(),
            }],
            SaveMode::Full => Vec::new(),
            SaveMode::Params => {
                let (bests, last): (Vec<_>, Vec<_>) =
                    refs.iter().cloned().partition(RefName::is_best);
                let mut targets = Vec::new();
                if !bests.is_empty() || job.candidate {
                    targets.push(Target {
                        mode: SaveMode::Params,
                        refs: bests,
                    });
                }
                if !last.is_empty() {
                    targets.push(Target {
                        mode: SaveMode::Full,
                        refs: last,
                    });
                }
                targets
            }
        }
    }

    fn begin(&self, job: &EvaluatedJob, snapshot: &SnapshotHandle, history: &History) -> Outcome {
        let weights = snapshot.weights();
        let targets = self.targets(job);
        let mut begun: Vec<Begun> = Vec::new();
        let mut failures = Vec::new();
        if !targets.is_empty() {
            let training_state = snapshot.training_state();
            let content = Content {
                step: job.record.step,
                epoch: job.record.epoch,
                weights: &weights,
                training_state: &training_state,
                record: Some(&job.record),
                history,
                training: &job.training,
                thresholds: job.thresholds.as_ref(),
            };
            for Target { mode, refs } in targets {
                match begin(
                    &self.run,
                    &self.config.constants,
                    mode,
                    &content,
                    refs.clone(),
                ) {
                    Ok(file) => begun.push(file),
                    Err(error) => failures.push((refs, with_causes(&error))),
                }
            }
        }
        Outcome {
            // The evaluation is recorded with its identity even when there is nothing to write.
            digest: begun
                .first()
                .map_or_else(|| weights_digest(&weights), Begun::weights),
            begun,
            failures,
        }
    }

    /// Appends an event, after those that could not be appended before.
    fn journal(&mut self, event: Event) -> Result<(), String> {
        self.backlog.push_back(event);
        self.journal_backlog()
    }

    fn journal_backlog(&mut self) -> Result<(), String> {
        while let Some(event) = self.backlog.front() {
            self.run
                .append(event.clone())
                .map_err(|error| with_causes(&error))?;
            self.backlog.pop_front();
        }
        Ok(())
    }

    fn journal_evaluation(&mut self, job: &EvaluatedJob) -> Result<(), String> {
        let record = &job.record;
        let mut result = self.journal(Event::Evaluated(record.clone()));
        if record.verdict.is_rejected() {
            result = self.journal(Event::Rejected(RejectedEvent {
                step: record.step,
                epoch: record.epoch,
                reason: record.verdict.reason().to_owned(),
            }));
        }
        for (reference, reason) in &job.superseded {
            result = self.journal(Event::Superseded(SupersededEvent {
                step: record.step,
                epoch: record.epoch,
                refs: vec![reference.clone()],
                reason: reason.clone(),
            }));
            self.event(KeeperEvent::Superseded {
                reference: reference.clone(),
                step: record.step,
                epoch: record.epoch,
                reason: reason.clone(),
            });
        }
        // Of several the last counts: it is an error as long as anything waits in the backlog.
        result
    }

    /// Commits a file and moves its refs. Returns what failed.
    fn commit(&mut self, file: Begun, job: &EvaluatedJob) -> Vec<Failed> {
        let refs = file.refs.clone();
        let record = &job.record;
        let committed = match self.commit_file(file, record.step, record.epoch) {
            Ok(committed) => committed,
            Err(error) => return vec![(refs, error)],
        };
        let mut failures = Vec::new();
        for reference in refs {
            let place = self.queue.lock().track(&reference).map(|(place, _)| place);
            let judgement = place.and_then(|place| record.judgement(place));
            let reason = judgement.as_ref().map(|judgement| {
                let verdict = &judgement.verdict;
                match verdict.is_improved() {
                    true => verdict.reason().to_owned(),
                    false => format!(
                        "{}, until what is better can be saved",
                        keepbest_core::format_value(judgement.value)
                    ),
                }
            });
            let before = self.run.state().refs.get(&reference);
            let was = before.and_then(|best| best.score).map(|score| score.value);
            let mut event =
                PromotedEvent::new(reference.clone(), &committed, record.step, record.epoch);
            if let Some(score) = judgement.and_then(|judgement| judgement.score) {
                event = event.with_score(score, was);
            }
            if let Err(error) = self.promote(&committed, event, reason) {
                failures.push((vec![reference], error));
            } else if reference == RefName::LAST {
                self.last_training = Some(job.training.clone());
            }
        }
        failures
    }

    fn commit_file(&mut self, file: Begun, step: u64, epoch: u64) -> Result<Committed, String> {
        let weights = file.weights();
        let committed = file.commit().map_err(|error| with_causes(&error))?;
        self.run
            .record_saved(&committed, step, epoch, weights)
            .map_err(|error| with_causes(&error))?;
        self.event(KeeperEvent::Saved {
            path: committed.name().path(self.run.path()),
            step,
            epoch,
            bytes: committed.bytes(),
        });
        Ok(committed)
    }

    fn promote(
        &mut self,
        committed: &Committed,
        event: PromotedEvent,
        reason: Option<String>,
    ) -> Result<(), String> {
        let reference = event.reference.clone();
        let promoted = KeeperEvent::Promoted {
            reference: reference.clone(),
            path: reference.path(self.run.path()),
            step: event.step,
            epoch: event.epoch,
            score: event.score,
            was: event.was,
            reason,
        };
        let result = self.run.promote(committed, event);
        if !matches!(result, Err(PromoteError::Journal(_))) {
            // The journal is what counts, even where the ref could not be moved yet.
            self.also_behind |= reference == RefName::BEST;
            if let Some((_, track)) = self.queue.lock().track(&reference) {
                let state = self.run.state();
                track.promoted(best_record(self.run.path(), state, reference));
            }
        }
        match result {
            Ok(_) => {
                self.event(promoted);
                Ok(())
            }
            Err(error) => Err(with_causes(&error)),
        }
    }

    fn last(&mut self, job: LastJob) {
        let LastJob {
            snapshot,
            epoch,
            training,
        } = job;
        let step = snapshot.step();
        let is_there = self
            .run
            .state()
            .last()
            .is_some_and(|last| last.step == step)
            && self.last_training.as_ref() == Some(&training);
        if is_there {
            return;
        }
        let begin_last = || {
            let weights = snapshot.weights();
            let training_state = snapshot.training_state();
            let content = Content {
                step,
                epoch,
                weights: &weights,
                training_state: &training_state,
                record: None,
                history: &self.history,
                training: &training,
                thresholds: None,
            };
            let refs = vec![RefName::LAST];
            begin(
                &self.run,
                &self.config.constants,
                SaveMode::Full,
                &content,
                refs,
            )
        };
        let begun = match catch_unwind(AssertUnwindSafe(begin_last)) {
            Ok(begun) => begun.map_err(|error| with_causes(&error)),
            Err(panic) => Err(panic_text(&*panic)),
        };
        drop(snapshot);
        let result = self
            .journal_backlog()
            .and(begun)
            .and_then(|file| self.commit_file(file, step, epoch))
            .and_then(|committed| {
                let event = PromotedEvent::new(RefName::LAST, &committed, step, epoch);
                self.promote(&committed, event, None)
            });
        match result {
            Ok(()) => self.last_training = Some(training),
            Err(error) => self.failed(SaveFailure {
                refs: vec![RefName::LAST],
                step,
                epoch,
                candidate: false,
                error,
            }),
        }
        self.follow_best();
        self.prune();
    }

    fn failed(&mut self, failure: SaveFailure) {
        // On a full disk this may fail too; the training loop hears of it all the same.
        let _ = self.journal(Event::SaveFailed(SaveFailedEvent {
            step: failure.step,
            epoch: failure.epoch,
            refs: failure.refs.clone(),
            error: failure.error.clone(),
        }));
        let mut state = self.queue.lock();
        state.failures.push(failure.clone());
        state.events.push(KeeperEvent::SaveFailed(failure));
    }

    /// Brings the other form of best in step with best, where it is not.
    fn follow_best(&mut self) {
        let Some(also) = self.config.also.filter(|_| self.also_behind) else {
            return;
        };
        let (fs, run) = (self.run.file_system(), self.run.path());
        let followed = Follower::new(also, fs, run, self.run.state())
            .and_then(|follower| follower.map_or(Ok(None), |follower| follower.follow()));
        let path = also.path(run);
        if let Ok(Some(aside)) = &followed {
            let event = KeeperEvent::SetAside {
                path: aside.clone(),
            };
            let _ = self.journal(Event::Repaired(RepairedEvent {
                finding: event.to_string(),
                action: "kept".to_owned(),
            }));
            self.event(event);
        }
        let mut state = self.queue.lock();
        self.also_behind = followed.is_err();
        state.also_error = followed.err().map(|error| with_causes(&error));
        if let Some(error) = state.also_error.clone() {
            state.events.push(KeeperEvent::AlsoFailed { path, error });
        }
    }

    fn prune(&mut self) {
        // Before anything is removed: a ref that still points at an older file would keep it from being removed anyway.
        if self.run.settle_refs().is_err() {
            return;
        }
        let events = prune(&mut self.run, &self.config);
        self.queue.lock().events.extend(events);
        self.publish_present();
    }

    /// Lets offers see what policies are about.
    fn publish_present(&self) {
        let present = of_kind(self.run.state(), self.config.save);
        self.queue.lock().present = present;
    }

    fn event(&self, event: KeeperEvent) {
        self.queue.lock().events.push(event);
    }
}

/// What was not saved, and why.
type Failed = (Vec<RefName>, String);

struct Outcome {
    digest: WeightsDigest,
    begun: Vec<Begun>,
    failures: Vec<Failed>,
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the snapshot panicked: {text}")
}
