//! The examination. With a writer every finding is mended as it is found; without one it is only reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::report::{FindingKind, FsckReport};
use super::{Depth, Verified, Verifier};
use crate::error::{IoError, JournalError, OpenError};
use crate::fs::{SharedFileSystem, sync_dir};
use crate::journal::{Event, PrunedEvent, RepairedEvent, SavedEvent};
use crate::layout::{CHECKPOINTS_DIR, CheckpointName, DAMAGED_SUFFIX, JOURNAL_FILE, STAGED_PREFIX};
use crate::reader::RunReader;
use crate::refs;
use crate::state::RunState;
use crate::writer::RunWriter;

/// Examines without touching anything.
pub(super) fn examine(
    fs: &SharedFileSystem,
    reader: &RunReader,
    verify: &dyn Verifier,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let journal = match reader.journal() {
        Ok(journal) => journal,
        Err(error @ JournalError::Damaged { .. }) => {
            report.add(
                FindingKind::DamagedJournal,
                JOURNAL_FILE,
                error.to_string(),
                None,
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(torn) = &journal.torn
        && report.active_writer.is_none()
    {
        report.add(
            FindingKind::TornJournal,
            JOURNAL_FILE,
            format!("line {} is incomplete: {}", torn.line, torn.problem),
            None,
        );
    }
    let state = RunState::from_entries(&journal.entries);
    let mut check = Check {
        fs: SharedFileSystem::clone(fs),
        run: reader.path().to_owned(),
        hand: Hand::Examine(Box::new(state)),
        verify,
        results: BTreeMap::new(),
        report,
    };
    check.run(Depth::All)
}

/// Examines and mends.
pub(super) fn mend(
    writer: &mut RunWriter,
    depth: Depth,
    verify: &dyn Verifier,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let mut check = Check {
        fs: SharedFileSystem::clone(&writer.fs),
        run: writer.path.clone(),
        hand: Hand::Mend(writer),
        verify,
        results: BTreeMap::new(),
        report,
    };
    check.run(depth)
}

pub(super) enum Hand<'a> {
    Examine(Box<RunState>),
    Mend(&'a mut RunWriter),
}

pub(super) struct Check<'a> {
    pub(super) fs: SharedFileSystem,
    pub(super) run: PathBuf,
    pub(super) hand: Hand<'a>,
    pub(super) verify: &'a dyn Verifier,
    // What reading each checkpoint gave, so that none is read twice.
    results: BTreeMap<CheckpointName, Result<Verified, String>>,
    pub(super) report: &'a mut FsckReport,
}

impl Check<'_> {
    fn run(&mut self, depth: Depth) -> Result<(), OpenError> {
        self.leftovers()?;
        let on_disk = self.on_disk()?;
        self.half_pruned(&on_disk)?;
        self.missing(&on_disk)?;
        self.orphans(&on_disk)?;
        self.damaged(depth)?;
        self.archives(depth)?;
        self.unfinished_promotions()?;
        for reference in self.state().ref_names() {
            self.reference(&reference)?;
        }
        let mut verified: Vec<_> = self
            .results
            .iter()
            .filter(|(_, result)| result.is_ok())
            .map(|(name, _)| name.clone())
            .collect();
        self.report.verified.append(&mut verified);
        Ok(())
    }

    pub(super) fn state(&self) -> &RunState {
        match &self.hand {
            Hand::Examine(state) => state,
            Hand::Mend(writer) => &writer.state,
        }
    }

    fn mends(&self) -> bool {
        matches!(self.hand, Hand::Mend(_))
    }

    /// Reports a finding; when mending, journals what will be done about it first.
    pub(super) fn found(
        &mut self,
        kind: FindingKind,
        subject: impl std::fmt::Display,
        problem: impl Into<String>,
        action: &str,
    ) -> Result<bool, OpenError> {
        let (subject, problem) = (subject.to_string(), problem.into());
        if let Hand::Mend(writer) = &mut self.hand {
            writer.append(Event::Repaired(RepairedEvent {
                finding: format!("{subject}: {problem}"),
                action: action.to_owned(),
            }))?;
        }
        let mends = self.mends();
        self.report
            .add(kind, subject, problem, mends.then_some(action));
        Ok(mends)
    }

    pub(super) fn append(&mut self, event: Event) -> Result<(), OpenError> {
        if let Hand::Mend(writer) = &mut self.hand {
            writer.append(event)?;
        }
        Ok(())
    }

    pub(super) fn verified(&mut self, name: &CheckpointName) -> Result<Verified, String> {
        if let Some(result) = self.results.get(name) {
            return result.clone();
        }
        let result = self
            .verify
            .checkpoint(&name.path(&self.run))
            .map_err(|error| with_causes(&*error))
            .and_then(|verified| consistent(name, verified));
        self.results.insert(name.clone(), result.clone());
        result
    }

    fn leftovers(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        for directory in [self.run.clone(), self.run.join(CHECKPOINTS_DIR)] {
            for name in self.list(&directory)? {
                if !name.starts_with(STAGED_PREFIX) {
                    continue;
                }
                self.leftover(&directory.join(&name), "was never finished")?;
            }
        }
        Ok(())
    }

    /// A file that nothing refers to.
    pub(super) fn leftover(&mut self, path: &Path, problem: &str) -> Result<(), OpenError> {
        let subject = path.strip_prefix(&self.run).unwrap_or(path).to_owned();
        if self.found(
            FindingKind::StagedLeftover,
            subject.display(),
            problem,
            "removed",
        )? {
            self.fs
                .remove_file(path)
                .map_err(IoError::at("remove", path))?;
        }
        Ok(())
    }

    pub(super) fn list(&self, directory: &Path) -> Result<Vec<String>, IoError> {
        self.fs
            .list(directory)
            .map_err(IoError::at("list", directory))
    }

    fn on_disk(&self) -> Result<BTreeSet<CheckpointName>, IoError> {
        let names = self.list(&self.run.join(CHECKPOINTS_DIR))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn half_pruned(&mut self, on_disk: &BTreeSet<CheckpointName>) -> Result<(), OpenError> {
        for name in on_disk {
            let pruned = self
                .state()
                .checkpoints
                .get(name)
                .is_some_and(|checkpoint| checkpoint.pruned.is_some());
            if pruned
                && self.found(
                    FindingKind::HalfPruned,
                    name,
                    "the journal says it was removed",
                    "removed",
                )?
            {
                let path = name.path(&self.run);
                self.fs
                    .remove_file(&path)
                    .map_err(IoError::at("remove", &path))?;
            }
        }
        Ok(())
    }

    fn missing(&mut self, on_disk: &BTreeSet<CheckpointName>) -> Result<(), OpenError> {
        let missing: Vec<SavedEvent> = self
            .state()
            .present()
            .filter(|checkpoint| !on_disk.contains(&checkpoint.saved.checkpoint))
            .map(|checkpoint| checkpoint.saved.clone())
            .collect();
        for saved in missing {
            if self.restore_from_ref(
                &saved,
                FindingKind::MissingCheckpoint,
                "is not in checkpoints",
            )? {
                continue;
            }
            self.found(
                FindingKind::MissingCheckpoint,
                &saved.checkpoint,
                "is not on disk",
                "noted as removed",
            )?;
            self.append(Event::Pruned(PrunedEvent {
                checkpoint: saved.checkpoint,
                reason: "missing from disk when the run was checked".to_owned(),
            }))?;
        }
        Ok(())
    }

    /// Gives a checkpoint its file back when a ref still has the same weights, whole.
    fn restore_from_ref(
        &mut self,
        saved: &SavedEvent,
        kind: FindingKind,
        problem: &str,
    ) -> Result<bool, OpenError> {
        let target = saved.checkpoint.path(&self.run);
        for reference in self.state().referenced_by(&saved.checkpoint) {
            let path = reference.path(&self.run);
            if refs::same_file(&self.fs, &path, &target)? {
                continue;
            }
            let Ok(verified) = self.verify.checkpoint(&path) else {
                continue;
            };
            if verified.weights != saved.weights || verified.kind != saved.kind {
                continue;
            }
            let action = format!("restored from {reference}");
            if self.found(kind, &saved.checkpoint, problem, &action)? {
                refs::replace_by_link(&self.fs, &path, &target)?;
                sync_dir(&*self.fs, &self.run.join(CHECKPOINTS_DIR))?;
            }
            self.results.insert(saved.checkpoint.clone(), Ok(verified));
            return Ok(true);
        }
        Ok(false)
    }

    fn orphans(&mut self, on_disk: &BTreeSet<CheckpointName>) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            // Named, and about to be journalled.
            return Ok(());
        }
        for name in on_disk {
            if self.state().checkpoints.contains_key(name) {
                continue;
            }
            match self.verified(name) {
                Ok(verified) => {
                    self.found(
                        FindingKind::Orphan,
                        name,
                        "the journal does not know it",
                        "it verifies: noted as saved",
                    )?;
                    let path = name.path(&self.run);
                    let stat = self.fs.stat(&path).map_err(IoError::at("examine", &path))?;
                    self.append(Event::Saved(SavedEvent {
                        step: verified.step,
                        epoch: verified.epoch,
                        checkpoint: name.clone(),
                        kind: verified.kind,
                        bytes: stat.map_or(0, |stat| stat.len),
                        weights: verified.weights,
                        file: verified.file,
                    }))?;
                }
                Err(problem) => {
                    self.set_aside(FindingKind::Orphan, name, &problem)?;
                }
            }
        }
        Ok(())
    }

    /// Renames a checkpoint that does not verify, so that nothing takes it for a good one.
    fn set_aside(
        &mut self,
        kind: FindingKind,
        name: &CheckpointName,
        problem: &str,
    ) -> Result<(), OpenError> {
        let path = name.path(&self.run);
        let aside = format!("{name}{DAMAGED_SUFFIX}");
        let action = format!("kept as {aside}");
        if self.found(kind, name, problem, &action)? {
            if self.state().checkpoints.contains_key(name) {
                self.append(Event::Pruned(PrunedEvent {
                    checkpoint: name.clone(),
                    reason: format!("does not verify: {problem}; kept as {aside}"),
                }))?;
            }
            self.rename_aside(&path, &path.with_file_name(&aside))?;
        }
        Ok(())
    }

    pub(super) fn rename_aside(&self, path: &Path, aside: &Path) -> Result<(), IoError> {
        if refs::same_file(&self.fs, path, aside)? {
            // Another name of it was set aside already; a rename would leave both.
            return self
                .fs
                .remove_file(path)
                .map_err(IoError::at("remove", path));
        }
        self.fs
            .rename(path, aside)
            .map_err(IoError::at("rename", path))
    }

    fn damaged(&mut self, depth: Depth) -> Result<(), OpenError> {
        let candidates: Vec<SavedEvent> = self
            .state()
            .present()
            .map(|checkpoint| &checkpoint.saved)
            .filter(|saved| {
                depth == Depth::All || !self.state().referenced_by(&saved.checkpoint).is_empty()
            })
            .cloned()
            .collect();
        for saved in candidates {
            let path = saved.checkpoint.path(&self.run);
            let exists = self
                .fs
                .stat(&path)
                .map_err(IoError::at("examine", &path))?
                .is_some();
            if !exists {
                // Reported as missing already.
                continue;
            }
            let Err(problem) = self.verified(&saved.checkpoint) else {
                continue;
            };
            if !self.restore_from_ref(&saved, FindingKind::DamagedCheckpoint, &problem)? {
                self.set_aside(FindingKind::DamagedCheckpoint, &saved.checkpoint, &problem)?;
            }
        }
        Ok(())
    }
}

/// A file must hold what its name says.
fn consistent(name: &CheckpointName, verified: Verified) -> Result<Verified, String> {
    if verified.step != name.step()
        || verified.kind != name.kind()
        || verified.weights.short() != name.digest8()
    {
        return Err(format!(
            "it holds step {} with weights {}, which is not what its name says",
            verified.step,
            verified.weights.short()
        ));
    }
    Ok(verified)
}

pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
