//! What the training loop calls.

mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use keepbest_core::retention::{Checkpoint, Policy, Protections, plan};
use keepbest_core::{
    EarlyStopping, EvaluationRecord, History, Judgement, Objective, Score, StopReason, Verdict,
};
use keepbest_formats::model_file::Attachments;
use keepbest_formats::{SnapshotHandle, Wanted};
use keepbest_store::{Guarantee, RefName};
use serde_json::Value;

pub use self::open::Resumed;
use crate::config::SaveMode;
use crate::copy_format::CopyFormat;
use crate::error::{FinishError, OfferError};
use crate::evaluation::Evaluation;
use crate::event::{BestRecord, KeeperEvent, KeeperSummary};
use crate::goal::Goal;
use crate::queue::{EvaluatedJob, Job, LastJob, Queue};
use crate::view::RunView;

/// Keeps the best model of a run, and the point to resume it from.
///
/// [`offer`](Self::offer) judges an evaluation at once and returns; encoding, writing, reading back, promoting and pruning happen
/// on one background thread. What became of it is told by [`events`](Self::events) and by [`finish`](Self::finish). A save that
/// fails costs that save and nothing else: best and last stay what they were, the next evaluation saves anew, and a best that could
/// not be saved is held in memory, one for each objective, and tried again at every evaluation and at the end.
///
/// Dropping a keeper waits for the saves under way.
///
/// ```
/// use keepbest_core::{Metrics, Objective};
/// use keepbest_formats::{StateDict, Tensor};
/// use keepbest_keeper::{Evaluation, Keeper, KeeperConfig, OwnedSnapshot, SnapshotHandle};
/// use serde_json::json;
///
/// # let runs = tempfile::tempdir()?;
/// # let run = runs.path().join("run");
/// let config = KeeperConfig::new(Objective::new("val/accuracy")?);
/// let mut keeper = Keeper::create(&run, "seed = 1\n", config)?;
/// for (epoch, accuracy) in [(1, 0.81), (2, 0.88), (3, 0.86)] {
///     // ... train an epoch, then:
///     let mut weights = StateDict::new();
///     weights.insert("fc.bias", Tensor::from_f32(&[1], &[epoch as f32])?)?;
///     let snapshot = SnapshotHandle::new(OwnedSnapshot {
///         step: epoch * 100,
///         weights,
///         training_state: StateDict::new(),
///     });
///     let metrics = Metrics::from_iter([("val/accuracy", accuracy)]);
///     let verdict = keeper.offer(Evaluation::of(&snapshot, epoch, metrics), json!({"epoch": epoch}))?;
///     println!("epoch {epoch}: {}", verdict.reason());
/// }
/// let summary = keeper.finish(json!({"stopped": "planned end"}))?;
/// let best = summary.best.expect("there is a best");
/// assert_eq!((best.epoch, best.score.value), (2, 0.88));
/// assert!(best.path.ends_with("best.safetensors"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Keeper {
    run: PathBuf,
    guarantee: Guarantee,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    goals: Vec<Goal>,
    also: Option<CopyFormat>,
    keep_last: bool,
    save: SaveMode,
    retention: Vec<Policy>,
    stopping: EarlyStopping,
    stop: Option<StopReason>,
    history: History,
}

impl Keeper {
    /// Takes an evaluation: judges it now, saves its snapshot in the background. `training` is the state of the trainer that a
    /// resumed run needs beside the optimizer's; it goes into full models.
    ///
    /// Returns the verdict by the first objective, in microseconds. At most one save is in flight, and one waits for each objective;
    /// one that waits and is overtaken (a best that is beaten, a last that is older) is journalled as superseded and its snapshot
    /// let go of.
    ///
    /// # Errors
    /// [`OfferError::Objective`] when a metric that an objective needs is missing: nothing is saved, best stays what it is.
    pub fn offer(
        &mut self,
        evaluation: Evaluation,
        training: Value,
    ) -> Result<Verdict, OfferError> {
        let step = evaluation.step();
        if let Some(previous) = self.history.last().map(|record| record.step)
            && step < previous
        {
            return Err(OfferError::OutOfOrder { step, previous });
        }
        // What was reached, and what of it is on disk or on its way there.
        let to_beat: Vec<(Option<Score>, Option<Score>)> = {
            let state = self.queue.lock();
            if state.ended {
                return Err(OfferError::WriterGone);
            }
            let bests = state.bests.iter();
            bests.map(|best| (best.reached(), best.to_beat())).collect()
        };
        // Luck was weighed by the first objective.
        let withheld = |place| evaluation.why_withheld().filter(|_| place == 0);
        let judged = self.goals.iter().zip(&to_beat).enumerate();
        let judgements = judged.map(|(place, (goal, (reached, _)))| {
            goal.judge(&evaluation, *reached, withheld(place))
        });
        let mut judgements = judgements.collect::<Result<Vec<_>, _>>()?;

        let (mut refs, mut superseded) = (Vec::new(), Vec::new());
        // Taken over once nothing can refuse the offer any more.
        let mut next_goals = self.goals.clone();
        let goals = next_goals.iter_mut().zip(&judgements).zip(to_beat);
        for (place, ((goal, judgement), (reached, on_disk))) in goals.enumerate() {
            let Some(score) = judgement.score.filter(|_| judgement.verdict.is_improved()) else {
                // Better than what is on disk, it stands in for a best that could not be saved so far.
                if reached != on_disk
                    && goal
                        .judge(&evaluation, on_disk, withheld(place))?
                        .verdict
                        .is_improved()
                {
                    refs.push(goal.reference.clone());
                }
                continue;
            };
            match goal.improved(step, score) {
                None => refs.push(goal.reference.clone()),
                Some(reason) => superseded.push((goal.reference.clone(), reason)),
            }
        }
        if self.keep_last {
            refs.push(RefName::LAST);
        }
        let candidate = self.may_stay(&evaluation, &judgements[0]);
        let wanted = match (refs.is_empty() && !candidate, self.save) {
            (true, _) => Wanted::Nothing,
            (false, SaveMode::Params) if !self.keep_last => Wanted::Weights,
            (false, _) => Wanted::Everything,
        };
        let taken = evaluation.snapshot().take(wanted);
        let readable = taken.map_err(OfferError::Snapshot)?;
        self.goals = next_goals;

        let epoch = evaluation.epoch();
        let first = judgements.remove(0);
        self.stop = self
            .stopping
            .observe(&self.goals[0].objective, &first, epoch);
        let verdict = first.verdict.clone();
        let (snapshot, record, attachments) = evaluation.judged(first);
        let record = record.with_others(judgements);
        let index = self.history.len();
        self.history.push(record.clone());
        self.queue.offer(EvaluatedJob {
            index,
            record,
            snapshot: readable.then_some(snapshot),
            refs,
            candidate,
            superseded,
            attachments: with_training(attachments, training),
        });
        Ok(verdict)
    }

    /// Whether a checkpoint of this evaluation would stay by the run's policies, as far as is known: what is still to be written
    /// counts for nothing yet.
    fn may_stay(&self, evaluation: &Evaluation, judgement: &Judgement) -> bool {
        if self.retention.is_empty() {
            return false;
        }
        let mut checkpoints = self.queue.lock().present.clone();
        let name = "this".to_owned();
        checkpoints.push(Checkpoint {
            name: name.clone(),
            step: evaluation.step(),
            epoch: evaluation.epoch(),
            score: judgement.score,
            metrics: evaluation.metrics().clone(),
            bytes: 0,
        });
        let plan = plan(
            &checkpoints,
            &self.retention,
            &Protections::default(),
            self.objective(),
        );
        plan.kept.iter().any(|kept| kept.name == name)
    }

    /// Saves the resume point without an evaluation, as when training is interrupted in the middle of an epoch. Waits for a save
    /// that is waiting to begin. Does nothing when last is this snapshot with this state already.
    pub fn save_last(&mut self, snapshot: &SnapshotHandle, epoch: u64, training: Value) {
        self.queue.push_when_free(Job::Last(Box::new(LastJob {
            snapshot: snapshot.clone(),
            epoch,
            attachments: with_training(Attachments::default(), training),
        })));
    }

    /// Tries once more what could not be saved and still is the best, and waits. To be called before the best is read back from disk at
    /// the end of a run.
    pub fn settle(&self) {
        self.queue.push_when_free(Job::Settle);
        self.queue.wait_idle();
    }

    /// What happened in the background since the last call.
    pub fn events(&mut self) -> Vec<KeeperEvent> {
        std::mem::take(&mut self.queue.lock().events)
    }

    /// Waits until everything offered is saved, or has failed.
    pub fn wait(&self) {
        self.queue.wait_idle();
    }

    /// Waiting for what is saved, for those who do not hold the keeper.
    #[must_use]
    pub fn saves(&self) -> Saves {
        Saves(Arc::clone(&self.queue))
    }

    /// Whether training should stop, and why.
    #[must_use]
    pub fn should_stop(&self) -> Option<StopReason> {
        self.stop.clone()
    }

    /// Whether training should stop because of the loss of a step.
    #[must_use]
    pub fn should_stop_by_loss(&self, step: u64, loss: f64) -> Option<StopReason> {
        self.stopping.observe_loss(step, loss)
    }

    /// Whether training should stop because of the time since it began.
    #[must_use]
    pub fn should_stop_by_time(&self, elapsed: Duration) -> Option<StopReason> {
        self.stopping.observe_elapsed(elapsed)
    }

    /// The best model on disk.
    #[must_use]
    pub fn best(&self) -> Option<BestRecord> {
        self.queue.lock().best().cloned()
    }

    /// The best models on disk by the further objectives.
    #[must_use]
    pub fn others(&self) -> Vec<BestRecord> {
        let state = self.queue.lock();
        let others = state.bests.iter().skip(1);
        others.filter_map(|other| other.best.clone()).collect()
    }

    /// The evaluations so far. Digests are there for those whose snapshot has been read.
    #[must_use]
    pub fn history(&self) -> History {
        let digests = self.queue.lock().digests.clone();
        let mut records: Vec<EvaluationRecord> = self.history.records().to_vec();
        for (index, digest) in digests {
            if let Some(record) = records.get_mut(index) {
                record.digest = Some(digest);
            }
        }
        records.into_iter().collect()
    }

    /// What the run's files are safe against, as the file system was found.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// The evaluations so far as they were judged, without digests.
    #[must_use]
    pub fn evaluations(&self) -> &History {
        &self.history
    }

    /// The run directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.run
    }

    /// The first objective.
    #[must_use]
    pub fn objective(&self) -> &Objective {
        &self.goals[0].objective
    }

    /// Waits for the saves under way and journals the end of the run with `summary`.
    ///
    /// # Errors
    /// [`FinishError`] when the end cannot be journalled. Saves that failed are in the summary, not an error.
    pub fn finish(self, summary: Value) -> Result<KeeperSummary, FinishError> {
        self.end(Job::Finished(summary))
    }

    /// Waits for the saves under way and journals that training was stopped from outside.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn interrupt(self) -> Result<KeeperSummary, FinishError> {
        self.end(Job::Interrupted)
    }

    fn end(mut self, job: Job) -> Result<KeeperSummary, FinishError> {
        self.queue.push_when_free(job);
        let in_order = self.queue.wait_idle();
        self.join();
        if !in_order {
            return Err(FinishError::WriterGone);
        }
        let others = self.others();
        let mut state = self.queue.lock();
        let summary = KeeperSummary {
            best: state.best().cloned(),
            others,
            last: RunView::open(&self.run).ok().and_then(|view| view.last()),
            failures: std::mem::take(&mut state.failures),
            unresolved: std::mem::take(&mut state.unresolved),
            best_is_saved: state.bests.iter().all(|best| best.unsaved.is_none()),
            unsaved: state
                .bests
                .iter()
                .filter_map(|it| it.unsaved.clone())
                .collect(),
            also: self
                .also
                .filter(|_| state.best().is_some())
                .map(|also| also.path(&self.run)),
            also_error: state.also_error.take(),
            evaluations: self.history.len(),
            events: std::mem::take(&mut state.events),
        };
        match state.end_error.take() {
            Some(error) => Err(FinishError::Journal {
                error,
                summary: Box::new(summary),
            }),
            None => Ok(summary),
        }
    }

    fn join(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread shows as a queue that is not empty.
            let _ = thread.join();
        }
    }
}

/// What a keeper saves in the background.
#[derive(Clone, Debug)]
pub struct Saves(Arc<Queue>);

impl Saves {
    /// Waits until everything offered is saved or has failed, but no longer than this. Returns whether it is.
    #[must_use]
    pub fn wait_for(&self, patience: Duration) -> bool {
        self.0.wait_idle_for(patience)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.join();
    }
}

/// The state of the trainer, if it has one, beside what goes into a file already.
fn with_training(attachments: Attachments, training: Value) -> Attachments {
    Attachments {
        training: Some(training).filter(|training| !training.is_null()),
        ..attachments
    }
}
