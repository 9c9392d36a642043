//! Archives: what they hold comes back, and nothing else lies beside them.

use std::collections::BTreeMap;
use std::path::Path;

use super::Depth;
use super::check::Check;
use super::report::FindingKind;
use crate::archive::{ARCHIVES_DIR, ArchiveLostEvent, archive_path, is_archive};
use crate::error::{IoError, OpenError};
use crate::journal::{Event, SavedEvent};
use crate::layout::{CheckpointName, STAGED_PREFIX};

impl Check<'_> {
    pub(super) fn archives(&mut self, depth: Depth) -> Result<(), OpenError> {
        let directory = self.run.join(ARCHIVES_DIR);
        let exists = self
            .fs
            .stat(&directory)
            .map_err(IoError::at("examine", &directory))?
            .is_some();
        let mut held: BTreeMap<String, Vec<SavedEvent>> = BTreeMap::new();
        for (checkpoint, archive) in &self.state().archived {
            let members = held.entry(archive.clone()).or_default();
            members.extend(
                self.state()
                    .checkpoints
                    .get(checkpoint)
                    .map(|checkpoint| checkpoint.saved.clone()),
            );
        }
        if exists && self.report.active_writer.is_none() {
            for name in self.list(&directory)? {
                let path = directory.join(&name);
                if name.starts_with(STAGED_PREFIX) {
                    self.leftover(&path, "was never finished")?;
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
        let problem = format!("{problem}, and what it holds may be nowhere else");
        let subject = format!("{ARCHIVES_DIR}/{name}");
        self.found(FindingKind::UnknownArchive, subject, problem, "it stays")?;
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
