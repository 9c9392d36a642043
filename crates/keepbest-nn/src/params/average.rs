//! The moving average of the weights, beside the weights themselves.
//!
//! A snapshot of a run that keeps one has two faces: the weights with the average among the training state (`average.*`),
//! or the average with the weights there (`raw.*`). Either file brings both back.

use super::load::copy_f32;
use super::names::{AVERAGE_PREFIX, RAW_PREFIX};
use super::state::TrainState;
use super::{ParamLayout, Role};
use keepbest_formats::StateDict;
use keepbest_kernels::{Context, optim};

/// What a moving average takes over of the weights after step `step` (from 1): `1 - decay`, but `9 / (10 + step)` in the first
/// steps, so that it is not held back by where it started (as TensorFlow's `ExponentialMovingAverage` with `num_updates`).
pub fn average_share(decay: f64, step: u64) -> f64 {
    (1.0 - decay).max(9.0 / (10.0 + step as f64))
}

/// Moves the average of `next` towards its weights, batch norm's statistics with them: in place, or from `old`.
pub(crate) fn follow(ctx: &Context, decay: f64, next: &mut TrainState, old: Option<&TrainState>) {
    let TrainState {
        step,
        weights,
        average: Some(average),
        ..
    } = next
    else {
        return;
    };
    let update = match old.and_then(|old| old.average.as_ref()) {
        Some(old) => optim::Update::Copy { old, new: average },
        None => optim::Update::InPlace(average),
    };
    optim::average(ctx, average_share(decay, *step) as f32, weights, update);
}

/// Keeps the average as it is over a step.
pub(crate) fn keep(next: &mut TrainState, old: Option<&TrainState>) {
    if let (Some(average), Some(old)) =
        (&mut next.average, old.and_then(|old| old.average.as_ref()))
    {
        average.copy_from_slice(old);
    }
}

/// Takes the weights into the mean of those that were `taken` before, batch norm's statistics with them.
pub(crate) fn take(ctx: &Context, taken: u64, state: &mut TrainState) {
    let TrainState {
        weights,
        average: Some(average),
        ..
    } = state
    else {
        return;
    };
    match taken {
        0 => average.copy_from_slice(weights),
        _ => {
            let share = 1.0 / (taken as f64 + 1.0);
            optim::average(ctx, share as f32, weights, optim::Update::InPlace(average));
        }
    }
}

/// The trained weights and the training state, of a snapshot of either face ([`Engine::snapshot`](crate::Engine::snapshot) or
/// [`Engine::averaged`](crate::Engine::averaged)): what an engine takes up.
pub fn trained_first(weights: &StateDict, training: &StateDict) -> (StateDict, StateDict) {
    if !training.names().any(|name| name.starts_with(RAW_PREFIX)) {
        return (weights.clone(), training.clone());
    }
    let mut raw = StateDict::new();
    let mut rest = StateDict::new();
    for (name, tensor) in training
        .iter()
        .filter(|(name, _)| !name.starts_with(RAW_PREFIX))
    {
        insert(&mut rest, name, tensor);
    }
    for (name, average) in weights.iter() {
        match training.get(&format!("{RAW_PREFIX}{name}")) {
            Some(own) => {
                insert(&mut raw, name, own);
                insert(&mut rest, &format!("{AVERAGE_PREFIX}{name}"), average);
            }
            // Counters are not averaged.
            None => insert(&mut raw, name, average),
        }
    }
    (raw, rest)
}

fn insert(dict: &mut StateDict, name: &str, tensor: &keepbest_formats::Tensor) {
    // A name of the other face as well would be a tensor too many, which the check of the engine's state names.
    let _ = dict.insert(name, tensor.clone());
}

/// Reads the averages of a checked training state.
pub(crate) fn read(layout: &ParamLayout, training: &StateDict, average: &mut [f32]) {
    for tensor in layout.tensors().iter().filter(|t| t.role != Role::Counter) {
        let found = training.get(&format!("{AVERAGE_PREFIX}{}", tensor.name));
        copy_f32(found, &mut average[tensor.range()]);
    }
}

#[cfg(test)]
mod tests {
    use super::average_share;

    #[test]
    fn the_first_steps_count_more() {
        assert_eq!(average_share(0.999, 1), 9.0 / 11.0);
        assert_eq!(average_share(0.9, 1_000), 1.0 - 0.9);
        assert!(average_share(0.999, 100) > 0.08);
    }
}
