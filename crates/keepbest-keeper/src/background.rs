//! The writer thread: journals, saves, promotes, prunes, in the order of the offers.

mod retry;
mod write;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use keepbest_core::History;
use keepbest_core::text::with_causes;
use keepbest_store::{
    Event, FinishedEvent, InterruptedEvent, PromotedEvent, RefName, RejectedEvent, RepairedEvent,
    RunWriter, SaveFailedEvent, SupersededEvent,
};
use serde_json::Value;

use self::write::Failed;
use crate::best_copy::BestCopy;
use crate::config::{KeeperConfig, SaveMode};
use crate::event::{KeeperEvent, SaveFailure};
use crate::prune::{of_kind, prune};
use crate::queue::{EvaluatedJob, Job, LastJob, Queue};
use crate::save::{Tensors, begin};

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

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the snapshot panicked: {text}")
}
