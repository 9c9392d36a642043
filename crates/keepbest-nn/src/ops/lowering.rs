//! From layers to operations: values, names and parameters as they are found, layer by layer.

use super::operation::{Operation, ParamId, ValueId};
use crate::params::{ParamLayout, Role, Start};
use keepbest_kernels::ActShape;
use std::collections::BTreeSet;

/// Layers a network may have: enough for any that trains on a CPU, and soon reached by a hostile `repeat`.
pub(crate) const MAX_LAYERS: usize = 4096;

/// Bytes of a layer's name with those of the blocks around it.
const MAX_NAME: usize = 512;

/// Rows, columns and channels that the layers of a network list one by one, together.
const MAX_LISTED: usize = 1 << 22;

/// A layer that does not fit what comes before it.
#[derive(Debug, thiserror::Error)]
#[error("layer `{layer}` ({op}): {problem}")]
#[non_exhaustive]
pub struct LayerError {
    /// Dotted name of the layer.
    pub layer: String,
    /// Its op.
    pub op: &'static str,
    /// What does not fit, with the sizes found and expected.
    pub problem: String,
}

/// One operation of a network, and the values it stands between.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The layer's dotted name.
    pub name: String,
    pub op: Box<dyn Operation>,
    pub input: ValueId,
    pub output: ValueId,
}

impl Node {
    /// Values it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = ValueId> {
        [self.input].into_iter().chain(self.op.other())
    }
}

/// A value as the next layer sees it: a map of channels, or a vector (a map read in PyTorch's order).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Current {
    pub value: ValueId,
    pub flat: bool,
}

/// The place of a layer, for its parameters' names and its errors.
pub(crate) struct Place {
    /// Dotted name.
    pub name: String,
    /// The op as it is written in a spec.
    pub op: &'static str,
}

impl Place {
    pub(crate) fn error(&self, problem: String) -> LayerError {
        LayerError {
            layer: self.name.clone(),
            op: self.op,
            problem,
        }
    }
}

/// A network in the making.
pub(crate) struct Lowering {
    pub nodes: Vec<Node>,
    /// Shape of each value.
    pub values: Vec<ActShape>,
    pub layout: ParamLayout,
    /// Values that more than one layer reads, so that nothing may be fused into what makes them.
    shared: BTreeSet<ValueId>,
    dropouts: u64,
    /// Layers and copies of layers seen so far.
    seen: usize,
    /// Rows, columns and channels listed so far.
    listed: usize,
}

impl Lowering {
    pub(crate) fn new(input: ActShape) -> Self {
        Lowering {
            nodes: vec![],
            values: vec![input],
            layout: ParamLayout::default(),
            shared: BTreeSet::new(),
            dropouts: 0,
            seen: 0,
            listed: 0,
        }
    }

    /// Counts a layer, or a copy of layers.
    pub(crate) fn count(&mut self, place: &Place) -> Result<(), LayerError> {
        self.seen += 1;
        if place.name.len() > MAX_NAME {
            return Err(LayerError {
                layer: place.name.chars().take(40).chain("...".chars()).collect(),
                op: place.op,
                problem: format!(
                    "its name has {} bytes, more than {MAX_NAME}",
                    place.name.len()
                ),
            });
        }
        if self.seen > MAX_LAYERS {
            return Err(place.error(format!("the network has more than {MAX_LAYERS} layers")));
        }
        Ok(())
    }

    /// Counts the rows, columns and channels of an output that an operation has a list of, before the list is made.
    pub(crate) fn list(&mut self, place: &Place, output: ActShape) -> Result<(), LayerError> {
        output
            .check("its output")
            .map_err(|e| place.error(e.to_string()))?;
        self.listed += output.h + output.w + output.c;
        if self.listed > MAX_LISTED {
            return Err(place.error(format!(
                "the layers of the network rearrange more than {MAX_LISTED} rows, columns and channels"
            )));
        }
        Ok(())
    }

    /// Adds an operation whose output has `shape`.
    pub(crate) fn node(
        &mut self,
        place: &Place,
        op: impl Operation,
        input: ValueId,
        shape: ActShape,
        flat: bool,
    ) -> Current {
        let output = self.values.len();
        self.values.push(shape);
        self.nodes.push(Node {
            name: place.name.clone(),
            op: Box::new(op),
            input,
            output,
        });
        Current {
            value: output,
            flat,
        }
    }

    /// Adds an operation that leaves the shape as it is.
    pub(crate) fn same_shape(&mut self, place: &Place, op: impl Operation, x: Current) -> Current {
        let shape = self.shape(x);
        self.node(place, op, x.value, shape, x.flat)
    }

    pub(crate) fn shape(&self, x: Current) -> ActShape {
        self.values[x.value]
    }

    /// The shape of a value that must be a map of channels.
    pub(crate) fn map(&self, place: &Place, x: Current) -> Result<ActShape, LayerError> {
        let shape = self.shape(x);
        if x.flat {
            return Err(place.error(format!(
                "needs a map of channels, found {} (it stands after a flatten or linear layer)",
                describe(shape, true)
            )));
        }
        Ok(shape)
    }

    /// Declares a tensor of the layer, `part` of its name.
    pub(crate) fn param(
        &mut self,
        place: &Place,
        part: &str,
        shape: &[usize],
        role: Role,
        start: Start,
    ) -> Result<ParamId, LayerError> {
        let name = join(&place.name, part);
        self.layout
            .push(name, shape.to_vec(), role, start)
            .map_err(|name| place.error(format!("there already is a parameter `{name}`")))
    }

    /// Declares `weight` of ones and `bias` of zeros, one value a channel.
    pub(crate) fn scale_and_shift(
        &mut self,
        place: &Place,
        channels: usize,
    ) -> Result<(ParamId, ParamId), LayerError> {
        let (role, c) = (Role::Trained, [channels]);
        let weight = self.param(place, "weight", &c, role, Start::Constant(1.0))?;
        let bias = self.param(place, "bias", &c, role, Start::Constant(0.0))?;
        Ok((weight, bias))
    }

    /// The operation that makes `x`, where nothing but the layer at hand reads it.
    pub(crate) fn made_for_this(&mut self, x: Current) -> Option<&mut Node> {
        let shared = self.shared.contains(&x.value);
        self.nodes
            .last_mut()
            .filter(|last| !shared && last.output == x.value)
    }

    /// Says that more than one layer reads `x`.
    pub(crate) fn share(&mut self, x: Current) {
        self.shared.insert(x.value);
    }

    /// The number of the next random stream.
    pub(crate) fn stream(&mut self) -> u64 {
        self.dropouts += 1;
        self.dropouts - 1
    }
}

/// A shape in words.
pub(crate) fn describe(shape: ActShape, flat: bool) -> String {
    if flat {
        format!("a vector of {}", shape.c * shape.h * shape.w)
    } else {
        format!("{} channels of {} x {}", shape.c, shape.h, shape.w)
    }
}

/// A name inside a block; an empty one adds nothing.
pub(crate) fn join(prefix: &str, own: &str) -> String {
    match (prefix, own) {
        ("", name) | (name, "") => name.to_owned(),
        (prefix, own) => format!("{prefix}.{own}"),
    }
}

/// Refuses an `eps` that is no small number.
pub(crate) fn check_eps(place: &Place, eps: f64) -> Result<(), LayerError> {
    if eps >= 0.0 && eps.is_finite() {
        Ok(())
    } else {
        Err(place.error(format!("eps must be at least 0 and finite, found {eps}")))
    }
}

/// A setting as the kernels take it; refuses what is no finite number there.
pub(crate) fn number(place: &Place, what: &str, value: f64) -> Result<f32, LayerError> {
    let found = value as f32;
    if found.is_finite() {
        Ok(found)
    } else {
        Err(place.error(format!("{what} must be a finite number, found {value}")))
    }
}
