//! The model spec: an architecture as data.
//!
//! A spec is what a full model carries instead of code, and what a TOML model file holds. Layers run in
//! order; blocks nest. Parameter names follow PyTorch: the names of the enclosing blocks and of the layer,
//! joined by dots, then `weight`, `bias` and so on (`layer1.0.conv1.weight`). A layer without a name is
//! called by its position in its list, as in `torch.nn.Sequential`; a block whose name is empty adds nothing
//! to the names of the layers inside.

mod check;
mod fields;
mod layer;
mod text;
pub(crate) mod values;
mod version;

pub use layer::*;
pub use values::{Factors, Init, Padding, Pair, Unnamed};

use serde::{Deserialize, Serialize};

/// The newest spec schema this build knows. Earlier ones are parts of it: they had fewer layers. A spec is written in the
/// lowest version, from 2 on, that has all its layers and settings.
pub const SPEC_VERSION: u32 = 3;

/// An architecture: input size, number of classes and the layers between them.
///
/// ```
/// use keepbest_nn::{ModelSpec, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let text = serde_json::to_string(&spec)?;
/// assert_eq!(spec, ModelSpec::from_json(&serde_json::from_str(&text)?)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Schema version, [`SPEC_VERSION`] at most.
    pub version: u32,
    /// What the architecture is called, such as `resnet18`.
    pub name: String,
    /// Size of one input image.
    pub input: InputSize,
    /// Number of classes, the length of the output.
    pub classes: usize,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// Size of one input image, in pixels and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSize {
    /// Channels: 1 for grey, 3 for colour.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Why a spec could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The schema version is not one this build knows.
    #[error(
        "model spec version {found} is not known to this build, which reads versions 1 to {newest}"
    )]
    Version {
        /// Version in the spec.
        found: String,
        /// Newest version this build reads.
        newest: u32,
    },
    /// A key that nothing reads.
    #[error("model spec: unknown key `{key}`{}; known are {}", place(at), known.join(", "))]
    UnknownKey {
        /// The place, such as `layers[3] (conv2d)`; empty for the spec itself.
        at: String,
        /// The key.
        key: String,
        /// Keys that are read there.
        known: Vec<&'static str>,
    },
    /// An op that is none.
    #[error("model spec: unknown op `{op}`{}; known are {}", place(at), known.join(", "))]
    UnknownOp {
        /// The place, such as `layers[3]`.
        at: String,
        /// The op.
        op: String,
        /// Ops there are.
        known: Vec<&'static str>,
    },
    /// A key is missing or a value is of the wrong type.
    #[error("model spec{}: {problem}", place(at))]
    Invalid {
        /// The place, such as `layers[3] (conv2d)`; empty for the spec itself.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// The text is no TOML.
    #[error("line {line}: not TOML: {message}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What the parser says, in one line.
        message: String,
    },
}

fn place(at: &str) -> String {
    if at.is_empty() {
        String::new()
    } else {
        format!(" at {at}")
    }
}

impl SpecError {
    /// What was written, and what is known in its place: for a hint at what may be meant.
    pub fn unknown(&self) -> Option<(&str, &[&'static str])> {
        match self {
            SpecError::UnknownKey { key, known, .. } => Some((key, known)),
            SpecError::UnknownOp { op, known, .. } => Some((op, known)),
            _ => None,
        }
    }
}

impl ModelSpec {
    /// An architecture, of the version that its layers need.
    pub fn new(name: String, input: InputSize, classes: usize, layers: Vec<Layer>) -> Self {
        ModelSpec {
            version: version::needed(&layers),
            name,
            input,
            classes,
            layers,
        }
    }

    /// Reads a spec from JSON, as a full model holds it. Whatever version it says, it becomes one of the version that its layers
    /// need.
    ///
    /// # Errors
    /// [`SpecError`] naming the place: an unknown version, key or op, a missing key, a value of the wrong
    /// type. Whether the layers fit each other is checked by [`Network::new`](crate::Network::new).
    pub fn from_json(value: &serde_json::Value) -> Result<Self, SpecError> {
        check::check(value)?;
        let mut spec: ModelSpec =
            serde_json::from_value(value.clone()).map_err(|error| SpecError::Invalid {
                at: String::new(),
                problem: error.to_string(),
            })?;
        spec.version = version::needed(&spec.layers);
        Ok(spec)
    }

    /// The spec as JSON, as a full model holds it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a spec has string keys and finite numbers")
    }
}
