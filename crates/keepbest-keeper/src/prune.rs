//! Retention, applied: what no policy keeps and nothing protects is removed.

use std::collections::BTreeSet;

use keepbest_core::retention::{Checkpoint, Plan, Policy, Protections, plan};
use keepbest_core::text::with_causes;
use keepbest_core::{EvaluationRecord, WeightsDigest};
use keepbest_store::{
    CheckpointKind, CheckpointName, CheckpointState, Entry, Event, PruneError, RunState, RunWriter,
    SavedEvent,
};

use crate::config::{KeeperConfig, SaveMode};
use crate::event::KeeperEvent;

/// What retention says about the checkpoints of a run. Policies are about files of the kind that the run saves its best as;
/// the full models that a params-only run keeps as resume points stay only while something protects them.
#[must_use]
pub fn retention_plan(state: &RunState, policies: &[Policy], save: SaveMode) -> Plan {
    let Some(started) = &state.started else {
        return Plan::default();
    };
    let protections = Protections {
        refs: state
            .refs
            .iter()
            .map(|(name, target)| (name.to_string(), target.checkpoint.to_string()))
            .collect(),
        pinned: state.pinned.iter().map(ToString::to_string).collect(),
        resumed_from: state.resumed_from.iter().map(ToString::to_string).collect(),
        in_use: BTreeSet::new(),
    };
    let other = match save {
        SaveMode::Full => SaveMode::Params,
        SaveMode::Params => SaveMode::Full,
    };
    let objective = &started.objective;
    let mut result = plan(&of_kind(state, save), policies, &protections, objective);
    let others = plan(&of_kind(state, other), &[], &protections, objective);
    result.kept.extend(others.kept);
    result.dropped.extend(others.dropped);
    result
}

/// The checkpoints of the kind that a run of this mode saves its best as: those that policies are about.
pub(crate) fn of_kind(state: &RunState, save: SaveMode) -> Vec<Checkpoint> {
    let kind = kind_of(save);
    let present = state.present();
    present
        .filter(|checkpoint| checkpoint.saved.kind == kind)
        .map(known)
        .collect()
}

/// The kind of file that best is.
pub(crate) fn kind_of(save: SaveMode) -> CheckpointKind {
    match save {
        SaveMode::Full => CheckpointKind::Full,
        SaveMode::Params => CheckpointKind::Params,
    }
}

/// What retention knows of a checkpoint.
pub(crate) fn known(checkpoint: &CheckpointState) -> Checkpoint {
    let CheckpointState {
        saved, evaluation, ..
    } = checkpoint;
    let record = evaluation.as_ref();
    Checkpoint {
        name: saved.checkpoint.to_string(),
        step: saved.step,
        epoch: saved.epoch,
        score: record.and_then(|record| record.score),
        metrics: record.map(|it| it.metrics.clone()).unwrap_or_default(),
        bytes: saved.bytes,
    }
}

/// Whether retention would keep a checkpoint of an evaluation if there were one.
pub(crate) fn would_keep(
    state: &RunState,
    config: &KeeperConfig,
    record: &EvaluationRecord,
) -> bool {
    let mut state = state.clone();
    let weights = record.digest.unwrap_or(WeightsDigest([0; 32]));
    let name = CheckpointName::new(record.step, &weights, kind_of(config.save));
    let evaluated = Event::Evaluated(record.clone().with_digest(weights));
    let saved = Event::Saved(SavedEvent {
        step: record.step,
        epoch: record.epoch,
        checkpoint: name.clone(),
        kind: name.kind(),
        bytes: 0,
        weights,
        file: None,
    });
    for event in [evaluated, saved] {
        state.apply(&Entry {
            seq: 0,
            time_ms: 0,
            event,
        });
    }
    let plan = retention_plan(&state, &config.retention, config.save);
    let name = name.to_string();
    plan.kept.iter().any(|kept| kept.name == name)
}

/// Removes what is not kept.
pub(crate) fn prune(run: &mut RunWriter, config: &KeeperConfig) -> Vec<KeeperEvent> {
    let plan = retention_plan(run.state(), &config.retention, config.save);
    let mut events = Vec::new();
    for dropped in plan.dropped {
        // The names come from the state.
        let Ok(name) = dropped.name.parse() else {
            continue;
        };
        let reasons: Vec<String> = dropped.reasons.iter().map(ToString::to_string).collect();
        let reason = reasons.join("; ");
        let path = keepbest_store::CheckpointName::path(&name, run.path());
        events.push(match run.prune(&name, &reason) {
            Ok(_) => KeeperEvent::Pruned { path, reason },
            // Somebody reads it: it goes with a later evaluation.
            Err(PruneError::InUse { .. }) => continue,
            Err(error) => KeeperEvent::PruneFailed {
                path,
                error: with_causes(&error),
            },
        });
    }
    events
}
