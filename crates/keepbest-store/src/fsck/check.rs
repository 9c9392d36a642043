//! The examination. With a writer every finding is mended as it is found; without one it is only reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::recall::Known;
use super::report::{FindingKind, FsckReport};
use super::{Depth, Testimony, Verified, Verifier, VerifyError};
use crate::error::{IoError, JournalError, OpenError};
use crate::fs::{SharedFileSystem, Stat, sync_dir};
use crate::journal::{Entry, Event, PrunedEvent, RepairedEvent, SavedEvent};
use crate::layout::{CHECKPOINTS_DIR, CheckpointName, JOURNAL_FILE, OUTCOMES_DIR, STAGED_PREFIX};
use crate::reader::RunReader;
use crate::refs;
use crate::regular::FileKind;
use crate::state::RunState;
use crate::writer::RunWriter;

/// Examines without touching anything.
pub(super) fn examine(
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
    let hand = Hand::Examine(Box::new(state));
    let (fs, run) = (reader.file_system(), reader.path());
    Check::new(fs, run, hand, verify, report).run(Depth::All)
}

/// Goes through a repair without touching anything, so that all it reads has been read before it begins.
pub(super) fn rehearse(
    fs: &SharedFileSystem,
    run: &Path,
    state: RunState,
    depth: Depth,
    verify: &dyn Verifier,
) -> Result<Facts, OpenError> {
    let mut report = FsckReport::default();
    let hand = Hand::Rehearse(Box::new(state));
    let mut check = Check::new(fs, run, hand, verify, &mut report);
    check.run(depth)?;
    Ok(check.facts)
}

/// Examines and mends.
pub(super) fn mend(
    writer: &mut RunWriter,
    depth: Depth,
    verify: &dyn Verifier,
    facts: Facts,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let (fs, run) = (SharedFileSystem::clone(&writer.fs), writer.path.clone());
    let mut check = Check::new(&fs, &run, Hand::Mend(writer), verify, report);
    check.facts = facts;
    check.run(depth)
}

pub(super) enum Hand<'a> {
    /// Findings are reported.
    Examine(Box<RunState>),
    /// What mending would journal is applied to the state, and nothing is written.
    Rehearse(Box<RunState>),
    Mend(&'a mut RunWriter),
}

/// What reading gave, so that nothing is read twice.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) files: BTreeMap<PathBuf, Verdict>,
    testimonies: BTreeMap<PathBuf, Testimony>,
    pub(super) archives: BTreeMap<String, Vec<(CheckpointName, String)>>,
}

/// A checkpoint that has, or would have, a file of its own again.
pub(super) struct Restored {
    pub(super) verified: Verified,
    /// Where the same bytes were found.
    pub(super) from: PathBuf,
}

/// What a file holds, or why it is damaged.
pub(super) type Verdict = Result<Verified, String>;

pub(super) struct Check<'a> {
    pub(super) fs: SharedFileSystem,
    pub(super) run: PathBuf,
    pub(super) hand: Hand<'a>,
    pub(super) verify: &'a dyn Verifier,
    pub(super) facts: Facts,
    // Checkpoints that have, or would have, their file back.
    pub(super) restored: BTreeMap<CheckpointName, Restored>,
    pub(super) report: &'a mut FsckReport,
}

impl<'a> Check<'a> {
    fn new(
        fs: &SharedFileSystem,
        run: &Path,
        hand: Hand<'a>,
        verify: &'a dyn Verifier,
        report: &'a mut FsckReport,
    ) -> Self {
        Self {
            fs: SharedFileSystem::clone(fs),
            run: run.to_owned(),
            hand,
            verify,
            facts: Facts::default(),
            restored: BTreeMap::new(),
            report,
        }
    }

    fn run(&mut self, depth: Depth) -> Result<(), OpenError> {
        let before = Known::of(self.state());
        self.directory()?;
        self.leftovers()?;
        self.half_pruned()?;
        self.take_back()?;
        let on_disk = self.on_disk()?;
        self.missing(&on_disk)?;
        self.strays()?;
        self.orphans()?;
        self.damaged(depth)?;
        self.archives(depth)?;
        self.recall(&before)?;
        self.unfinished_promotions()?;
        for reference in self.state().ref_names() {
            self.reference(&reference)?;
        }
        self.lost_bests(&before)?;
        let verified: BTreeSet<CheckpointName> = self.sound().into_keys().collect();
        self.report.verified.extend(verified);
        Ok(())
    }

    pub(super) fn state(&self) -> &RunState {
        match &self.hand {
            Hand::Examine(state) | Hand::Rehearse(state) => state,
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
        match &mut self.hand {
            Hand::Examine(_) => {}
            Hand::Rehearse(state) => state.apply(&Entry {
                seq: 0,
                time_ms: 0,
                event,
            }),
            Hand::Mend(writer) => {
                writer.append(event)?;
            }
        }
        Ok(())
    }

    /// Whether the file of a checkpoint, which is there, is whole.
    pub(super) fn verified(&mut self, name: &CheckpointName) -> Result<Verdict, OpenError> {
        match self.restored.get(name) {
            Some(restored) => Ok(Ok(restored.verified.clone())),
            None => {
                let verdict = self.verdict(&name.path(&self.run))?;
                Ok(verdict.and_then(|verified| consistent(name, verified)))
            }
        }
    }

    /// The checkpoints that are whole.
    pub(super) fn sound(&self) -> BTreeMap<CheckpointName, Verified> {
        let read = self.facts.files.iter().filter_map(|(path, verdict)| {
            let name: CheckpointName = path.file_name()?.to_str()?.parse().ok()?;
            let verified = consistent(&name, verdict.clone().ok()?).ok()?;
            Some((name, verified))
        });
        let restored = self.restored.iter();
        let restored = restored.map(|(name, it)| (name.clone(), it.verified.clone()));
        read.chain(restored).collect()
    }

    /// What the file of a checkpoint that is whole says about the run, read once.
    pub(super) fn testimony(&mut self, name: &CheckpointName) -> Result<Testimony, OpenError> {
        let path = match self.restored.get(name) {
            Some(restored) => restored.from.clone(),
            None => name.path(&self.run),
        };
        if let Some(testimony) = self.facts.testimonies.get(&path) {
            return Ok(testimony.clone());
        }
        let testimony = self.verify.testimony(&path);
        let testimony = testimony.map_err(OpenError::unread(&path))?;
        self.facts.testimonies.insert(path, testimony.clone());
        Ok(testimony)
    }

    /// Whether the file of a checkpoint is there and whole.
    pub(super) fn is_sound(&mut self, name: &CheckpointName) -> Result<bool, OpenError> {
        let path = name.path(&self.run);
        if !self.restored.contains_key(name) && self.stat(&path)?.is_none() {
            return Ok(false);
        }
        Ok(self.verified(name)?.is_ok())
    }

    /// What a file holds that is there. That it cannot be read says nothing about what it holds.
    pub(super) fn verdict(&mut self, path: &Path) -> Result<Verdict, OpenError> {
        if let Some(verdict) = self.facts.files.get(path) {
            return Ok(verdict.clone());
        }
        let kind = self.stat(path)?.map(|stat| stat.kind);
        let verdict = match kind.map_or(Ok(()), FileKind::require_file) {
            Err(other) => Err(other.to_string()),
            Ok(()) => match self.verify.checkpoint(path) {
                Ok(verified) => Ok(verified),
                Err(VerifyError::Damaged(error)) => Err(with_causes(&*error)),
                Err(VerifyError::Unread(source)) => {
                    return Err(OpenError::unread(path)(source));
                }
            },
        };
        self.facts.files.insert(path.to_owned(), verdict.clone());
        Ok(verdict)
    }

    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>, IoError> {
        self.fs.stat(path).map_err(IoError::at("examine", path))
    }

    fn leftovers(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        // With the dot, since the run itself may lie behind a link.
        for directory in [".", CHECKPOINTS_DIR, OUTCOMES_DIR] {
            let directory = self.run.join(directory);
            if self.stat(&directory)?.is_none() && directory.ends_with(OUTCOMES_DIR) {
                continue;
            }
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

    /// Without its directory a run has no checkpoints, and can take none.
    fn directory(&mut self) -> Result<(), OpenError> {
        let path = self.run.join(CHECKPOINTS_DIR);
        let stat = self.fs.stat(&path).map_err(IoError::at("examine", &path))?;
        if stat.is_none()
            && self.found(
                FindingKind::MissingDirectory,
                CHECKPOINTS_DIR,
                "is missing",
                "made anew",
            )?
        {
            self.fs
                .create_dir(&path)
                .map_err(IoError::at("create", &path))?;
            sync_dir(&*self.fs, &self.run)?;
        }
        Ok(())
    }

    pub(super) fn list(&self, directory: &Path) -> Result<Vec<String>, IoError> {
        let stat = self.fs.stat(directory);
        if stat.map_err(IoError::at("examine", directory))?.is_none() {
            return Ok(Vec::new());
        }
        self.fs
            .list(directory)
            .map_err(IoError::at("list", directory))
    }

    pub(super) fn on_disk(&self) -> Result<BTreeSet<CheckpointName>, IoError> {
        let names = self.list(&self.run.join(CHECKPOINTS_DIR))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn half_pruned(&mut self) -> Result<(), OpenError> {
        for name in &self.on_disk()? {
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
            .filter(|checkpoint| {
                let name = &checkpoint.saved.checkpoint;
                !on_disk.contains(name) && !self.restored.contains_key(name)
            })
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
            if self.stat(&path)?.is_none() {
                continue;
            }
            let Ok(verified) = self.verdict(&path)? else {
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
            self.restored.insert(
                saved.checkpoint.clone(),
                Restored {
                    verified,
                    from: path,
                },
            );
            return Ok(true);
        }
        Ok(false)
    }

    fn orphans(&mut self) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            // Named, and about to be journalled.
            return Ok(());
        }
        let mut names = self.on_disk()?;
        names.extend(self.restored.keys().cloned());
        for name in &names {
            if self.state().checkpoints.contains_key(name) {
                continue;
            }
            match self.verified(name)? {
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
            let Err(problem) = self.verified(&saved.checkpoint)? else {
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
pub(super) fn consistent(name: &CheckpointName, verified: Verified) -> Result<Verified, String> {
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
