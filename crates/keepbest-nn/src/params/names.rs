//! Names in the training state: whose a tensor is.

use keepbest_formats::StateDict;

/// Names of the averages in the training state of the weights.
pub(crate) const AVERAGE: &str = "average.";
/// Names of the weights in the training state of the averages.
pub(crate) const RAW: &str = "raw.";
/// Beginning of the names under which an engine with random generators of its own keeps their state in the training state.
pub const RNG_PREFIX: &str = "rng.";

/// The optimizer's own tensors of a training state, without averages and what they stand for, and without random generators.
pub fn optimizer_state(training: &StateDict) -> StateDict {
    let mut own = StateDict::new();
    let others = [AVERAGE, RAW, RNG_PREFIX];
    let of_others = |name: &str| others.iter().any(|prefix| name.starts_with(prefix));
    for (name, tensor) in training.iter().filter(|(name, _)| !of_others(name)) {
        // Names of a state dict are unique.
        let _ = own.insert(name, tensor.clone());
    }
    own
}
