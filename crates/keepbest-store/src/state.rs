//! A run's state, rebuilt from its journal.

use std::collections::{BTreeMap, BTreeSet};

use keepbest_core::{EvaluationRecord, History, Objective, Score};
use serde_json::Value;

use crate::journal::{Entry, Event, SavedEvent, StartedEvent};
use crate::layout::{CheckpointKind, CheckpointName, RefName};

/// What the journal says about a run. Nothing here is stored anywhere else.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RunState {
    /// The beginning of the run; `None` when it was killed before it.
    pub started: Option<StartedEvent>,
    /// The evaluations that led to the present state, in order: those after a point the run was later resumed from are
    /// dropped, since they were repeated.
    pub history: History,
    /// The steps of all evaluations that the journal tells of, those that were repeated included.
    pub told: BTreeSet<u64>,
    /// Every checkpoint ever saved.
    pub checkpoints: BTreeMap<CheckpointName, CheckpointState>,
    /// What each ref points at.
    pub refs: BTreeMap<RefName, RefState>,
    /// Refs whose checkpoint was removed because it was damaged or missing, with nothing promoted since.
    pub lost: BTreeSet<RefName>,
    /// What the run was last resumed from.
    pub resumed_from: Option<CheckpointName>,
    /// Kept whatever retention says.
    pub pinned: BTreeSet<CheckpointName>,
    /// Checkpoints that an archive holds, and which.
    pub archived: BTreeMap<CheckpointName, String>,
    /// The number of events that it takes.
    pub events: u64,
    /// The number of times that it was resumed.
    pub resumes: u32,
    /// The status of the run.
    pub status: RunStatus,
    /// Wall-clock time of the first event, milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// Wall-clock time of the newest event, milliseconds since 1970.
    pub updated_ms: Option<u64>,
}

/// The status of a run, as far as the journal knows. Whether someone writes to it now, the lock knows.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum RunStatus {
    /// Created, nothing more.
    #[default]
    Created,
    /// In training, or killed in training.
    Training,
    /// Stopped from outside, in order.
    Interrupted,
    /// Over, with what the training loop had to say.
    Finished(Value),
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CheckpointState {
    /// The event of its saving.
    pub saved: SavedEvent,
    /// The evaluation of exactly these weights; a resume point saved between evaluations has none.
    pub evaluation: Option<EvaluationRecord>,
    /// Why it was removed, if it was.
    pub pruned: Option<String>,
}

/// The target of a ref.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RefState {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Its score, for a best.
    pub score: Option<Score>,
}

impl RunState {
    /// Folds a journal.
    #[must_use]
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// Takes one more entry into account.
    pub fn apply(&mut self, entry: &Entry) {
        self.events += 1;
        self.started_ms.get_or_insert(entry.time_ms);
        self.updated_ms = Some(entry.time_ms);
        match &entry.event {
            Event::Started(event) => {
                self.started.get_or_insert_with(|| event.clone());
                self.status = RunStatus::Training;
            }
            Event::Evaluated(event) => {
                self.told.insert(event.step);
                // In order also where it was taken from a file, after a later one.
                self.history.insert(event.clone());
            }
            Event::Saved(event) => {
                // Looked up now, because a later resume drops the evaluations that it will repeat.
                let evaluation = self.history.iter().rev().find(|evaluation| {
                    evaluation.step == event.step && evaluation.digest == Some(event.weights)
                });
                // And what is saved again, as after it came back from an archive, was evaluated then.
                let before = self.checkpoints.get(&event.checkpoint);
                let before = before.filter(|before| before.saved.weights == event.weights);
                let evaluation = evaluation.cloned();
                let checkpoint = CheckpointState {
                    saved: event.clone(),
                    evaluation: evaluation.or_else(|| before?.evaluation.clone()),
                    pruned: None,
                };
                self.checkpoints
                    .insert(event.checkpoint.clone(), checkpoint);
            }
            Event::Promoted(event) => {
                let target = RefState {
                    checkpoint: event.checkpoint.clone(),
                    step: event.step,
                    epoch: event.epoch,
                    score: event.score,
                };
                self.refs.insert(event.reference.clone(), target);
                self.lost.remove(&event.reference);
            }
            Event::Pruned(event) => {
                if let Some(checkpoint) = self.checkpoints.get_mut(&event.checkpoint) {
                    checkpoint.pruned = Some(event.reason.clone());
                }
                self.pinned.remove(&event.checkpoint);
                // Only fsck removes what a ref points at: when it is damaged.
                let lost = self
                    .refs
                    .extract_if(.., |_, target| target.checkpoint == event.checkpoint);
                self.lost.extend(lost.map(|(reference, _)| reference));
            }
            Event::Resumed(event) => {
                self.history.truncate_after(event.step);
                self.resumed_from.clone_from(&event.checkpoint);
                self.resumes += 1;
                self.status = RunStatus::Training;
            }
            Event::Pinned(event) => {
                self.pinned.insert(event.checkpoint.clone());
            }
            Event::Unpinned(event) => {
                self.pinned.remove(&event.checkpoint);
            }
            Event::Archived(event) => {
                for checkpoint in &event.checkpoints {
                    self.archived
                        .insert(checkpoint.clone(), event.archive.clone());
                }
            }
            Event::ArchiveLost(event) => {
                for checkpoint in &event.checkpoints {
                    self.archived.remove(checkpoint);
                }
            }
            Event::Interrupted(_) => self.status = RunStatus::Interrupted,
            Event::Finished(event) => self.status = RunStatus::Finished(event.summary.clone()),
            Event::Rejected(_)
            | Event::Superseded(_)
            | Event::SaveFailed(_)
            | Event::Repaired(_)
            | Event::Other(_) => {}
        }
    }

    /// What the best by the first objective points at.
    #[must_use]
    pub fn best(&self) -> Option<&RefState> {
        self.refs.get(&RefName::BEST)
    }

    /// What last points at.
    #[must_use]
    pub fn last(&self) -> Option<&RefState> {
        self.refs.get(&RefName::LAST)
    }

    /// The objectives with the refs of their bests, the first first. None before the run began.
    #[must_use]
    pub fn objectives(&self) -> Vec<(RefName, &Objective)> {
        let started = self.started.iter();
        started.flat_map(StartedEvent::objectives).collect()
    }

    /// Every ref that this run has or may come to have: the bests, the first first, and last.
    #[must_use]
    pub fn ref_names(&self) -> Vec<RefName> {
        let bests = self.objectives().into_iter().map(|(name, _)| name);
        let mut names: Vec<RefName> = bests.chain([RefName::LAST]).collect();
        // What was promoted under no objective of the run, as by another's hand, is a ref too.
        let others: Vec<RefName> = self.refs.keys().chain(&self.lost).cloned().collect();
        names.extend(
            others
                .into_iter()
                .filter(|name| !names.contains(name))
                .collect::<Vec<_>>(),
        );
        names
    }

    /// The refs that point at a checkpoint.
    #[must_use]
    pub fn referenced_by(&self, checkpoint: &CheckpointName) -> Vec<RefName> {
        let mut names = self.ref_names();
        names.retain(|name| {
            let target = self.refs.get(name);
            target.is_some_and(|target| target.checkpoint == *checkpoint)
        });
        names
    }

    /// The checkpoints that should be on disk, by step.
    pub fn present(&self) -> impl Iterator<Item = &CheckpointState> {
        self.checkpoints
            .values()
            .filter(|checkpoint| checkpoint.pruned.is_none())
    }

    /// The checkpoints that should be on disk and hold everything needed to go on training, newest first.
    #[must_use]
    pub fn resume_points(&self) -> Vec<&CheckpointState> {
        let mut full: Vec<_> = self
            .present()
            .filter(|checkpoint| checkpoint.saved.kind == CheckpointKind::Full)
            .collect();
        full.sort_by(|a, b| {
            (b.saved.step, &b.saved.checkpoint).cmp(&(a.saved.step, &a.saved.checkpoint))
        });
        full
    }

    /// The checkpoints that should be on disk and whose evaluation was admissible by an objective (the first is at 0), each with its
    /// score and whether it was judged an improvement; best first, of equals the earlier first.
    #[must_use]
    pub fn ranked(&self, objective: usize) -> Vec<(&CheckpointState, Score, bool)> {
        let mut ranked: Vec<_> = self
            .present()
            .filter_map(|checkpoint| {
                let judgement = checkpoint.evaluation.as_ref()?.judgement(objective)?;
                let improved = judgement.verdict.is_improved();
                Some((checkpoint, judgement.score?, improved))
            })
            .collect();
        if let Some((_, objective)) = self.objectives().get(objective) {
            // Stable, and `present` goes by step.
            ranked.sort_by(|(_, a, _), (_, b, _)| objective.compare_total(b, a));
        }
        ranked
    }
}
