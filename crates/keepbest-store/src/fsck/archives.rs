//! Archives: what they hold comes back, and nothing else lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::check::Check;
use super::report::FindingKind;
use super::{Depth, Testimony, Verified};
use crate::archive::{
    ARCHIVES_DIR, ArchiveLostEvent, ArchivedEvent, archive_path, archived_in, is_archive,
};
use crate::error::{IoError, OpenError};
use crate::journal::{Event, PrunedEvent, SavedEvent};
use crate::layout::{CheckpointName, STAGED_PREFIX};

/// A length that any checkpoint may have.
const SMALL: u64 = 64 << 20;

/// A checkpoint that came back whole from an archive, with what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedCheckpoint {
    /// Its name.
    pub name: CheckpointName,
    /// Its length.
    pub bytes: u64,
    /// What it holds.
    pub verified: Verified,
    /// What it says about the run it is of.
    pub testimony: Testimony,
}

impl Check<'_> {
    pub(super) fn archives(&mut self, depth: Depth) -> Result<(), OpenError> {
        let directory = self.run.join(ARCHIVES_DIR);
        let exists = self
            .fs
            .stat(&directory)
            .map_err(IoError::at("examine", &directory))?
            .is_some();
        let mut held: BTreeMap<String, Vec<SavedEvent>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (checkpoint, archive) in &self.state().archived {
            let members = held.entry(archive.clone()).or_default();
            match self.state().checkpoints.get(checkpoint) {
                Some(checkpoint) => members.push(checkpoint.saved.clone()),
                // The journal has lost how it was saved.
                None => {
                    unknown.insert(archive.clone());
                }
            }
        }
        if exists && self.report.active_writer.is_none() {
            for name in self.list(&directory)? {
                let path = directory.join(&name);
                if name.starts_with(STAGED_PREFIX) {
                    self.leftover(&path, "was never finished")?;
                } else if unknown.contains(&name) {
                    self.take_back_archive(&name, &path, "the journal does not know all it holds")?;
                } else if is_archive(&name) && !held.contains_key(&name) {
                    self.unknown_archive(&name, &path)?;
                }
            }
        }
        if depth == Depth::All {
            for (archive, members) in held {
                self.archive(&archive, &members)?;
            }
        }
        Ok(())
    }

    /// An archive that the journal does not know. Checkpoints are removed only after their archive is journalled, so what it holds
    /// is still there, unless the journal has lost that event.
    fn unknown_archive(&mut self, name: &str, path: &Path) -> Result<(), OpenError> {
        let problem = "the journal does not know it";
        let members = self.verify.archived(path);
        let mut elsewhere = members.is_some();
        for member in members.iter().flatten() {
            elsewhere = elsewhere && self.is_sound(member)?;
        }
        if elsewhere {
            return self.leftover(path, problem);
        }
        self.take_back_archive(name, path, problem)
    }

    /// Puts an archive down to be taken in with what comes back from it.
    fn take_back_archive(
        &mut self,
        name: &str,
        path: &Path,
        problem: &str,
    ) -> Result<(), OpenError> {
        let subject = format!("{ARCHIVES_DIR}/{name}");
        let kind = FindingKind::UnknownArchive;
        let found = self.given_back(name, path)?;
        if !found.is_empty() {
            let action = format!("taken in; checkpoints that come back: {}", found.len());
            self.found(kind, subject, problem, &action)?;
            self.unknown_archives.insert(name.to_owned(), found);
            // What it holds was removed only when the journal had it.
            self.shortened = true;
        } else if !self.state().lost_archives.contains(name) {
            let problem = format!("{problem}, and nothing comes back from it; it stays");
            self.report.add(kind, subject, problem, None);
        }
        Ok(())
    }

    /// What an archive that the journal does not know gives back, read once.
    fn given_back(
        &mut self,
        name: &str,
        path: &Path,
    ) -> Result<Vec<ArchivedCheckpoint>, OpenError> {
        if let Some(found) = self.facts.unknown_archives.get(name) {
            return Ok(found.clone());
        }
        // The best and last are in no archive, and what is has about their size.
        let mut longest = SMALL;
        for name in self.on_disk()? {
            let stat = self.stat(&name.path(&self.run))?;
            longest = longest.max(stat.map_or(0, |stat| stat.len).saturating_mul(4));
        }
        let found = self.verify.give_back(path, longest);
        let found = found.map_err(OpenError::unread(path))?;
        let facts = &mut self.facts.unknown_archives;
        facts.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Takes into the journal what archives that it does not know hold. How it was evaluated has been taken in before.
    pub(super) fn take_in_archives(&mut self) -> Result<(), OpenError> {
        for (archive, found) in std::mem::take(&mut self.unknown_archives) {
            let mut checkpoints = Vec::new();
            for ArchivedCheckpoint {
                name,
                bytes,
                verified,
                testimony,
            } in found
            {
                let known = self.state().checkpoints.get(&name);
                if known.is_some_and(|known| known.saved.weights != verified.weights) {
                    continue;
                }
                let is_told = known.is_some_and(|known| {
                    known.evaluation.is_some() || testimony.evaluation.is_none()
                });
                if !is_told && !self.exists(&name)? {
                    self.append(Event::Saved(SavedEvent {
                        step: verified.step,
                        epoch: verified.epoch,
                        checkpoint: name.clone(),
                        kind: verified.kind,
                        bytes,
                        weights: verified.weights,
                        file: verified.file,
                    }))?;
                    self.append(Event::Pruned(PrunedEvent {
                        checkpoint: name.clone(),
                        reason: archived_in(&archive),
                    }))?;
                }
                checkpoints.push(name);
            }
            let path = self.run.join(ARCHIVES_DIR).join(&archive);
            let bytes = self.stat(&path)?.map_or(0, |stat| stat.len);
            // Last, so that it is found again where this was cut short.
            self.append(Event::Archived(ArchivedEvent {
                archive,
                bytes,
                checkpoints,
            }))?;
        }
        Ok(())
    }

    /// What an archive does not give back, read once.
    fn lost_in(
        &mut self,
        archive: &str,
        path: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, OpenError> {
        if let Some(lost) = self.facts.archives.get(archive) {
            return Ok(lost.clone());
        }
        let lost = self.verify.archive(path, members);
        let lost = lost.map_err(OpenError::unread(path))?;
        self.facts.archives.insert(archive.to_owned(), lost.clone());
        Ok(lost)
    }

    fn archive(&mut self, archive: &str, members: &[SavedEvent]) -> Result<(), OpenError> {
        let Some(path) = archive_path(&self.run, archive) else {
            return Ok(());
        };
        let lost = self.lost_in(archive, &path, members)?;
        let Some((first, problem)) = lost.first() else {
            return Ok(());
        };
        let problem = match lost.len() {
            1 => format!("checkpoint {first} does not come back: {problem}"),
            more => format!(
                "{more} of {} checkpoints do not come back, such as {first}: {problem}",
                members.len()
            ),
        };
        self.found(
            FindingKind::DamagedArchive,
            format!("{ARCHIVES_DIR}/{archive}"),
            problem.clone(),
            "noted as lost; the file stays",
        )?;
        self.append(Event::ArchiveLost(ArchiveLostEvent {
            archive: archive.to_owned(),
            checkpoints: lost.into_iter().map(|(name, _)| name).collect(),
            reason: problem,
        }))
    }
}
