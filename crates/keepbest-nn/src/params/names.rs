//! Names in the training state: whose a tensor is.

use keepbest_formats::StateDict;

/// Beginning of the names of the averages in the training state of the weights.
pub const AVERAGE_PREFIX: &str = "average.";
/// Beginning of the names of the weights in the training state of the averages.
pub const RAW_PREFIX: &str = "raw.";
/// Beginning of the names of what scales the loss in half precision.
pub const SCALER_PREFIX: &str = "scaler.";
/// Beginning of the names under which an engine with random generators of its own keeps their state in the training state.
pub const RNG_PREFIX: &str = "rng.";

/// The optimizer's own tensors of a training state, without averages and what they stand for, without random generators and
/// the scale of the loss.
pub fn optimizer_state(training: &StateDict) -> StateDict {
    let mut own = StateDict::new();
    let others = [AVERAGE_PREFIX, RAW_PREFIX, RNG_PREFIX, SCALER_PREFIX];
    let of_others = |name: &str| others.iter().any(|prefix| name.starts_with(prefix));
    for (name, tensor) in training.iter().filter(|(name, _)| !of_others(name)) {
        // Names of a state dict are unique.
        let _ = own.insert(name, tensor.clone());
    }
    own
}
