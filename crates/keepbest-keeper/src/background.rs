//! The writer thread: journals, saves, promotes, prunes, in the order of the offers.

mod retry;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use keepbest_core::text::with_causes;
use keepbest_core::{EvaluationRecord, History, WeightsDigest};
use keepbest_formats::model_file::{Attachments, Kind, ModelMetadata};
use keepbest_formats::{SnapshotHandle, weights_digest};
use keepbest_store::{
    Committed, Event, FinishedEvent, InterruptedEvent, PromoteError, PromotedEvent, RefName,
    RejectedEvent, RepairedEvent, RunWriter, SaveFailedEvent, SupersededEvent,
};
use serde_json::Value;

use crate::best_copy::BestCopy;
use crate::config::{KeeperConfig, SaveMode};
use crate::event::{KeeperEvent, SaveFailure, best_record};
use crate::prune::{of_kind, prune};
use crate::queue::{EvaluatedJob, Job, LastJob, Queue};
use crate::save::{Begun, Tensors, WriteError, begin};
use crate::stamp;

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
    last_training: Option<Option<Value>>,
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
                if let Some((place, best)) = state.progress(reference)
                    && on_disk.is_none_or(|best| best.step != job.record.step)
                    && let Some(score) = job.record.judgement(place).and_then(|it| it.score)
                {
                    best.failed(&job.record, score, snapshot.is_some());
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
        let targets = self.targets(job);
        let mut begun: Vec<Begun> = Vec::new();
        let mut failures = Vec::new();
        if !targets.is_empty() {
            let tensors = Tensors::of(snapshot);
            let metadata = self
                .metadata(
                    (job.record.step, job.record.epoch),
                    &job.attachments,
                    Some(&job.record),
                    history,
                )
                .map_err(|error| with_causes(&error));
            for Target { mode, refs } in targets {
                let file = metadata.clone().and_then(|metadata| {
                    begin(&self.run, mode, &tensors, metadata, refs.clone())
                        .map_err(|error| with_causes(&error))
                });
                match file {
                    Ok(file) => begun.push(file),
                    Err(error) => failures.push((refs, error)),
                }
            }
        }
        Outcome {
            // The evaluation is recorded with its identity even when there is nothing to write.
            digest: begun
                .first()
                .map_or_else(|| weights_digest(&snapshot.weights()), Begun::weights),
            begun,
            failures,
        }
    }

    /// What the full model of a step says: what every file of the run does, what this one does, and what is known of it so far.
    fn metadata(
        &self,
        (step, epoch): (u64, u64),
        attachments: &Attachments,
        record: Option<&EvaluationRecord>,
        history: &History,
    ) -> Result<ModelMetadata, WriteError> {
        let constants = self.config.constants.clone();
        let provenance = stamp::add(constants.provenance.clone(), self.run.events());
        Ok(ModelMetadata {
            kind: Kind::Full,
            step,
            epoch,
            attachments: Attachments {
                evaluation: record.map(serde_json::to_value).transpose()?,
                history: Some(serde_json::to_value(history)?),
                provenance,
                ..constants.overlaid(attachments.clone())
            },
        })
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
            let place = self
                .queue
                .lock()
                .progress(&reference)
                .map(|(place, _)| place);
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
                self.last_training = Some(job.attachments.training.clone());
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
            if let Some((_, best)) = self.queue.lock().progress(&reference) {
                let state = self.run.state();
                best.promoted(best_record(self.run.path(), state, reference));
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
            attachments,
        } = job;
        let step = snapshot.step();
        let is_there = self
            .run
            .state()
            .last()
            .is_some_and(|last| last.step == step)
            && self.last_training.as_ref() == Some(&attachments.training);
        if is_there {
            return;
        }
        let begin_last = || {
            let tensors = Tensors::of(&snapshot);
            let metadata = self.metadata((step, epoch), &attachments, None, &self.history)?;
            let refs = vec![RefName::LAST];
            begin(&self.run, SaveMode::Full, &tensors, metadata, refs)
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
            Ok(()) => self.last_training = Some(attachments.training),
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
        let followed = BestCopy::new(also, fs, run, self.run.state())
            .and_then(|copy| copy.map_or(Ok(None), |copy| copy.follow()));
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
