//! The bests and last: promotions that were cut short, refs that are missing, stale or damaged.

use std::path::Path;

use super::check::{Check, Hand};
use super::report::FindingKind;
use crate::error::{IoError, OpenError, PromoteError};
use crate::fs::sync_dir;
use crate::journal::{Event, PromotedEvent, SavedEvent};
use crate::layout::{RefName, free_aside};
use crate::refs;
use crate::staged::Committed;

impl Check<'_> {
    /// Completes promotions that were cut short between `saved` and `promoted`, and finds the next best when best was lost.
    pub(super) fn unfinished_promotions(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        for place in 0..self.state().objectives().len() {
            self.complete_best(place)?;
        }
        self.complete_last()
    }

    /// The best by the objective at a place.
    fn complete_best(&mut self, place: usize) -> Result<(), OpenError> {
        let state = self.state();
        let objectives = state.objectives();
        let Some((reference, objective)) = objectives.get(place) else {
            return Ok(());
        };
        let best = state.refs.get(reference);
        let (exists, score) = (best.is_some(), best.and_then(|best| best.score));
        let lost = state.lost.contains(reference);
        let candidates: Vec<_> = state
            .ranked(place)
            .into_iter()
            .filter(|(_, candidate, improved)| {
                // Better by the total order is not enough: it must have been judged an improvement. When best itself was
                // lost, whatever comes next will do.
                match &score {
                    Some(best) => *improved && objective.compare_total(candidate, best).is_gt(),
                    None => *improved || lost,
                }
            })
            .map(|(checkpoint, score, _)| (checkpoint.saved.clone(), score))
            .collect();
        let reference = reference.clone();
        for (saved, better) in candidates {
            if !self.is_sound(&saved.checkpoint)? {
                continue;
            }
            let problem = match exists {
                true => format!("is better than what the journal calls {reference}"),
                false => format!("is the {reference} that verifies"),
            };
            let event = PromotedEvent {
                reference,
                checkpoint: saved.checkpoint.clone(),
                step: saved.step,
                epoch: saved.epoch,
                score: Some(better),
                was: score.map(|score| score.value),
            };
            return self.complete(&saved, &problem, event);
        }
        if lost && !exists {
            self.report.add(
                FindingKind::NothingLeft,
                reference.file_name(),
                "no checkpoint that was evaluated verifies",
                None,
            );
        }
        Ok(())
    }

    fn complete_last(&mut self) -> Result<(), OpenError> {
        let last_step = self.state().last().map(|last| last.step);
        let path = RefName::LAST.path(&self.run);
        let stat = self.fs.stat(&path).map_err(IoError::at("examine", &path))?;
        let wanted = stat.is_some() || self.state().lost.contains(&RefName::LAST);
        if last_step.is_none() && !wanted {
            // This run has no last: it may not want one.
            return Ok(());
        }
        let candidates: Vec<SavedEvent> = self
            .state()
            .resume_points()
            .into_iter()
            .map(|checkpoint| checkpoint.saved.clone())
            .filter(|saved| last_step.is_none_or(|step| saved.step > step))
            .collect();
        for saved in candidates {
            if !self.is_sound(&saved.checkpoint)? {
                continue;
            }
            let problem = match last_step {
                Some(_) => "is newer than what the journal calls last",
                None => "is the newest full model that verifies",
            };
            let event = PromotedEvent {
                reference: RefName::LAST,
                checkpoint: saved.checkpoint.clone(),
                step: saved.step,
                epoch: saved.epoch,
                score: None,
                was: None,
            };
            return self.complete(&saved, problem, event);
        }
        Ok(())
    }

    fn complete(
        &mut self,
        saved: &SavedEvent,
        problem: &str,
        event: PromotedEvent,
    ) -> Result<(), OpenError> {
        let action = format!("made {}", event.reference);
        let kind = FindingKind::UnfinishedPromotion;
        self.found(kind, &saved.checkpoint, problem, &action)?;
        let path = event.reference.path(&self.run);
        let Hand::Mend(writer) = &mut self.hand else {
            return self.append(Event::Promoted(event));
        };
        {
            // It verified a moment ago.
            let committed = Committed {
                name: saved.checkpoint.clone(),
                bytes: saved.bytes,
                file: saved.file,
            };
            writer
                .promote(&committed, event)
                .map_err(|error| match error {
                    PromoteError::Journal(error) => OpenError::Journal(error),
                    PromoteError::Io(error) => OpenError::Io(error),
                })?;
            // It is another file now.
            self.facts.files.remove(&path);
        }
        Ok(())
    }

    pub(super) fn reference(&mut self, reference: &RefName) -> Result<(), OpenError> {
        let path = reference.path(&self.run);
        let file = &reference.file_name();
        let exists = self
            .fs
            .stat(&path)
            .map_err(IoError::at("examine", &path))?
            .is_some();
        let Some(target) = self.state().refs.get(reference).cloned() else {
            if exists && let Err(problem) = self.verdict(&path)? {
                let aside = free_aside(&*self.fs, &path)?;
                let shown = aside.file_name().unwrap_or_default().to_string_lossy();
                let action = format!("kept as {shown}");
                if self.found(FindingKind::DamagedRef, file, problem, &action)? {
                    self.rename_aside(&path, &aside)?;
                    self.sync_run()?;
                }
            }
            return Ok(());
        };
        // When it is missing, and not mended, that has been reported.
        if !self.exists(&target.checkpoint)? {
            return Ok(());
        }
        let own = target.checkpoint.path(&self.run);
        let original = match self.restored.get(&target.checkpoint) {
            Some(restored) if self.stat(&own)?.is_none() => restored.from.clone(),
            _ => own,
        };
        if refs::same_file(&self.fs, &original, &path)? {
            return Ok(());
        }
        if self.verified(&target.checkpoint)?.is_err() {
            // Without repair, a target that is damaged has been reported.
            return Ok(());
        }
        let (kind, problem) = if exists {
            match self.verdict(&path)? {
                // A copy, where there are no links.
                Ok(_) if self.same_bytes(&original, &path)? => return Ok(()),
                Ok(_) => (
                    FindingKind::WrongRef,
                    format!("is not {}", target.checkpoint),
                ),
                Err(problem) => (FindingKind::DamagedRef, problem),
            }
        } else {
            (FindingKind::MissingRef, "is missing".to_owned())
        };
        if self.report.active_writer.is_some() {
            // It may be on its way.
            return Ok(());
        }
        let action = format!("set to {}", target.checkpoint);
        if self.found(kind, file, problem, &action)? {
            refs::point(&self.fs, &self.run, reference, &target.checkpoint)?;
        }
        Ok(())
    }

    fn same_bytes(&self, a: &Path, b: &Path) -> Result<bool, IoError> {
        let hash = |path: &Path| {
            let bytes = self.fs.read(path).map_err(IoError::at("read", path))?;
            Ok(blake3::hash(&bytes))
        };
        Ok(hash(a)? == hash(b)?)
    }

    fn sync_run(&self) -> Result<(), IoError> {
        sync_dir(&*self.fs, &self.run)
    }
}
