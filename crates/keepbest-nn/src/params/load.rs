//! Values into the arenas: starting values, and those of a state dict.

use super::state::TrainState;
use super::{ParamLayout, Role};
use crate::random;
use keepbest_formats::{StateDict, Tensor};

/// Purpose of the random keys of starting values.
const STREAM_START: u64 = 1;

/// Draws the starting weights of a seed.
pub(crate) fn start(layout: &ParamLayout, seed: u64, state: &mut TrainState) {
    for (index, tensor) in layout.tensors().iter().enumerate() {
        if tensor.role != Role::Counter {
            let key = random::key(seed, &[STREAM_START, index as u64]);
            tensor.start.fill(key, &mut state.weights[tensor.range()]);
        }
    }
    state.average_from_weights();
}

/// Copies a checked state dict into the arena. A counter that is absent starts at 0.
pub(crate) fn copy_weights(
    layout: &ParamLayout,
    weights: &StateDict,
    arena: &mut [f32],
    counters: &mut [i64],
) {
    for tensor in layout.tensors() {
        let found = weights.get(&tensor.name);
        if tensor.role == Role::Counter {
            counters[tensor.offset] = found.map_or(0, |t| {
                let bytes = t.bytes().as_ref().try_into().expect("checked: one i64");
                i64::from_le_bytes(bytes)
            });
        } else {
            copy_f32(found, &mut arena[tensor.range()]);
        }
    }
}

pub(crate) fn copy_f32(found: Option<&Tensor>, out: &mut [f32]) {
    let tensor = found.expect("checked: the tensor is there");
    out.copy_from_slice(&tensor.as_f32().expect("checked: the tensor is f32"));
}
