//! Reading a run: what it keeps and why. Takes no lock.

use std::path::{Path, PathBuf};

use keepbest_core::History;
use keepbest_store::{
    CheckpointState, Entry, IoError, JournalError, OpenError, Owner, RefName, RunReader, RunState,
    TornTail, active_writer,
};

use crate::error::SelectError;
use crate::event::{BestRecord, best_record};
use crate::resume_point::{ResumePoint, resume_point};
use crate::select::{Selector, find, find_archived, ref_meant};

/// A run as its journal stood when it was opened.
#[derive(Clone, Debug)]
pub struct RunView {
    reader: RunReader,
    entries: Vec<Entry>,
    torn: Option<TornTail>,
    state: RunState,
}

impl RunView {
    /// Opens a run.
    ///
    /// # Errors
    /// When there is no run at `path`, or its journal is damaged before its last line.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let reader = RunReader::open(path)?;
        let journal = reader.journal()?;
        let state = RunState::from_entries(&journal.entries);
        Ok(Self {
            reader,
            entries: journal.entries,
            torn: journal.torn,
            state,
        })
    }

    /// Every run in a directory, by name, with those that cannot be opened as errors. What is not a run is left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all_in(directory: &Path) -> std::io::Result<Vec<(String, Result<Self, OpenError>)>> {
        let mut runs = Vec::new();
        for name in keepbest_store::names_in(directory)? {
            let path = directory.join(&name);
            let name = name.to_string_lossy().into_owned();
            match Self::open(path) {
                Err(OpenError::NotARun { .. } | OpenError::NotFound { .. }) => {}
                view => runs.push((name, view)),
            }
        }
        runs.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(runs)
    }

    /// The run directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.reader.path()
    }

    /// The run's name: the last part of its path.
    #[must_use]
    pub fn name(&self) -> String {
        self.reader.name()
    }

    /// The point at which training would go on: the newest full model that verifies, whether or not `last` has come to point at it.
    ///
    /// # Errors
    /// [`OpenError::Unread`] when a newer one cannot be read: nobody knows then whether it is whole.
    pub fn resume_point(&self) -> Result<Option<ResumePoint>, OpenError> {
        resume_point(self.state(), self.path())
    }

    /// The text of `run.toml`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config(&self) -> Result<String, IoError> {
        self.reader.config()
    }

    /// The journal's events.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An incomplete last line of the journal, if there is one.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// What the journal amounts to.
    #[must_use]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The evaluations.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.state.history
    }

    /// The best model.
    #[must_use]
    pub fn best(&self) -> Option<BestRecord> {
        best_record(self.path(), &self.state, RefName::BEST)
    }

    /// What the best of a name points at; the first objective's goes by what it monitors, too.
    #[must_use]
    pub fn best_of(&self, name: &RefName) -> Option<BestRecord> {
        let name = ref_meant(&self.state, name);
        best_record(self.path(), &self.state, name)
    }

    /// The best models by the run's further objectives, in their order.
    #[must_use]
    pub fn others(&self) -> Vec<BestRecord> {
        let others = self.state.objectives().into_iter().skip(1);
        others
            .filter_map(|(reference, _)| best_record(self.path(), &self.state, reference))
            .collect()
    }

    /// The resume point.
    #[must_use]
    pub fn last(&self) -> Option<PathBuf> {
        self.state.last().map(|_| RefName::LAST.path(self.path()))
    }

    /// The checkpoints that are on disk, by step.
    pub fn checkpoints(&self) -> impl Iterator<Item = &CheckpointState> {
        self.state.present()
    }

    /// Who writes to the run at this moment.
    ///
    /// # Errors
    /// When the lock cannot be examined.
    pub fn active_writer(&self) -> Result<Option<Owner>, keepbest_store::LockError> {
        active_writer(self.path())
    }

    /// Bytes on disk of all checkpoints together; links are counted once.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn checkpoint_bytes(&self) -> Result<u64, IoError> {
        Ok(self
            .reader
            .checkpoints()?
            .iter()
            .map(|(_, bytes)| bytes)
            .sum())
    }

    /// The path of the file a selector means.
    ///
    /// # Errors
    /// [`SelectError`], which says what there is, or why it was removed.
    pub fn select(&self, selector: &Selector) -> Result<PathBuf, SelectError> {
        let found = find(self.path(), &self.state, selector)?;
        Ok(match selector {
            Selector::Ref(name) => ref_meant(&self.state, name).path(self.path()),
            Selector::Step(_) | Selector::Epoch(_) => found.saved.checkpoint.path(self.path()),
        })
    }

    /// Whether an archive holds the checkpoint that a selector means, and no file does.
    #[must_use]
    pub fn is_archived(&self, selector: &Selector) -> bool {
        find_archived(&self.state, selector).is_some()
    }

    /// Reads the journal again.
    ///
    /// # Errors
    /// When it is damaged before its last line.
    pub fn refresh(&mut self) -> Result<(), JournalError> {
        let journal = self.reader.journal()?;
        self.state = RunState::from_entries(&journal.entries);
        self.entries = journal.entries;
        self.torn = journal.torn;
        Ok(())
    }
}
