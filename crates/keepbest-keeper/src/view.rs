//! Reading a run: what it keeps and why. Takes no lock.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use keepbest_core::History;
use keepbest_store::{
    CheckpointState, Entry, IoError, JournalError, OpenError, Owner, RefName, RunReader, RunState,
    TornTail, active_writer,
};

use crate::error::SelectError;
use crate::event::BestRecord;
use crate::keeper::ResumePoint;
use crate::verify::{is_unread, open_model};

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

    /// Where training would go on: the newest full model that verifies, whether or not `last` has come to point at it.
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

/// Which checkpoint of a run.
///
/// ```
/// use keepbest_keeper::Selector;
///
/// assert_eq!("step:1200".parse::<Selector>()?, Selector::Step(1200));
/// # Ok::<(), keepbest_keeper::SelectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// What a ref points at: a best, or the resume point.
    Ref(RefName),
    /// The one of a step.
    Step(u64),
    /// The latest of an epoch.
    Epoch(u64),
}

impl Selector {
    /// The best.
    pub const BEST: Self = Self::Ref(RefName::BEST);
    /// The resume point.
    pub const LAST: Self = Self::Ref(RefName::LAST);
}

impl Default for Selector {
    /// The best.
    fn default() -> Self {
        Self::BEST
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(name) => name.fmt(f),
            Self::Step(step) => write!(f, "step:{step}"),
            Self::Epoch(epoch) => write!(f, "epoch:{epoch}"),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok();
        let parsed = match text.split_once(':') {
            None => RefName::try_from(text.to_owned()).ok().map(Self::Ref),
            Some(("best", monitor)) => {
                let monitor = monitor.parse().ok();
                monitor.map(|monitor| Self::Ref(RefName::best_by(&monitor)))
            }
            Some(("step", value)) => number(value).map(Self::Step),
            Some(("epoch", value)) => number(value).map(Self::Epoch),
            _ => None,
        };
        parsed.ok_or_else(|| SelectError::Parse {
            text: text.to_owned(),
        })
    }
}

/// The archived checkpoint that a selector means, when none on disk does.
pub(crate) fn find_archived<'a>(
    state: &'a RunState,
    selector: &Selector,
) -> Option<&'a CheckpointState> {
    let matches = |c: &CheckpointState| match selector {
        Selector::Ref(_) => false,
        Selector::Step(step) => c.saved.step == *step,
        Selector::Epoch(epoch) => c.saved.epoch == *epoch,
    };
    if state.present().any(matches) {
        return None;
    }
    // The latest of several, and of one step the full model.
    state
        .checkpoints
        .values()
        .filter(|c| state.archived.contains_key(&c.saved.checkpoint) && matches(c))
        .max_by(|a, b| {
            (a.saved.step, b.saved.kind, &a.saved.checkpoint).cmp(&(
                b.saved.step,
                a.saved.kind,
                &b.saved.checkpoint,
            ))
        })
}

/// The ref that a name means in this run: the first objective's best goes by what it monitors, too.
fn ref_meant(state: &RunState, name: &RefName) -> RefName {
    let first = state
        .started
        .as_ref()
        .map(|begun| begun.objective.monitor());
    match first.map(RefName::best_by) {
        Some(first) if first == *name => RefName::BEST,
        _ => name.clone(),
    }
}

/// The checkpoint that a selector means.
pub(crate) fn find<'a>(
    run: &Path,
    state: &'a RunState,
    selector: &Selector,
) -> Result<&'a CheckpointState, SelectError> {
    let matches: Box<dyn Fn(&CheckpointState) -> bool> = match *selector {
        Selector::Ref(ref name) => return find_ref(run, state, name),
        Selector::Step(step) => Box::new(move |c| c.saved.step == step),
        Selector::Epoch(epoch) => Box::new(move |c| c.saved.epoch == epoch),
    };
    // The latest of several, and of one step the full model: its kind sorts first.
    let found = state.present().filter(|c| matches(c)).max_by(|a, b| {
        (a.saved.step, b.saved.kind, &a.saved.checkpoint).cmp(&(
            b.saved.step,
            a.saved.kind,
            &b.saved.checkpoint,
        ))
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let pruned = state.checkpoints.values().rev().find(|c| matches(c));
    if let Some(reason) = pruned.and_then(|c| c.pruned.clone()) {
        return Err(SelectError::Pruned {
            run: run.to_owned(),
            what: selector.to_string(),
            reason,
        });
    }
    let mut available: Vec<String> = state
        .present()
        .map(|c| match selector {
            Selector::Epoch(_) => format!("epoch:{}", c.saved.epoch),
            _ => format!("step:{}", c.saved.step),
        })
        .collect();
    available.dedup();
    if available.is_empty() {
        return Err(SelectError::None {
            run: run.to_owned(),
            what: "checkpoint".to_owned(),
        });
    }
    Err(SelectError::Missing {
        run: run.to_owned(),
        what: selector.to_string(),
        available,
    })
}

fn find_ref<'a>(
    run: &Path,
    state: &'a RunState,
    name: &RefName,
) -> Result<&'a CheckpointState, SelectError> {
    let name = ref_meant(state, name);
    let names = state.ref_names();
    if !names.contains(&name) && name != RefName::BEST {
        return Err(SelectError::Missing {
            run: run.to_owned(),
            what: name.to_string(),
            available: names.iter().map(ToString::to_string).collect(),
        });
    }
    let target = state.refs.get(&name);
    target
        .and_then(|target| state.checkpoints.get(&target.checkpoint))
        .ok_or_else(|| SelectError::None {
            run: run.to_owned(),
            what: name.to_string(),
        })
}

/// A best, as the journal has it.
pub(crate) fn best_record(run: &Path, state: &RunState, reference: RefName) -> Option<BestRecord> {
    let best = state.refs.get(&reference)?;
    let checkpoint = state.checkpoints.get(&best.checkpoint)?;
    Some(BestRecord {
        path: reference.path(run),
        reference,
        checkpoint: best.checkpoint.clone(),
        step: best.step,
        epoch: best.epoch,
        score: best.score?,
        metrics: checkpoint
            .evaluation
            .as_ref()
            .map(|record| record.metrics.clone())
            .unwrap_or_default(),
        weights: checkpoint.saved.weights,
    })
}

/// The newest full model that verifies. One that cannot be read is not passed over for an older one.
pub(crate) fn resume_point(state: &RunState, run: &Path) -> Result<Option<ResumePoint>, OpenError> {
    for checkpoint in state.resume_points() {
        let path = checkpoint.saved.checkpoint.path(run);
        let model = match open_model(&path) {
            Ok(model) => model,
            Err(error) if is_unread(&error) && path.symlink_metadata().is_ok() => {
                return Err(OpenError::unread(&path)(error));
            }
            Err(_) => continue,
        };
        if let Some(metadata) = &model.metadata {
            return Ok(Some(ResumePoint {
                step: metadata.step,
                epoch: metadata.epoch,
                path,
                model,
            }));
        }
    }
    Ok(None)
}
