//! The Pareto fronts that a run keeps.

use keepbest_core::Pareto;
use keepbest_core::retention::{Checkpoint, Policy, Protections, plan};
use keepbest_store::CheckpointState;

use crate::maintain::RetentionRules;
use crate::prune::{kind_of, known};
use crate::view::RunView;

/// A Pareto front of a run's checkpoints.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Front<'a> {
    /// The metrics that count.
    pub pareto: Pareto,
    /// The checkpoints on it, by step, on disk or in an archive; each has an evaluation.
    pub members: Vec<&'a CheckpointState>,
}

/// The fronts that the run's rules keep, in the order of the rules. None when the rules are of a kind that this version does not
/// know.
#[must_use]
pub fn fronts(view: &RunView) -> Vec<Front<'_>> {
    let state = view.state();
    let (Ok(rules), Some(begun)) = (RetentionRules::of(state), &state.started) else {
        return Vec::new();
    };
    let kind = kind_of(rules.save);
    let there = |it: &&CheckpointState| {
        it.pruned.is_none() || state.archived.contains_key(&it.saved.checkpoint)
    };
    let all = state.checkpoints.values().filter(there);
    let all: Vec<&CheckpointState> = all.filter(|it| it.saved.kind == kind).collect();
    let checkpoints: Vec<Checkpoint> = all.iter().copied().map(known).collect();
    let front = |policy: Policy| {
        // Alone and with nothing protected, it keeps the front.
        let protections = Protections::default();
        let alone = plan(
            &checkpoints,
            std::slice::from_ref(&policy),
            &protections,
            &begun.objective,
        );
        let Policy::Pareto(pareto) = policy else {
            return None;
        };
        let on_it = |it: &&CheckpointState| alone.keeps(&it.saved.checkpoint.to_string());
        let mut members: Vec<_> = all.iter().copied().filter(on_it).collect();
        members.sort_by_key(|checkpoint| checkpoint.saved.step);
        Some(Front { pareto, members })
    };
    rules.policies.into_iter().filter_map(front).collect()
}
