//! The examination. With a writer every finding is mended as it is found; without one it is only reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use keepbest_core::text::with_causes;

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

/// Goes through a repair without touching anything, so that all it reads has been read before it begins. What is read late may be of
/// use early on, as what a file tells of the others: it goes through it again until there is nothing new.
pub(super) fn rehearse(
    fs: &SharedFileSystem,
    run: &Path,
    state: RunState,
    depth: Depth,
    verify: &dyn Verifier,
) -> Result<Facts, OpenError> {
    let mut facts = Facts {
        before: Known::of(&state),
        ..Facts::default()
    };
    loop {
        let mut report = FsckReport::default();
        let hand = Hand::Rehearse(Box::new(state.clone()));
        let known = facts.len();
        let mut check = Check::new(fs, run, hand, verify, &mut report);
        check.facts = facts;
        check.run(depth)?;
        facts = check.facts;
        if facts.len() == known {
            return Ok(facts);
        }
    }
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
    before: Known,
    pub(super) files: BTreeMap<PathBuf, Verdict>,
    testimonies: BTreeMap<PathBuf, Testimony>,
    pub(super) archives: BTreeMap<String, Vec<(CheckpointName, String)>>,
}

impl Facts {
    fn len(&self) -> usize {
        self.files.len() + self.testimonies.len() + self.archives.len()
    }
}

/// A checkpoint that has, or would have, a file of its own again.
pub(super) struct Restored {
    pub(super) verified: Verified,
    /// The place where the same bytes were found.
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
    // Checkpoints whose file is gone, or would be.
    pub(super) removed: BTreeSet<CheckpointName>,
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
            verify,
            facts: Facts {
                before: match &hand {
                    Hand::Examine(state) | Hand::Rehearse(state) => Known::of(state),
                    Hand::Mend(writer) => Known::of(&writer.state),
                },
                ..Facts::default()
            },
            hand,
            restored: BTreeMap::new(),
            removed: BTreeSet::new(),
            report,
        }
    }

    fn run(&mut self, depth: Depth) -> Result<(), OpenError> {
        let before = self.facts.before.clone();
        self.directory()?;
        self.leftovers()?;
        self.half_pruned()?;
        self.take_back()?;
        let on_disk = self.on_disk()?;
        self.missing(&on_disk)?;
        self.strays(&before)?;
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
            Hand::Rehearse(state) => state.apply(&Entry::unwritten(event)),
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
        self.testimony_of(&path)
    }

    /// What a file that is whole says about the run, read once.
    pub(super) fn testimony_of(&mut self, path: &Path) -> Result<Testimony, OpenError> {
        if let Some(testimony) = self.facts.testimonies.get(path) {
            return Ok(testimony.clone());
        }
        let testimony = self.verify.testimony(path);
        let testimony = testimony.map_err(OpenError::unread(path))?;
        self.facts
            .testimonies
            .insert(path.to_owned(), testimony.clone());
        Ok(testimony)
    }

    /// Whether the file of a checkpoint is there, or would be.
    pub(super) fn exists(&self, name: &CheckpointName) -> Result<bool, IoError> {
        Ok(self.restored.contains_key(name)
            || !self.removed.contains(name) && self.stat(&name.path(&self.run))?.is_some())
    }

    /// Whether the file of a checkpoint is there and whole.
    pub(super) fn is_sound(&mut self, name: &CheckpointName) -> Result<bool, OpenError> {
        Ok(self.exists(name)? && self.verified(name)?.is_ok())
    }

    /// Takes note that a checkpoint has, or would have, its file back.
    pub(super) fn restore(&mut self, name: CheckpointName, verified: Verified, from: PathBuf) {
        self.removed.remove(&name);
        self.restored.insert(name, Restored { verified, from });
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
        let names = names.iter().filter_map(|name| name.parse().ok());
        Ok(names.filter(|name| !self.removed.contains(name)).collect())
    }

    /// Completes removals that were cut short. What was lost, and not removed, or is a best or last of which the journal does not tell,
    /// has come back since.
    fn half_pruned(&mut self) -> Result<(), OpenError> {
        let refs = self.ref_files()?;
        for name in self.on_disk()? {
            let known = self.state().checkpoints.get(&name);
            let Some(reason) = known.and_then(|known| known.pruned.as_deref()) else {
                continue;
            };
            let path = name.path(&self.run);
            let mut stays = [NOT_WHOLE, NOT_THERE]
                .iter()
                .any(|lost| reason.starts_with(lost));
            for reference in &refs {
                stays |= refs::same_file(&self.fs, &path, &reference.path)?;
            }
            if stays {
                continue;
            }
            if self.found(
                FindingKind::HalfPruned,
                &name,
                "the journal says it was removed",
                "removed",
            )? {
                self.fs
                    .remove_file(&path)
                    .map_err(IoError::at("remove", &path))?;
            }
            self.removed.insert(name);
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
                reason: NOT_THERE.to_owned(),
            }))?;
        }
        Ok(())
    }

    /// Gives a checkpoint its file back when a ref still has it, whole: one that the journal has pointing there, or any other.
    fn restore_from_ref(
        &mut self,
        saved: &SavedEvent,
        kind: FindingKind,
        problem: &str,
    ) -> Result<bool, OpenError> {
        let target = saved.checkpoint.path(&self.run);
        let pointing = self.state().referenced_by(&saved.checkpoint);
        for reference in self.ref_files()? {
            let path = reference.path.clone();
            if refs::same_file(&self.fs, &path, &target)? {
                continue;
            }
            let verdict = self.verdict(&path)?;
            let Ok(verified) = verdict.and_then(|it| consistent(&saved.checkpoint, it)) else {
                continue;
            };
            let points = reference.name.is_some_and(|name| pointing.contains(&name));
            let differs = saved.file.zip(verified.file).is_some_and(|(a, b)| a != b);
            if verified.weights != saved.weights || !points && differs {
                continue;
            }
            let action = format!("restored from {}", reference.file);
            if self.found(kind, &saved.checkpoint, problem, &action)? {
                refs::replace_by_link(&self.fs, &path, &target)?;
                sync_dir(&*self.fs, &self.run.join(CHECKPOINTS_DIR))?;
            }
            self.restore(saved.checkpoint.clone(), verified, path);
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
            let problem = match self.state().checkpoints.get(name) {
                None => "the journal does not know it",
                Some(known) if known.pruned.is_some() => "the journal calls it lost",
                Some(_) => continue,
            };
            match self.verified(name)? {
                Ok(verified) => {
                    self.found(
                        FindingKind::Orphan,
                        name,
                        problem,
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

/// The journal's words for a checkpoint that was set aside.
pub(super) const NOT_WHOLE: &str = "does not verify";
/// The journal's words for a checkpoint that was not found.
const NOT_THERE: &str = "missing from disk when the run was checked";

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
