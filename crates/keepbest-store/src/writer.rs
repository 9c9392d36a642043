//! Writing a run: the one commit path.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keepbest_core::WeightsDigest;

use crate::error::{
    BoxError, CommitError, CreateError, IoError, JournalError, OpenError, PromoteError, PruneError,
};
use crate::fs::{FileSystem, RealFileSystem, SharedFileSystem, create_dir_durable, sync_dir};
use crate::in_use;
use crate::journal::{
    Entry, Event, JournalWriter, PromotedEvent, PrunedEvent, RepairedEvent, SavedEvent, TornTail,
};
use crate::layout::{
    CHECKPOINTS_DIR, CONFIG_FILE, CheckpointKind, CheckpointName, JOURNAL_FILE, LOCK_FILE, RefName,
    STAGED_PREFIX,
};
use crate::lock::{Owner, RunLock};
use crate::patient::patient;
use crate::probe::{Guarantee, probe};
use crate::reader::RunReader;
use crate::refs;
use crate::regular::FileKind;
use crate::staged::{Committed, Staged, StagedCheckpoint};
use crate::state::RunState;

/// Room left for the journal and directories when free space is checked, in bytes.
const RESERVE: u64 = 1 << 20;

/// The directory in which a run begins.
#[derive(Clone, Copy, Debug)]
pub struct RunDir;

impl RunDir {
    /// Creates the directory of a new run, and the parents it lacks, and locks it.
    ///
    /// # Errors
    /// [`CreateError::Exists`] when the name is taken, [`CreateError::Io`] when the directory cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<RunWriter, CreateError> {
        Self::create_on(RealFileSystem::shared(), path)
    }

    /// Creates a new run on a given file system.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(
        fs: SharedFileSystem,
        path: impl Into<PathBuf>,
    ) -> Result<RunWriter, CreateError> {
        let (fs, path) = (patient(fs), path.into());
        create_dir_durable(&*fs, &path).map_err(|(at, source)| {
            if at == path && source.kind() == std::io::ErrorKind::AlreadyExists {
                CreateError::Exists { path: at }
            } else {
                CreateError::Io(IoError::at("create", &at)(source))
            }
        })?;
        Self::fill(&fs, &path).inspect_err(|_| remove_created(&*fs, &path))
    }

    /// Puts into a new directory what every run has.
    fn fill(fs: &SharedFileSystem, path: &Path) -> Result<RunWriter, CreateError> {
        let lock = RunLock::acquire(path)?;
        let checkpoints = path.join(CHECKPOINTS_DIR);
        fs.create_dir(&checkpoints)
            .map_err(IoError::at("create", &checkpoints))?;
        sync_dir(&**fs, path)?;
        let (journal, _) =
            JournalWriter::open(fs, &path.join(JOURNAL_FILE)).map_err(|error| match error {
                JournalError::Io(error) => error,
                // A file that was just created has no lines.
                other => IoError::at("create", path)(std::io::Error::other(other)),
            })?;
        Ok(RunWriter {
            fs: SharedFileSystem::clone(fs),
            path: path.to_owned(),
            lock,
            journal,
            state: RunState::default(),
            torn: None,
            unsettled: BTreeSet::new(),
        })
    }

    /// Opens a run for reading: [`RunReader::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open_reader(path: impl Into<PathBuf>) -> Result<RunReader, OpenError> {
        RunReader::open(path)
    }
}

/// The one writer of a run. Holds the lock until dropped.
///
/// The order, always: stage in the same directory, write and read back, sync, rename, sync the directory, journal `saved`
/// (synced), journal `promoted` (synced), move the ref, sync the directory; only then prune. So whenever the process or the
/// machine stops, a reader of a ref sees the old file or the new one, whole, and the journal tells which it should be;
/// [`recover`](Self::recover) completes what was cut short.
///
/// ```
/// use std::io::Write;
/// use keepbest_core::WeightsDigest;
/// use keepbest_store::{CheckpointKind, PromotedEvent, RefName, RunDir};
///
/// # let parent = tempfile::tempdir()?;
/// let mut run = RunDir::create(parent.path().join("run"))?;
/// run.write_config("seed = 1\n")?;
///
/// let weights = WeightsDigest([7; 32]);
/// let name = run.free_name(100, &weights, CheckpointKind::Full)?;
/// let write = |out: &mut dyn Write| -> Result<(), Box<dyn std::error::Error>> { Ok(out.write_all(b"abc")?) };
/// let (committed, ()) = run.stage(name, 3)?.commit(write, |file| match std::fs::read(file.path()?)? == b"abc" {
///     true => Ok(()),
///     false => Err("not what was written".into()),
/// })?;
/// run.record_saved(&committed, 100, 1, weights)?;
/// run.promote(&committed, PromotedEvent::new(RefName::LAST, &committed, 100, 1))?;
/// assert_eq!(std::fs::read(parent.path().join("run/last.safetensors"))?, b"abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RunWriter {
    pub(crate) fs: SharedFileSystem,
    pub(crate) path: PathBuf,
    lock: RunLock,
    journal: JournalWriter,
    pub(crate) state: RunState,
    torn: Option<TornTail>,
    // Refs that the journal has moved and the file system has not.
    unsettled: BTreeSet<RefName>,
}

impl RunWriter {
    /// Opens an existing run for writing: takes the lock, reads the journal and cuts a torn tail.
    ///
    /// # Errors
    /// [`OpenError::Lock`] when another process writes to it, [`OpenError::Journal`] when the journal is damaged before its
    /// last line or of a newer format, [`OpenError::NotFound`] and [`OpenError::NotARun`] when there is no run.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_on(RealFileSystem::shared(), path)
    }

    /// Opens a run on a given file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(fs: SharedFileSystem, path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let reader = RunReader::open_on(fs, path)?;
        // Before the lock's file is written: a run of a newer format stays as it is.
        reader.refuse_newer()?;
        let lock = RunLock::acquire(reader.path())?;
        Self::open_locked(&reader, lock)
    }

    /// Opens a run whose lock is held.
    pub(crate) fn open_locked(reader: &RunReader, lock: RunLock) -> Result<Self, OpenError> {
        let (fs, path) = (reader.file_system(), reader.path().to_owned());
        let (journal, read) = JournalWriter::open(fs, &path.join(JOURNAL_FILE))?;
        Ok(Self {
            fs: SharedFileSystem::clone(fs),
            path,
            lock,
            journal,
            state: RunState::from_entries(&read.entries),
            torn: read.torn,
            unsettled: BTreeSet::new(),
        })
    }

    /// The run directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system it is on.
    #[must_use]
    pub fn file_system(&self) -> &SharedFileSystem {
        &self.fs
    }

    /// The state the journal amounts to.
    #[must_use]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The number of events that the journal has.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.journal.events()
    }

    /// What was cut from the journal when the run was opened.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// The writer before this one, when it died without letting go.
    #[must_use]
    pub fn stale_owner(&self) -> Option<&Owner> {
        self.lock.stale_owner()
    }

    /// Tries what the file system of the run can do, with hidden files that are removed again.
    ///
    /// # Errors
    /// When it cannot replace a file by a rename, on which all else rests, or a call fails.
    pub fn probe(&self) -> Result<Guarantee, IoError> {
        probe(&self.fs, &self.path)
    }

    /// Writes `run.toml`, once.
    ///
    /// # Errors
    /// When it exists already or cannot be written.
    pub fn write_config(&mut self, text: &str) -> Result<(), IoError> {
        let path = self.path.join(CONFIG_FILE);
        if self
            .fs
            .stat(&path)
            .map_err(IoError::at("examine", &path))?
            .is_some()
        {
            return Err(IoError::at("create", &path)(
                std::io::ErrorKind::AlreadyExists.into(),
            ));
        }
        Staged::create(&self.fs, path)?.put(text.as_bytes())
    }

    /// Checks that `bytes` more, and a little for the journal, fit on the disk.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`] when they do not.
    pub fn ensure_space(&self, bytes: u64) -> Result<(), CommitError> {
        ensure_space(&*self.fs, &self.path, bytes)
    }

    /// Removes a run that has just been created and in which nothing was saved, so that its name is free again. Does nothing to a run
    /// with checkpoints.
    pub fn discard(self) {
        if self.state.checkpoints.is_empty() {
            remove_created(&*self.fs, &self.path);
        }
    }

    /// The name for these weights: the first that no checkpoint has ever had.
    ///
    /// # Errors
    /// When the file system does not say whether a name is taken.
    pub fn free_name(
        &self,
        step: u64,
        weights: &WeightsDigest,
        kind: CheckpointKind,
    ) -> Result<CheckpointName, IoError> {
        let mut name = CheckpointName::new(step, weights, kind);
        loop {
            let path = name.path(&self.path);
            let taken = self.state.checkpoints.contains_key(&name)
                || self
                    .fs
                    .stat(&path)
                    .map_err(IoError::at("examine", &path))?
                    .is_some();
            if !taken {
                return Ok(name);
            }
            name = name.next_copy();
        }
    }

    /// Begins a checkpoint of about `bytes` bytes under a hidden name.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`], [`CommitError::Exists`] when the name is taken, or [`CommitError::Io`].
    pub fn stage(&self, name: CheckpointName, bytes: u64) -> Result<StagedCheckpoint, CommitError> {
        self.ensure_space(bytes)?;
        self.own_checkpoints()?;
        let target = name.path(&self.path);
        if self
            .fs
            .stat(&target)
            .map_err(IoError::at("examine", &target))?
            .is_some()
        {
            return Err(CommitError::Exists { name });
        }
        Ok(StagedCheckpoint {
            staged: Staged::create(&self.fs, target)?,
            name,
        })
    }

    /// Sees to it that `checkpoints/` is a directory of the run's own: somebody may have removed it since the last save, or put a link in its
    /// place, through which what lies outside would be written to.
    fn own_checkpoints(&self) -> Result<(), IoError> {
        let directory = self.path.join(CHECKPOINTS_DIR);
        let stat = self.fs.stat(&directory);
        match stat.map_err(IoError::at("examine", &directory))? {
            Some(stat) if stat.kind == FileKind::Directory => Ok(()),
            Some(stat) => {
                let found = format!("it is {}, not a directory", stat.kind);
                let error = std::io::Error::new(std::io::ErrorKind::NotADirectory, found);
                Err(IoError::at("write to", &directory)(error))
            }
            None => {
                let made = self.fs.create_dir(&directory);
                made.map_err(IoError::at("create", &directory))?;
                sync_dir(&*self.fs, &self.path)
            }
        }
    }

    /// Reads back a checkpoint that was committed earlier, so that it can be promoted.
    ///
    /// # Errors
    /// [`CommitError::Io`] when it is not there, [`CommitError::Verify`] when `verify` refuses it. It stays where it is.
    pub fn recheck<T>(
        &self,
        name: &CheckpointName,
        verify: impl FnOnce(&Path) -> Result<T, BoxError>,
    ) -> Result<(Committed, T), CommitError> {
        let path = name.path(&self.path);
        let stat = self
            .fs
            .stat(&path)
            .map_err(IoError::at("examine", &path))?
            .ok_or_else(|| IoError::at("open", &path)(std::io::ErrorKind::NotFound.into()))?;
        match verify(&path) {
            Ok(verified) => Ok((
                Committed {
                    name: name.clone(),
                    bytes: stat.len,
                    file: None,
                },
                verified,
            )),
            Err(source) => Err(CommitError::Verify { path, source }),
        }
    }

    /// Appends an event and syncs the journal. When somebody has removed or changed the journal meanwhile, or put another file in its
    /// place, it is written anew first, and that is journalled.
    ///
    /// # Errors
    /// [`JournalError`]; the event is then not part of the journal.
    pub fn append(&mut self, event: Event) -> Result<Entry, JournalError> {
        if let Some((found, action)) = self.journal.restore()? {
            self.append_to_own(Event::Repaired(RepairedEvent {
                finding: format!("{JOURNAL_FILE} {found} while the run was written to"),
                action,
            }))?;
        }
        self.append_to_own(event)
    }

    fn append_to_own(&mut self, event: Event) -> Result<Entry, JournalError> {
        let entry = self.journal.append(event)?;
        self.state.apply(&entry);
        Ok(entry)
    }

    /// Journals a committed checkpoint. When that fails the checkpoint is removed: nothing would know what it is.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn record_saved(
        &mut self,
        committed: &Committed,
        step: u64,
        epoch: u64,
        weights: WeightsDigest,
    ) -> Result<Entry, JournalError> {
        let event = SavedEvent {
            step,
            epoch,
            checkpoint: committed.name.clone(),
            kind: committed.name.kind(),
            bytes: committed.bytes,
            weights,
            file: committed.file,
        };
        self.append(Event::Saved(event)).inspect_err(|_| {
            let _ = self.fs.remove_file(&committed.name.path(&self.path));
        })
    }

    /// Makes a ref point at a committed checkpoint: journals it, then moves the ref by renaming a hard link (a synced copy where
    /// the file system has no links) and syncs the directory.
    ///
    /// # Errors
    /// [`PromoteError::Journal`]: nothing has changed. [`PromoteError::Io`]: the checkpoint is what the journal calls best or last
    /// and the ref still points at a whole file, the one before or this one; [`settle_refs`](Self::settle_refs) tries the move again.
    pub fn promote(
        &mut self,
        committed: &Committed,
        event: PromotedEvent,
    ) -> Result<Entry, PromoteError> {
        let event = PromotedEvent {
            // What is promoted is what was verified, whatever the event says.
            checkpoint: committed.name.clone(),
            ..event
        };
        let reference = event.reference.clone();
        let entry = self.append(Event::Promoted(event))?;
        self.unsettled.insert(reference.clone());
        refs::point(&self.fs, &self.path, &reference, &committed.name)?;
        self.unsettled.remove(&reference);
        Ok(entry)
    }

    /// Moves the refs whose move failed after it was journalled. Does nothing when there are none.
    ///
    /// # Errors
    /// When one still cannot be moved.
    pub fn settle_refs(&mut self) -> Result<(), IoError> {
        while let Some(reference) = self.unsettled.first().cloned() {
            if let Some(target) = self.state.refs.get(&reference) {
                refs::point(&self.fs, &self.path, &reference, &target.checkpoint)?;
            }
            self.unsettled.remove(&reference);
        }
        Ok(())
    }

    /// Removes a checkpoint that retention does not keep: journals it with the reason, then removes the file.
    ///
    /// # Errors
    /// [`PruneError::Referenced`] when a ref points at it, [`PruneError::ResumedFrom`] when this run was resumed from it,
    /// [`PruneError::InUse`] while a reader [holds](crate::InUse) it; otherwise a failure to journal or to remove.
    pub fn prune(&mut self, name: &CheckpointName, reason: &str) -> Result<Entry, PruneError> {
        if let Some(reference) = self.state.referenced_by(name).into_iter().next() {
            return Err(PruneError::Referenced {
                name: name.clone(),
                reference,
            });
        }
        if self.state.resumed_from.as_ref() == Some(name) {
            return Err(PruneError::ResumedFrom { name: name.clone() });
        }
        let path = name.path(&self.path);
        // The journal and the disk must agree: a ref that was not moved yet still protects its file.
        if let Some(reference) = refs::link_to(&self.fs, &self.path, &path, self.state.ref_names())?
        {
            return Err(PruneError::Referenced {
                name: name.clone(),
                reference,
            });
        }
        // Held until the file is gone, so that no reader begins in between.
        let _claim = match in_use::claim(&path) {
            in_use::Claim::InUse => return Err(PruneError::InUse { name: name.clone() }),
            free @ in_use::Claim::Free(_) => free,
        };
        let entry = self.append(Event::Pruned(PrunedEvent {
            checkpoint: name.clone(),
            reason: reason.to_owned(),
        }))?;
        match self.fs.remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoError::at("remove", &path)(error).into()),
        }
        Ok(entry)
    }

    /// The same run, for reading.
    ///
    /// # Errors
    /// As [`RunReader::open`].
    pub fn reader(&self) -> Result<RunReader, OpenError> {
        RunReader::open_patient(SharedFileSystem::clone(&self.fs), self.path.clone())
    }
}

/// Takes back the creation of a run, as far as it came: what every run begins with, and nothing else.
fn remove_created(fs: &dyn FileSystem, path: &Path) {
    // What cannot be removed takes the name, and creating the run again says so.
    for name in fs.list(path).unwrap_or_default() {
        if [CONFIG_FILE, JOURNAL_FILE, LOCK_FILE].contains(&name.as_str())
            || name.starts_with(STAGED_PREFIX)
        {
            let _ = fs.remove_file(&path.join(name));
        }
    }
    let _ = fs.remove_dir(&path.join(CHECKPOINTS_DIR));
    let _ = fs.remove_dir(path);
}

/// Checks that `bytes` more of a run, and a little for its journal, fit on the disk that holds `directory`.
///
/// # Errors
/// [`CommitError::NoSpace`] when they do not.
pub fn ensure_space(fs: &dyn FileSystem, directory: &Path, bytes: u64) -> Result<(), CommitError> {
    require_space(fs, directory, bytes.saturating_add(RESERVE))
}

/// Checks that so many bytes fit on the disk that holds `directory`.
pub(crate) fn require_space(
    fs: &dyn FileSystem,
    directory: &Path,
    needed: u64,
) -> Result<(), CommitError> {
    let available = fs
        .available_space(directory)
        .map_err(IoError::at("examine the free space of", directory))?;
    if available < needed {
        return Err(CommitError::NoSpace {
            path: directory.to_owned(),
            needed,
            available,
        });
    }
    Ok(())
}
