//! Model specs, as `keepbest.torch` builds modules of them.

use keepbest_core::text::with_causes;
use keepbest_model::{ArchitectureError, read_model_file};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{InputSize, ModelSpec, Network, Role};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors;

/// Classes of a network of the zoo where their number is not given, as for `keepbest models show`.
const CLASSES: usize = 10;

/// `(name, shape, role)` of a tensor of the state dict: it is `trained`, a `buffer` or a `counter`.
type Named = (String, Vec<usize>, &'static str);

/// The spec of a network of the zoo, or in a model file, as JSON: for this input (channels, rows, columns) and number of classes, or those
/// that are usual.
#[pyfunction]
pub(crate) fn network_spec(
    py: Python<'_>,
    network: &str,
    input: Option<(usize, usize, usize)>,
    classes: Option<usize>,
) -> PyResult<String> {
    let spec = named(network, input, classes).map_err(|error| {
        errors::raise_plain(py, "InvalidSpec", &errors::with_hint(&error, error.hint()))
    })?;
    json(&spec)
}

fn named(
    network: &str,
    input: Option<(usize, usize, usize)>,
    classes: Option<usize>,
) -> Result<ModelSpec, ArchitectureError> {
    let Some(mut spec) = read_model_file(network)? else {
        let [channels, height, width] = zoo::entry(network)?.usual_input;
        let (channels, height, width) = input.unwrap_or((channels, height, width));
        let options = ZooOptions::new(channels, height, width, classes.unwrap_or(CLASSES));
        return Ok(zoo::spec(network, &options)?);
    };
    if let Some(expected) = classes.filter(|classes| *classes != spec.classes) {
        return Err(ArchitectureError::Classes {
            path: network.into(),
            expected,
            found: spec.classes,
        });
    }
    if let Some((channels, height, width)) = input {
        spec.input = InputSize {
            channels,
            height,
            width,
        };
    }
    Ok(spec)
}

/// Checks a spec, and that its layers fit each other: the spec as this build writes it, and its state dict in order.
#[pyfunction]
pub(crate) fn read_spec(py: Python<'_>, spec: &str) -> PyResult<(String, Vec<Named>)> {
    let value = serde_json::from_str(spec);
    let value = value.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let invalid = |message: String| errors::raise_plain(py, "InvalidSpec", &message);
    let spec = ModelSpec::from_json(&value).map_err(|error| invalid(with_causes(&error)))?;
    let network = py.detach(|| Network::new(&spec));
    let network = network.map_err(|error| invalid(with_causes(&error)))?;
    let tensors = network.layout().tensors().iter();
    let tensors = tensors.map(|tensor| {
        let role = match tensor.role {
            Role::Trained => "trained",
            Role::Buffer => "buffer",
            Role::Counter => "counter",
        };
        (tensor.name.clone(), tensor.shape.clone(), role)
    });
    Ok((json(&spec)?, tensors.collect()))
}

fn json(spec: &ModelSpec) -> PyResult<String> {
    serde_json::to_string(spec).map_err(|error| PyValueError::new_err(error.to_string()))
}
