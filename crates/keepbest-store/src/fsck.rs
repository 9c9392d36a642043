//! Finding and mending what a crash, or a disk, left behind.

mod archives;
mod aside;
mod check;
mod promotions;
mod recall;
mod report;
mod salvage;

use std::path::Path;

use keepbest_core::{FileDigest, WeightsDigest};

pub use recall::Testimony;
pub use report::{Finding, FindingKind, FsckReport};

use crate::error::{BoxError, IoError, JournalError, OpenError};
use crate::fs::{RealFileSystem, SharedFileSystem};
use crate::journal::{Entry, Event, RepairedEvent, SavedEvent, StartedEvent, parse_salvaging};
use crate::layout::{CONFIG_FILE, CheckpointKind, CheckpointName, JOURNAL_FILE};
use crate::lock::{RunLock, active_writer};
use crate::patient::patient;
use crate::reader::RunReader;
use crate::staged::Staged;
use crate::state::RunState;
use crate::writer::RunWriter;

/// What a verifier found in a checkpoint file whose every byte it has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Step of the snapshot.
    pub step: u64,
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// What the file holds.
    pub kind: CheckpointKind,
    /// The identity of its weights.
    pub weights: WeightsDigest,
    /// The identity of the whole file, where it has one.
    pub file: Option<FileDigest>,
}

/// Why a verifier does not vouch for a file.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be read, for the moment or for good: whether it is whole is not known.
    #[error(transparent)]
    Unread(BoxError),
    /// It was read, and its form or a digest refutes it.
    #[error(transparent)]
    Damaged(BoxError),
}

/// Checks every byte of a file. The store knows bytes, not tensors, so the caller brings it.
pub trait Verifier {
    /// What a checkpoint file holds.
    ///
    /// # Errors
    /// [`VerifyError`], which tells apart what cannot be read and what is damaged: only the latter is set aside.
    fn checkpoint(&self, path: &Path) -> Result<Verified, VerifyError>;

    /// What a checkpoint file that verified says about the run it is of. Nothing, unless the caller's files can say something.
    ///
    /// # Errors
    /// When it cannot be read.
    fn testimony(&self, _path: &Path) -> Result<Testimony, BoxError> {
        Ok(Testimony::default())
    }

    /// The checkpoints that an archive holds by its own account; `None` when it gives none.
    fn archived(&self, _path: &Path) -> Option<Vec<CheckpointName>> {
        None
    }

    /// The `members` that do not come back from an archive as they were saved, each with the reason; all of them when the archive
    /// is gone.
    ///
    /// # Errors
    /// When the archive is there and cannot be read.
    fn archive(
        &self,
        path: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, BoxError>;
}

/// The amount that is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What best and last point at, and what the journal does not know.
    Refs,
    /// Every checkpoint.
    All,
}

/// Examines a run and, with `repair`, mends it.
///
/// Found are: a lock whose owner died, a torn or damaged journal, staged leftovers, checkpoints that the journal does not
/// know, lacks, or calls pruned, checkpoints that do not verify or do not come back from their archive, refs that are missing,
/// stale or damaged. A best that does not
/// verify is set aside and the next best that does takes its place. Nothing that could still be of use is deleted: damaged
/// files stay, under a name that ends in `.damaged`, and what was set aside and verifies after all is taken back.
///
/// A file is set aside when its form or its digests refute it, and never because it cannot be read. All that a repair reads is read
/// before it changes anything.
///
/// # Errors
/// [`OpenError`]: there is no run, or, with `repair`, another process is writing to it; [`OpenError::Unread`] and [`OpenError::Io`]
/// when something cannot be read: then nothing was changed. What is wrong inside the run is in the report, not an error.
pub fn fsck(path: &Path, repair: bool, verify: &dyn Verifier) -> Result<FsckReport, OpenError> {
    fsck_on(RealFileSystem::shared(), path, repair, verify)
}

/// [`fsck`] on a given file system.
///
/// # Errors
/// As there.
pub fn fsck_on(
    fs: SharedFileSystem,
    path: &Path,
    repair: bool,
    verify: &dyn Verifier,
) -> Result<FsckReport, OpenError> {
    let mut report = FsckReport::default();
    let (reader, has_journal) = RunReader::open_anyway(patient(fs), path.to_owned())?;
    if !has_journal {
        return without_journal(&reader, repair, verify, report);
    }
    if !repair {
        report.active_writer = active_writer(path)?;
        check::examine(&reader, verify, &mut report)?;
        return Ok(report);
    }
    reader.refuse_newer()?;
    let lock = RunLock::acquire(path)?;
    let read = match reader.state() {
        Err(JournalError::Damaged { .. }) => None,
        state => Some(state?),
    };
    let known = match &read {
        Some(state) => state.clone(),
        None => salvage::state(&reader)?,
    };
    let (fs, run) = (reader.file_system(), reader.path());
    let facts = check::rehearse(fs, run, known, Depth::All, verify)?;
    if read.is_none() {
        salvage::salvage(fs, run, &mut report)?;
    }
    let mut writer = RunWriter::open_locked(&reader, lock)?;
    writer.recover_into(Depth::All, verify, facts, &mut report)?;
    Ok(report)
}

/// Writes a `run.toml` that is gone anew, as `config` makes it of how the journal says the run began. Returns what to report, and
/// nothing when there was nothing to do or `config` makes nothing of it: then the run is as it was.
///
/// # Errors
/// [`OpenError`] when there is no run, another process writes to it, or something cannot be read or written.
pub fn restore_config(
    path: &Path,
    config: impl FnOnce(&StartedEvent) -> Option<String>,
) -> Result<Option<Finding>, OpenError> {
    let missing = match RunReader::open(path) {
        Err(error @ OpenError::NotARun { .. }) => error,
        // It is the journal that is gone: that is for others to mend.
        Err(OpenError::NoJournal { .. }) => return Ok(None),
        opened => return opened.map(|_| None),
    };
    let fs = patient(RealFileSystem::shared());
    let (journal, target) = (path.join(JOURNAL_FILE), path.join(CONFIG_FILE));
    let stat = |at: &Path| fs.stat(at).map_err(IoError::at("examine", at));
    if stat(&target)?.is_some() || stat(&journal)?.is_none() {
        return Err(missing);
    }
    let bytes = fs.read(&journal).map_err(IoError::at("read", &journal))?;
    // What is wrong with the journal is mended afterwards.
    let entries = parse_salvaging(&journal, &bytes)?.entries;
    let started = RunState::from_entries(&entries).started;
    let Some(text) = started.as_ref().and_then(config) else {
        return Err(missing);
    };
    let lock = RunLock::acquire(path)?;
    Staged::create(&fs, target)?.put(text.as_bytes())?;
    drop(lock);
    Ok(Some(Finding {
        kind: FindingKind::MissingConfig,
        subject: CONFIG_FILE.to_owned(),
        problem: "it is missing".to_owned(),
        action: Some("written anew by what the journal says the run began with".to_owned()),
    }))
}

/// A run whose journal was removed is one whose journal was cut to nothing: an empty one takes its place, and what the files tell is
/// taken in.
fn without_journal(
    reader: &RunReader,
    repair: bool,
    verify: &dyn Verifier,
    mut report: FsckReport,
) -> Result<FsckReport, OpenError> {
    let path = reader.path();
    let kind = FindingKind::ShortenedJournal;
    if !repair {
        report.active_writer = active_writer(path)?;
        report.add(kind, JOURNAL_FILE, "is missing", None);
        return Ok(report);
    }
    let lock = RunLock::acquire(path)?;
    let fs = reader.file_system();
    let facts = check::rehearse(fs, path, RunState::default(), Depth::All, verify)?;
    let mut writer = RunWriter::open_locked(reader, lock)?;
    let action = "made anew from what the files tell";
    writer.append(Event::Repaired(RepairedEvent {
        finding: format!("{JOURNAL_FILE}: is missing"),
        action: action.to_owned(),
    }))?;
    report.add(kind, JOURNAL_FILE, "is missing", Some(action));
    writer.recover_into(Depth::All, verify, facts, &mut report)?;
    Ok(report)
}

impl RunWriter {
    /// Mends what can be mended, as [`fsck`] with repair does, before anything else is written. `begin` is journalled before the
    /// mending, where the journal does not tell how the run began.
    ///
    /// # Errors
    /// When something in the run cannot be read (then nothing was changed), or a repair cannot be written.
    pub fn recover(
        &mut self,
        begin: Option<StartedEvent>,
        depth: Depth,
        verify: &dyn Verifier,
    ) -> Result<FsckReport, OpenError> {
        let mut report = FsckReport::default();
        let mut state = self.state.clone();
        let begin = begin
            .filter(|_| state.started.is_none())
            .map(Event::Started);
        if let Some(event) = begin.clone() {
            state.apply(&Entry::unwritten(event));
        }
        let facts = check::rehearse(&self.fs, &self.path, state, depth, verify)?;
        if let Some(event) = begin {
            self.append(event)?;
        }
        self.recover_into(depth, verify, facts, &mut report)?;
        Ok(report)
    }

    fn recover_into(
        &mut self,
        depth: Depth,
        verify: &dyn Verifier,
        facts: check::Facts,
        report: &mut FsckReport,
    ) -> Result<(), OpenError> {
        if let Some(owner) = self.stale_owner() {
            report.add(
                FindingKind::StaleLock,
                crate::layout::LOCK_FILE,
                format!("{owner} ended without letting go"),
                Some("taken over"),
            );
        }
        if let Some(torn) = self.torn_tail() {
            let problem = format!("line {} is incomplete: {}", torn.line, torn.problem);
            let action = "cut";
            // It was cut when the run was opened; the journal tells it of itself.
            self.append(Event::Repaired(RepairedEvent {
                finding: format!("{JOURNAL_FILE}: {problem}"),
                action: action.to_owned(),
            }))?;
            report.add(
                FindingKind::TornJournal,
                JOURNAL_FILE,
                problem,
                Some(action),
            );
        }
        check::mend(self, depth, verify, facts, report)
    }
}
