//! Parameters and buffers: names, shapes, places in the contiguous arenas, and how they start.

pub(crate) mod average;
mod load;
mod names;
mod start;
mod state;

pub use average::{average_share, trained_first};
pub(crate) use load::{copy_f32, copy_weights, start};
pub use names::{AVERAGE_PREFIX, RAW_PREFIX, RNG_PREFIX, SCALER_PREFIX, optimizer_state};
pub(crate) use start::Start;
pub(crate) use state::{CpuSnapshot, StateCell, StateNames, TrainState};

use keepbest_formats::{Dtype, Snapshot as _, StateDict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What a tensor of the state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained by the optimizer.
    Trained,
    /// Kept beside the parameters (running statistics), f32.
    Buffer,
    /// A single i64 (`num_batches_tracked`).
    Counter,
}

/// One tensor of the state dict.
#[derive(Clone, Debug)]
pub struct ParamTensor {
    /// PyTorch's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// PyTorch's shape and layout (OIHW for convolutions).
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    pub(crate) start: Start,
    /// First float in the weights arena; index among the counters for [`Role::Counter`].
    pub(crate) offset: usize,
    /// First float in the arenas that only trained tensors have (gradients, optimizer state).
    pub(crate) trained_offset: usize,
}

impl ParamTensor {
    /// Dotted name of its layer.
    pub fn layer(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(&self.name, |(layer, _)| layer)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type in the state dict.
    pub fn dtype(&self) -> Dtype {
        if self.role == Role::Counter {
            Dtype::I64
        } else {
            Dtype::F32
        }
    }

    /// Place in the weights arena.
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// Place in the gradient and optimizer arenas.
    pub(crate) fn trained_range(&self) -> Range<usize> {
        self.trained_offset..self.trained_offset + self.len()
    }
}

/// All tensors of a network's state dict, in PyTorch's order, with their places.
#[derive(Clone, Debug, Default)]
pub struct ParamLayout {
    tensors: Vec<ParamTensor>,
    weights_len: usize,
    trained_len: usize,
    counters: usize,
}

impl ParamLayout {
    /// Adds a tensor and gives its index, or the name when it is already there.
    pub(crate) fn push(
        &mut self,
        name: String,
        shape: Vec<usize>,
        role: Role,
        start: Start,
    ) -> Result<usize, String> {
        if self.tensors.iter().any(|t| t.name == name) {
            return Err(name);
        }
        self.tensors.push(ParamTensor {
            name,
            shape,
            role,
            start,
            offset: 0,
            trained_offset: 0,
        });
        Ok(self.tensors.len() - 1)
    }

    /// Gives a tensor that was pushed under `name` its shape, and tells its index.
    pub(crate) fn set_shape(&mut self, name: &str, shape: Vec<usize>) -> usize {
        let index = self
            .tensors
            .iter()
            .position(|t| t.name == name)
            .expect("the tensor was pushed before its layer");
        self.tensors[index].shape = shape;
        index
    }

    /// Gives every tensor its place. Called once all tensors are known.
    pub(crate) fn finish(mut self) -> Self {
        for tensor in &mut self.tensors {
            let len = tensor.shape.iter().product::<usize>();
            match tensor.role {
                Role::Counter => {
                    tensor.offset = self.counters;
                    self.counters += 1;
                }
                Role::Buffer | Role::Trained => {
                    tensor.offset = self.weights_len;
                    self.weights_len += len;
                    if tensor.role == Role::Trained {
                        tensor.trained_offset = self.trained_len;
                        self.trained_len += len;
                    }
                }
            }
        }
        self
    }

    /// The values that training starts from with a seed: the same on every device.
    pub fn starting_values(&self, seed: u64) -> StateDict {
        let mut state = TrainState::new(self, 0, false);
        start(self, seed, &mut state);
        let names = Arc::new(StateNames {
            layout: self.clone(),
            slots: &[],
        });
        StateCell::new(state).snapshot(&names).weights()
    }

    /// The tensors, in PyTorch's order.
    pub fn tensors(&self) -> &[ParamTensor] {
        &self.tensors
    }

    /// Number of trained parameters.
    pub fn trained_len(&self) -> usize {
        self.trained_len
    }

    pub(crate) fn weights_len(&self) -> usize {
        self.weights_len
    }

    pub(crate) fn counters(&self) -> usize {
        self.counters
    }

    /// Checks that a state dict has exactly these tensors. Counters may be missing: files of old PyTorch
    /// versions have none, and nothing is computed with them.
    ///
    /// # Errors
    /// [`WeightsError`] listing every missing, unexpected and mis-shaped tensor.
    pub fn check(&self, weights: &StateDict) -> Result<(), WeightsError> {
        let optional = |name: &str| {
            self.tensors
                .iter()
                .any(|t| t.name == name && t.role == Role::Counter)
        };
        WeightsError::compare(&self.described(), &described(weights), optional)
    }

    /// Checks that another network has exactly these tensors.
    pub(crate) fn same(&self, other: &ParamLayout) -> Result<(), WeightsError> {
        WeightsError::compare(&self.described(), &other.described(), |_| false)
    }

    fn described(&self) -> Vec<Described<'_>> {
        self.tensors
            .iter()
            .map(|t| (t.name.as_str(), t.dtype(), t.shape.as_slice()))
            .collect()
    }
}

/// The tensors of a state dict, as [`WeightsError::compare`] takes them.
fn described(dict: &StateDict) -> Vec<Described<'_>> {
    dict.iter()
        .map(|(name, t)| (name, t.dtype(), t.shape()))
        .collect()
}

/// Name, type and shape of a tensor.
type Described<'a> = (&'a str, Dtype, &'a [usize]);

/// A state dict that does not belong to the network.
#[derive(Debug, Default, thiserror::Error)]
#[error("these weights are not this network's: {}", self.in_words())]
#[non_exhaustive]
pub struct WeightsError {
    /// Tensors the network needs and the state dict lacks.
    pub missing: Vec<String>,
    /// Tensors the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape or type.
    pub mismatched: Vec<Mismatch>,
}

/// A tensor of another shape or type than the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub tensor: String,
    /// Type and shape of the network's, such as `F32 [64, 3, 3, 3]`.
    pub expected: String,
    /// Type and shape found.
    pub found: String,
}

impl WeightsError {
    /// Compares the tensors of a state dict with those that are expected: names, types and shapes.
    ///
    /// # Errors
    /// [`WeightsError`] listing every missing, unexpected and mis-shaped tensor.
    pub fn check(expected: &StateDict, found: &StateDict) -> Result<(), WeightsError> {
        Self::compare(&described(expected), &described(found), |_| false)
    }

    /// Compares tensors by name; those that are `optional` may be missing.
    pub(crate) fn compare(
        expected: &[Described],
        found: &[Described],
        optional: impl Fn(&str) -> bool,
    ) -> Result<(), WeightsError> {
        let by_name: BTreeMap<&str, &Described> = found.iter().map(|t| (t.0, t)).collect();
        let known: BTreeSet<&str> = expected.iter().map(|t| t.0).collect();
        let describe = |(_, dtype, shape): &Described| format!("{dtype} {shape:?}");
        let mut error = WeightsError::default();
        for tensor in expected {
            match by_name.get(tensor.0) {
                None if optional(tensor.0) => {}
                None => error.missing.push(tensor.0.to_owned()),
                Some(found) if (found.1, found.2) != (tensor.1, tensor.2) => {
                    error.mismatched.push(Mismatch {
                        tensor: tensor.0.to_owned(),
                        expected: describe(tensor),
                        found: describe(found),
                    });
                }
                Some(_) => {}
            }
        }
        let unexpected = found
            .iter()
            .map(|t| t.0)
            .filter(|name| !known.contains(name));
        error.unexpected.extend(unexpected.map(str::to_owned));
        if error.is_empty() { Ok(()) } else { Err(error) }
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    fn in_words(&self) -> String {
        let mut parts = vec![];
        if !self.missing.is_empty() {
            parts.push(format!(
                "{} missing ({})",
                self.missing.len(),
                first_few(&self.missing)
            ));
        }
        if !self.unexpected.is_empty() {
            let names = first_few(&self.unexpected);
            parts.push(format!("{} unexpected ({names})", self.unexpected.len()));
        }
        if let Some(first) = self.mismatched.first() {
            parts.push(format!(
                "{} of another shape or type ({} should be {}, is {})",
                self.mismatched.len(),
                first.tensor,
                first.expected,
                first.found
            ));
        }
        parts.join(", ")
    }
}

fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text += ", ...";
    }
    text
}
