//! A run's journal against itself and against a file of the run. Digests without a key keep nobody from making both anew; what is
//! found here is that they were not made anew together.

use keepbest_core::{EvaluationRecord, History, Objective};
use keepbest_formats::model_file::{Kind, ModelFile};
use keepbest_store::{
    CheckpointKind, CheckpointName, Event, PromotedEvent, RefName, RunState, RunStatus, SavedEvent,
};
use serde_json::Value;

use crate::select::{Selector, find, find_archived};
use crate::view::RunView;

/// Two records of a run that cannot both be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// An evaluation has a score that its own metrics do not make.
    #[error("line {line} gives epoch {epoch} {monitor} {recorded}, its metrics make it {found}")]
    Score {
        /// Line of the journal.
        line: u64,
        /// Epoch of the evaluation.
        epoch: u64,
        /// What is monitored.
        monitor: String,
        /// The score there.
        recorded: String,
        /// The score that the metrics make.
        found: String,
    },
    /// A ref was moved to a checkpoint that the journal does not have.
    #[error("line {line} makes {checkpoint} {reference}, and no such checkpoint was there")]
    Unknown {
        /// Line of the journal.
        line: u64,
        /// The ref.
        reference: RefName,
        /// The checkpoint.
        checkpoint: CheckpointName,
    },
    /// A best whose evaluation is not in the journal.
    #[error("line {line} makes epoch {epoch} {reference}, and it was never evaluated")]
    NeverEvaluated {
        /// Line of the journal.
        line: u64,
        /// The ref.
        reference: RefName,
        /// Epoch of the checkpoint.
        epoch: u64,
    },
    /// A best with another score, step or epoch than its evaluation has.
    #[error("line {line} makes epoch {epoch} {reference} by {recorded}, evaluated was {found}")]
    PromotedAs {
        /// Line of the journal.
        line: u64,
        /// The ref.
        reference: RefName,
        /// Epoch there.
        epoch: u64,
        /// Step and score there.
        recorded: String,
        /// Step and score of the evaluation.
        found: String,
    },
    /// A best that was not judged to be one, or is worse than the one before.
    #[error("line {line} makes epoch {epoch} {reference}, which is no improvement: {why}")]
    NoImprovement {
        /// Line of the journal.
        line: u64,
        /// The ref.
        reference: RefName,
        /// Epoch of the checkpoint.
        epoch: u64,
        /// In words.
        why: String,
    },
    /// Something better than a best is there, or was judged to be.
    #[error("epoch {epoch} was judged better than {reference}, and {why}")]
    Passed {
        /// The ref.
        reference: RefName,
        /// Epoch of what is better.
        epoch: u64,
        /// In words.
        why: &'static str,
    },
    /// A file is not the one that was saved.
    #[error("the file's {what} is {found}, saved was {recorded}")]
    File {
        /// `weights`, `digest`, `step`, ...
        what: &'static str,
        /// What the journal has.
        recorded: String,
        /// What the file has.
        found: String,
    },
    /// The journal and the file tell of an evaluation differently.
    #[error("epoch {epoch}: {what}")]
    Evaluation {
        /// Its epoch.
        epoch: u64,
        /// In words, both values named.
        what: String,
    },
    /// Only the file tells of an evaluation.
    #[error("the file tells of an evaluation in epoch {epoch} (step {step}), the journal does not")]
    NotInJournal {
        /// Its epoch.
        epoch: u64,
        /// Its step.
        step: u64,
    },
    /// Only the journal tells of an evaluation that the file should know.
    #[error("the journal tells of an evaluation in epoch {epoch} (step {step}), the file does not")]
    NotInFile {
        /// Its epoch.
        epoch: u64,
        /// Its step.
        step: u64,
    },
    /// A part of the file cannot be read.
    #[error("the file's {part} cannot be read: {reason}")]
    Unreadable {
        /// `evaluation` or `history`.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

/// What in a run's journal contradicts the rest of it: scores that their metrics do not make, promotions of what was not evaluated,
/// not judged an improvement, or is worse than what was best, and bests that were passed over.
#[must_use]
pub fn audit_journal(view: &RunView) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let mut state = RunState::default();
    for entry in view.entries() {
        match &entry.event {
            Event::Evaluated(record) => scores(&state, entry.seq, record, &mut found),
            Event::Promoted(event) => promotion(&state, entry.seq, event, &mut found),
            _ => {}
        }
        state.apply(entry);
    }
    // What a writer has judged it may be saving at this moment.
    if let Ok(None) = view.active_writer() {
        for (place, (reference, objective)) in state.objectives().into_iter().enumerate() {
            found.extend(passed(view, &state, place, &reference, objective));
        }
    }
    found
}

/// What in a file of a run contradicts the journal: the digest that was journalled when it was saved, its own evaluation, and the
/// evaluations before that.
#[must_use]
pub fn audit_file(view: &RunView, saved: &SavedEvent, file: &ModelFile) -> Vec<Contradiction> {
    let mut found = identity(saved, file);
    let Some(metadata) = &file.metadata else {
        return found;
    };
    let mut told: Vec<EvaluationRecord> = Vec::new();
    match metadata.history.clone().map(serde_json::from_value) {
        None => {}
        Some(Ok(history)) => told.extend(History::iter(&history).cloned()),
        Some(Err(error)) => found.push(Contradiction::Unreadable {
            part: "history",
            reason: error.to_string(),
        }),
    }
    let evaluation = metadata.evaluation.clone().map(serde_json::from_value);
    match evaluation {
        None => {}
        // It was written before its own digest was known.
        Some(Ok(record)) => told.push(EvaluationRecord::with_digest(record, saved.weights)),
        Some(Err(error)) => found.push(Contradiction::Unreadable {
            part: "evaluation",
            reason: error.to_string(),
        }),
    }
    let evaluated: Vec<&EvaluationRecord> = view
        .entries()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Evaluated(record) => Some(record),
            _ => None,
        })
        .collect();
    for record in &told {
        let of_step = evaluated.iter().filter(|other| other.step == record.step);
        let differences: Vec<Option<String>> =
            of_step.map(|other| difference(record, other)).collect();
        if differences.is_empty() {
            let (epoch, step) = (record.epoch, record.step);
            found.push(Contradiction::NotInJournal { epoch, step });
        } else if differences.iter().all(Option::is_some) {
            let epoch = record.epoch;
            let what = differences.into_iter().flatten().next();
            found.extend(what.map(|what| Contradiction::Evaluation { epoch, what }));
        }
    }
    for record in &history_before(view, saved) {
        if record.step < saved.step && told.iter().all(|other| other.step != record.step) {
            let (epoch, step) = (record.epoch, record.step);
            found.push(Contradiction::NotInFile { epoch, step });
        }
    }
    found
}

impl RunView {
    /// What the journal has of the checkpoint that a selector means, of one that is archived too.
    #[must_use]
    pub fn saved(&self, selector: &Selector) -> Option<&SavedEvent> {
        let found = find_archived(self.state(), selector)
            .or_else(|| find(self.path(), self.state(), selector).ok());
        found.map(|checkpoint| &checkpoint.saved)
    }
}

/// The score of an evaluation follows from its metrics.
fn scores(state: &RunState, line: u64, record: &EvaluationRecord, found: &mut Vec<Contradiction>) {
    for (place, (_, objective)) in state.objectives().into_iter().enumerate() {
        let made = objective.judge(None, &record.metrics);
        let recorded = record.judgement(place);
        let same = match (&made, &recorded) {
            (Ok(made), Some(recorded)) => {
                made.score == recorded.score
                    && (made.value == recorded.value
                        || made.value.is_nan() && recorded.value.is_nan())
            }
            _ => false,
        };
        if !same {
            found.push(Contradiction::Score {
                line,
                epoch: record.epoch,
                monitor: objective.monitor().to_string(),
                recorded: recorded.map_or_else(|| "none".into(), |it| it.value.to_string()),
                found: made.map_or_else(|error| error.to_string(), |it| it.value.to_string()),
            });
        }
    }
}

/// A ref moves to a checkpoint that is there; a best, to one that was judged an improvement and is not worse than the one before.
fn promotion(state: &RunState, line: u64, event: &PromotedEvent, found: &mut Vec<Contradiction>) {
    let reference = event.reference.clone();
    let checkpoint = state.checkpoints.get(&event.checkpoint);
    let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.pruned.is_none()) else {
        found.push(Contradiction::Unknown {
            line,
            reference,
            checkpoint: event.checkpoint.clone(),
        });
        return;
    };
    let objectives = state.objectives();
    let place = objectives.iter().position(|(name, _)| *name == reference);
    let Some((place, (_, objective))) =
        place.and_then(|place| Some((place, objectives.get(place)?)))
    else {
        return;
    };
    let epoch = event.epoch;
    let evaluation = checkpoint.evaluation.as_ref();
    let Some(judgement) = evaluation.and_then(|record| record.judgement(place)) else {
        found.push(Contradiction::NeverEvaluated {
            line,
            reference,
            epoch,
        });
        return;
    };
    let saved = &checkpoint.saved;
    if (event.score, event.step, event.epoch) != (judgement.score, saved.step, saved.epoch) {
        let words = |step: u64, score: Option<keepbest_core::Score>| {
            let value = score.map_or_else(|| "none".into(), |score| score.value.to_string());
            format!("{} {value} at step {step}", objective.monitor())
        };
        found.push(Contradiction::PromotedAs {
            line,
            reference: reference.clone(),
            epoch,
            recorded: words(event.step, event.score),
            found: words(saved.step, judgement.score),
        });
    }
    let before = state.refs.get(&reference);
    let why = match (before.and_then(|best| best.score), judgement.score) {
        (Some(before), Some(score)) if objective.compare_total(&score, &before).is_lt() => {
            Some(format!("{} is worse than {}", score.value, before.value))
        }
        // When best itself is lost, whatever comes next will do.
        _ if !judgement.verdict.is_improved() && !state.lost.contains(&reference) => {
            Some(judgement.verdict.reason().to_owned())
        }
        _ => None,
    };
    found.extend(why.map(|why| Contradiction::NoImprovement {
        line,
        reference,
        epoch,
        why,
    }));
}

/// What was judged better than the best and is not it, with nothing to say why.
fn passed(
    view: &RunView,
    state: &RunState,
    place: usize,
    reference: &RefName,
    objective: &Objective,
) -> Option<Contradiction> {
    let best = state.refs.get(reference)?.score?;
    let better = |score: Option<keepbest_core::Score>| {
        score.is_some_and(|score| objective.compare_total(&score, &best).is_gt())
    };
    let told = |epoch, why| {
        let reference = reference.clone();
        Some(Contradiction::Passed {
            reference,
            epoch,
            why,
        })
    };
    let mut ranked = state.ranked(place).into_iter();
    if let Some((saved, ..)) = ranked.find(|(_, score, improved)| *improved && better(Some(*score)))
    {
        return told(saved.saved.epoch, "its checkpoint is there");
    }
    if !matches!(state.status, RunStatus::Finished(_)) {
        return None;
    }
    let explained = |step: u64| {
        state.passed_over.contains(&(reference.clone(), step))
            || view.entries().iter().any(|entry| match &entry.event {
                // A best that was lost was removed; what retention removes was not best.
                Event::Pruned(event) => event.checkpoint.step() == step,
                _ => false,
            })
    };
    let passed = state.history.iter().find(|record| {
        record
            .judgement(place)
            .is_some_and(|judgement| judgement.verdict.is_improved() && better(judgement.score))
            && !explained(record.step)
    })?;
    told(passed.epoch, "nothing tells why it is not")
}

/// Weights, kind, place in the run and, where it was journalled, the digest of the whole file.
fn identity(saved: &SavedEvent, file: &ModelFile) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let mut compare = |what, recorded: String, is: String| {
        if recorded != is {
            found.push(Contradiction::File {
                what,
                recorded,
                found: is,
            });
        }
    };
    compare(
        "weights digest",
        saved.weights.to_string(),
        file.weights_digest().to_string(),
    );
    if let Some(metadata) = &file.metadata {
        let kind = match metadata.kind {
            Kind::Full => CheckpointKind::Full,
            Kind::Params => CheckpointKind::Params,
        };
        compare("kind", format!("{:?}", saved.kind), format!("{kind:?}"));
        compare("step", saved.step.to_string(), metadata.step.to_string());
        compare("epoch", saved.epoch.to_string(), metadata.epoch.to_string());
    }
    if let (Some(recorded), Some(seal)) = (saved.file, &file.seal) {
        compare("digest", recorded.to_string(), seal.file_digest.to_string());
    }
    found
}

/// The history as it stood when a checkpoint was first saved.
fn history_before(view: &RunView, saved: &SavedEvent) -> History {
    let mut state = RunState::default();
    for entry in view.entries() {
        if matches!(&entry.event, Event::Saved(event) if event.checkpoint == saved.checkpoint) {
            return state.history;
        }
        state.apply(entry);
    }
    History::new()
}

/// The first thing that a file and the journal tell differently of an evaluation, in words. A digest that one of them does not have
/// is no difference.
fn difference(file: &EvaluationRecord, journal: &EvaluationRecord) -> Option<String> {
    let names = file.metrics.names().chain(journal.metrics.names());
    for name in names {
        let (in_file, in_journal) = (file.metrics.get(name), journal.metrics.get(name));
        let same = match (in_file, in_journal) {
            (Some(a), Some(b)) => a == b || a.is_nan() && b.is_nan(),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !same {
            let word = |value: Option<f64>| value.map_or("not there".into(), |it| it.to_string());
            return Some(format!(
                "{name} is {} in the journal, {} in the file",
                word(in_journal),
                word(in_file)
            ));
        }
    }
    // As JSON, where a NaN equals a NaN.
    let rest = |record: &EvaluationRecord, other: &EvaluationRecord| {
        let mut record = record.clone();
        record.digest = record.digest.filter(|_| other.digest.is_some());
        serde_json::to_value(record).unwrap_or_default()
    };
    let (in_file, in_journal) = (rest(file, journal), rest(journal, file));
    let keys = in_journal
        .as_object()?
        .keys()
        .chain(in_file.as_object()?.keys());
    let mut keys = keys.filter(|key| in_file.get(key.as_str()) != in_journal.get(key.as_str()));
    keys.next().map(|key| {
        let word = |value: Option<&Value>| value.map_or("not there".into(), ToString::to_string);
        format!(
            "{key} is {} in the journal, {} in the file",
            word(in_journal.get(key)),
            word(in_file.get(key))
        )
    })
}
