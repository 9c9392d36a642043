//! Why the best is the best, and why each checkpoint is there or not: read from the journal.

use std::collections::BTreeMap;

use keepbest_core::retention::Policy;
use keepbest_core::{EvaluationRecord, Objective, Score, WeightsDigest};
use keepbest_store::{CheckpointKind, CheckpointName, Event, RefName, RunState};
use serde::Serialize;

use crate::config::SaveMode;
use crate::event::best_record;
use crate::maintain::{MaintainError, RetentionRules};
use crate::view::RunView;

/// A run's decisions with their reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What best means, in words.
    pub objective: String,
    /// The best, when there is one.
    pub best: Option<BestExplained>,
    /// The bests by further objectives, as far as there are any.
    pub others: Vec<BestExplained>,
    /// Evaluations that count.
    pub evaluations: usize,
    /// Evaluations among them that were better than all before.
    pub improvements: usize,
    /// Evaluations that could not be best, however good.
    pub rejected: usize,
    /// A checkpoint stays if any of these says so.
    pub policies: Vec<Policy>,
    /// What the run saves its best as.
    pub save: SaveMode,
    /// Every checkpoint ever saved, by step.
    pub checkpoints: Vec<CheckpointExplained>,
    /// Evaluations that no checkpoint was saved of, by step.
    pub unsaved: Vec<UnsavedExplained>,
}

/// Why this one is best.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BestExplained {
    /// The name it goes by: `best`, or `best:val/loss`.
    #[serde(rename = "ref")]
    pub reference: RefName,
    /// What it is the best by, in words.
    pub objective: String,
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The value of what is monitored.
    pub value: f64,
    /// The identity of its weights.
    pub weights: WeightsDigest,
    /// The verdict's words.
    pub reason: String,
    /// The best of the others, and why it is not best.
    pub runner_up: Option<RunnerUp>,
}

/// The best of the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunnerUp {
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The value of what is monitored.
    pub value: f64,
    /// The verdict's words, when it was measured.
    pub reason: String,
}

/// One checkpoint and why it is there or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointExplained {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Whether it holds a full model or parameters alone.
    pub kind: CheckpointKind,
    /// Its size in bytes.
    pub bytes: u64,
    /// The value of what is monitored, when exactly these weights were measured.
    #[serde(with = "keepbest_core::metrics::nonfinite::option")]
    pub value: Option<f64>,
    /// What became of it.
    pub fate: Fate,
    /// Why, at least one reason.
    pub reasons: Vec<String>,
}

/// The fate of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fate {
    /// It is there, and stays.
    Kept,
    /// It is there, and the next pruning removes it.
    Prunable,
    /// An archive holds it.
    Archived,
    /// It was removed.
    Removed,
}

/// An evaluation without a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UnsavedExplained {
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The value of what is monitored.
    #[serde(with = "keepbest_core::metrics::nonfinite")]
    pub value: f64,
    /// Why there is none.
    pub reason: String,
}

/// Explains a run.
///
/// # Errors
/// [`MaintainError::Rules`] when its retention rules are of a kind that this version does not know.
pub fn explain(view: &RunView) -> Result<Explanation, MaintainError> {
    let state = view.state();
    let rules = RetentionRules::of(state)?;
    let plan = rules.plan(state);
    let mut reasons: BTreeMap<String, (Fate, Vec<String>)> = BTreeMap::new();
    for kept in plan.kept {
        let why = kept.reasons.iter().map(ToString::to_string).collect();
        reasons.insert(kept.name, (Fate::Kept, why));
    }
    for dropped in plan.dropped {
        let why = dropped.reasons.iter().map(ToString::to_string).collect();
        reasons.insert(dropped.name, (Fate::Prunable, why));
    }
    let mut checkpoints: Vec<_> = state
        .checkpoints
        .values()
        .map(|checkpoint| {
            let saved = &checkpoint.saved;
            let (fate, reasons) = match &checkpoint.pruned {
                Some(reason) if state.archived.contains_key(&saved.checkpoint) => {
                    (Fate::Archived, vec![reason.clone()])
                }
                Some(reason) => (Fate::Removed, vec![reason.clone()]),
                None => reasons
                    .remove(&saved.checkpoint.to_string())
                    .unwrap_or((Fate::Kept, vec!["the run has not begun".to_owned()])),
            };
            CheckpointExplained {
                checkpoint: saved.checkpoint.clone(),
                step: saved.step,
                epoch: saved.epoch,
                kind: saved.kind,
                bytes: saved.bytes,
                value: checkpoint.evaluation.as_ref().map(|record| record.value),
                fate,
                reasons,
            }
        })
        .collect();
    checkpoints.sort_by(|a, b| (a.step, &a.checkpoint).cmp(&(b.step, &b.checkpoint)));
    let records = state.history.records();
    let mut bests = state.objectives().into_iter().enumerate();
    let first = bests.next();
    let explained = |(place, (name, objective))| best(view, place, name, objective);
    Ok(Explanation {
        objective: state
            .started
            .as_ref()
            .map(|started| started.objective.to_string())
            .unwrap_or_default(),
        best: first.and_then(explained),
        others: bests.filter_map(explained).collect(),
        evaluations: records.len(),
        improvements: records.iter().filter(|r| r.verdict.is_improved()).count(),
        rejected: records.iter().filter(|r| r.verdict.is_rejected()).count(),
        policies: rules.policies,
        save: rules.save,
        checkpoints,
        unsaved: unsaved(view),
    })
}

fn best(
    view: &RunView,
    place: usize,
    reference: RefName,
    objective: &Objective,
) -> Option<BestExplained> {
    let state = view.state();
    let best = best_record(view.path(), state, reference)?;
    let record = state
        .history
        .iter()
        .rev()
        .find(|record| record.step == best.step);
    let judgement = record
        .or_else(|| state.checkpoints.get(&best.checkpoint)?.evaluation.as_ref())
        .and_then(|record| record.judgement(place));
    Some(BestExplained {
        reason: judgement
            .map(|judgement| judgement.verdict.reason().to_owned())
            .unwrap_or_default(),
        runner_up: runner_up(state, place, objective, best.step),
        reference: best.reference,
        objective: objective.to_string(),
        checkpoint: best.checkpoint,
        step: best.step,
        epoch: best.epoch,
        value: best.score.value,
        weights: best.weights,
    })
}

/// The best admissible evaluation of another step; of equals the earlier.
fn runner_up(state: &RunState, place: usize, objective: &Objective, best: u64) -> Option<RunnerUp> {
    let mut found: Option<(Score, RunnerUp)> = None;
    for record in state.history.iter().filter(|record| record.step != best) {
        let Some(judgement) = record.judgement(place) else {
            continue;
        };
        let Some(score) = judgement.score else {
            continue;
        };
        let better = found
            .as_ref()
            .is_none_or(|(than, _)| objective.compare_total(&score, than).is_gt());
        if better {
            let next = RunnerUp {
                step: record.step,
                epoch: record.epoch,
                value: judgement.value,
                reason: judgement.verdict.reason().to_owned(),
            };
            found = Some((score, next));
        }
    }
    found.map(|(_, next)| next)
}

fn unsaved(view: &RunView) -> Vec<UnsavedExplained> {
    let state = view.state();
    let mut why: BTreeMap<u64, String> = BTreeMap::new();
    for entry in view.entries() {
        match &entry.event {
            Event::Rejected(event) => {
                why.insert(event.step, format!("rejected: {}", event.reason));
            }
            Event::Superseded(event) => {
                why.insert(event.step, event.reason.clone());
            }
            Event::SaveFailed(event) => {
                why.insert(event.step, format!("saving failed: {}", event.error));
            }
            _ => {}
        }
    }
    let saved = |record: &EvaluationRecord| {
        state.checkpoints.values().any(|checkpoint| {
            checkpoint.saved.step == record.step && record.digest == Some(checkpoint.saved.weights)
        })
    };
    state
        .history
        .iter()
        .filter(|record| !saved(record))
        .map(|record| UnsavedExplained {
            step: record.step,
            epoch: record.epoch,
            value: record.value,
            reason: why
                .remove(&record.step)
                .unwrap_or_else(|| record.verdict.reason().to_owned()),
        })
        .collect()
}
