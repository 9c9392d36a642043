//! Setting aside what does not verify, and taking back what does after all.

use std::path::{Path, PathBuf};

use super::Verified;
use super::check::{Check, NOT_WHOLE, consistent};
use super::report::FindingKind;
use crate::error::{IoError, OpenError};
use crate::fs::sync_dir;
use crate::journal::{Event, PrunedEvent, SavedEvent};
use crate::layout::{CHECKPOINTS_DIR, CheckpointName, free_aside, name_before_aside};
use crate::refs;

impl Check<'_> {
    /// Renames a checkpoint that does not verify, so that nothing takes it for a good one.
    pub(super) fn set_aside(
        &mut self,
        kind: FindingKind,
        name: &CheckpointName,
        problem: &str,
    ) -> Result<(), OpenError> {
        let path = name.path(&self.run);
        let aside = free_aside(&*self.fs, &path)?;
        let shown = aside.file_name().unwrap_or_default().to_string_lossy();
        let mends = self.found(kind, name, problem, &format!("kept as {shown}"))?;
        if self.state().checkpoints.contains_key(name) {
            self.append(Event::Pruned(PrunedEvent {
                checkpoint: name.clone(),
                reason: format!("{NOT_WHOLE}: {problem}; kept as {shown}"),
            }))?;
        }
        if mends {
            self.rename_aside(&path, &aside)?;
        }
        self.removed.insert(name.clone());
        Ok(())
    }

    /// Renames a file; when another name of it was set aside already, removes this one.
    pub(super) fn rename_aside(&self, path: &Path, aside: &Path) -> Result<(), IoError> {
        let first = path.file_name().unwrap_or_default().to_string_lossy();
        let directory = path.parent().unwrap_or(Path::new(""));
        for name in self.list(&directory.join("."))? {
            if name_before_aside(&name) == Some(&first)
                && refs::same_file(&self.fs, path, &directory.join(&name))?
            {
                return self
                    .fs
                    .remove_file(path)
                    .map_err(IoError::at("remove", path));
            }
        }
        self.fs
            .rename(path, aside)
            .map_err(IoError::at("rename", path))
    }

    /// Gives checkpoints their names back that were set aside and are whole: an earlier version, or a moment without memory, took
    /// them for damaged.
    pub(super) fn take_back(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        let directory = self.run.join(CHECKPOINTS_DIR);
        for name in self.list(&directory)? {
            let before = name_before_aside(&name).and_then(|before| before.parse().ok());
            let Some(checkpoint): Option<CheckpointName> = before else {
                continue;
            };
            let (aside, path) = (directory.join(&name), checkpoint.path(&self.run));
            if self.exists(&checkpoint)? {
                continue;
            }
            let Some(verified) = self.whole_aside(&aside, &checkpoint)? else {
                continue;
            };
            let action = format!("taken back as {checkpoint}");
            let bytes = self.stat(&aside)?.map_or(0, |stat| stat.len);
            let mends = self.found(
                FindingKind::SetAside,
                format!("{CHECKPOINTS_DIR}/{name}"),
                "was set aside and verifies",
                &action,
            )?;
            // Journalled first: a file that the journal calls removed would be taken for the rest of its removal.
            self.append(Event::Saved(SavedEvent {
                step: verified.step,
                epoch: verified.epoch,
                checkpoint: checkpoint.clone(),
                kind: verified.kind,
                bytes,
                weights: verified.weights,
                file: verified.file,
            }))?;
            let others = self.other_names(&aside)?;
            if mends {
                self.fs
                    .rename(&aside, &path)
                    .map_err(IoError::at("rename", &aside))?;
                sync_dir(&*self.fs, &directory)?;
                for other in others {
                    self.fs
                        .remove_file(&other)
                        .map_err(IoError::at("remove", &other))?;
                }
            }
            self.restore(checkpoint, verified, aside);
        }
        Ok(())
    }

    /// What a file that was set aside holds, if it is what it was before.
    fn whole_aside(
        &mut self,
        aside: &PathBuf,
        checkpoint: &CheckpointName,
    ) -> Result<Option<Verified>, OpenError> {
        let verdict = match self.facts.files.get(aside) {
            Some(verdict) => verdict.clone(),
            None => match self.verdict(aside) {
                // What is set aside may be on a bad place of the disk, and stays where it is.
                Err(OpenError::Unread { .. }) => Err(String::new()),
                verdict => verdict?,
            },
        };
        self.facts.files.insert(aside.clone(), verdict.clone());
        let Ok(verified) = verdict.and_then(|verified| consistent(checkpoint, verified)) else {
            return Ok(None);
        };
        let known = self.state().checkpoints.get(checkpoint);
        let same = known.is_none_or(|known| known.saved.weights == verified.weights);
        Ok(same.then_some(verified))
    }

    /// The names that refs to a checkpoint were set aside under.
    fn other_names(&self, checkpoint: &Path) -> Result<Vec<PathBuf>, IoError> {
        let mut others = Vec::new();
        for name in self.list(&self.run.join("."))? {
            let path = self.run.join(&name);
            if name_before_aside(&name).is_some() && refs::same_file(&self.fs, &path, checkpoint)? {
                others.push(path);
            }
        }
        Ok(others)
    }
}
