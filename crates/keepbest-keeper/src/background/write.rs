//! A file of a checkpoint: begun beside the evaluation, committed, and made best or last.

use keepbest_core::text::with_causes;
use keepbest_core::{EvaluationRecord, History, WeightsDigest};
use keepbest_formats::model_file::{Attachments, Kind, ModelMetadata};
use keepbest_formats::{SnapshotHandle, weights_digest};
use keepbest_store::{Committed, PromoteError, PromotedEvent, RefName};

use super::Background;
use crate::config::SaveMode;
use crate::event::{KeeperEvent, best_record};
use crate::queue::EvaluatedJob;
use crate::save::{Begun, Tensors, WriteError, begin};
use crate::stamp;

/// What a file is to become.
struct Target {
    mode: SaveMode,
    refs: Vec<RefName>,
}

/// What was not saved, and why.
pub(super) type Failed = (Vec<RefName>, String);

pub(super) struct Outcome {
    pub(super) digest: WeightsDigest,
    pub(super) begun: Vec<Begun>,
    pub(super) failures: Vec<Failed>,
}

impl Background<'_> {
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

    pub(super) fn begin(
        &self,
        job: &EvaluatedJob,
        snapshot: &SnapshotHandle,
        history: &History,
    ) -> Outcome {
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
    pub(super) fn metadata(
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

    /// Commits a file and moves its refs. Returns what failed.
    pub(super) fn commit(&mut self, file: Begun, job: &EvaluatedJob) -> Vec<Failed> {
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

    pub(super) fn commit_file(
        &mut self,
        file: Begun,
        step: u64,
        epoch: u64,
    ) -> Result<Committed, String> {
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

    pub(super) fn promote(
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
}
