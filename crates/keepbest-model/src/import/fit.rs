//! Whether a file's weights are a network's.

use std::path::Path;

use keepbest_formats::StateDict;
use keepbest_formats::names::{Comparison, Wanted, compare};
use keepbest_nn::{CPU, EngineConfig, ModelSpec, Network, Role, build_engine};

use super::error::ImportError;
use crate::network::guess_network;

/// The weights of the network: those of the file, all of them unless a part is enough.
pub(super) fn fit(
    file: &Path,
    partial: bool,
    spec: &ModelSpec,
    found: &StateDict,
) -> Result<(StateDict, Comparison), ImportError> {
    let network = Network::new(spec)?;
    let tensors = network.layout().tensors();
    let wanted: Vec<Wanted<'_>> = tensors
        .iter()
        .map(|tensor| Wanted {
            optional: tensor.role == Role::Counter,
            ..Wanted::new(&tensor.name, tensor.dtype(), &tensor.shape)
        })
        .collect();
    let comparison = compare(found, &wanted);
    // Counters and running statistics are no match: without anything that was trained the model is as good as new.
    let trained = |name: &String| {
        let mut tensors = tensors.iter();
        tensors.any(|tensor| tensor.name == *name && tensor.role == Role::Trained)
    };
    let nothing_trained = !comparison.matched.iter().any(trained);
    let incomplete = !comparison.is_exact() && !partial;
    if incomplete || nothing_trained {
        return Err(ImportError::Unfit {
            file: file.into(),
            network: spec.name.clone(),
            comparison: Box::new(comparison),
            nothing_trained: !incomplete,
            partial,
            theirs: guess_network(found).filter(|theirs| *theirs != spec.name),
        });
    }
    // In the order of the network; what the file lacks is as a new network has it.
    let fresh = build_engine(CPU, spec, EngineConfig::default())?
        .snapshot()
        .weights();
    let matched = comparison.matched_of(found);
    let mut weights = StateDict::new();
    for (name, tensor) in fresh.iter() {
        let tensor = matched.get(name).unwrap_or(tensor).clone();
        weights
            .insert(name, tensor)
            .expect("names of a network are unique");
    }
    Ok((weights, comparison))
}
