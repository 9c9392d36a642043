//! A spec, checked and flattened: the values, the operations between them and the parameters they need.
//!
//! Shape inference and fusion happen here, once. A ReLU is fused into the batch norm or sum it follows, and
//! a residual sum into the batch norm that ends its body. Flatten costs nothing: a linear layer over a
//! flattened map is a convolution whose window is the whole map, and PyTorch's `[out, C*H*W]` weight is that
//! convolution's `[out, C, H, W]`.

mod fuse;
mod summary;

pub use crate::ops::lowering::LayerError;
pub use summary::LayerSummary;

use crate::ops::blocks;
use crate::ops::lowering::{Current, Lowering, Node, describe};
use crate::ops::operation::{Shapes, ValueId};
use crate::params::{ParamLayout, ParamTensor, Role};
use crate::spec::ModelSpec;
use keepbest_kernels::ActShape;

/// Values of an input image: 16,384 x 16,384 pixels of 4 channels.
const MAX_INPUT: u128 = 1 << 30;

/// A spec that has been checked: every layer fits the next, and every parameter has a name, a shape and a
/// place. Everything else (engine, predictor, summaries) is made from it.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ActShape>,
    pub(crate) output: ValueId,
    layout: ParamLayout,
}

impl Network {
    /// Checks a spec and flattens it.
    ///
    /// # Errors
    /// [`LayerError`] naming the layer: a window larger than its padded input, channels that are no multiple
    /// of the groups, branches whose outputs do not fit each other, two layers of one name, a linear layer
    /// on something not flattened, an output that is not one score a class.
    pub fn new(spec: &ModelSpec) -> Result<Self, LayerError> {
        let (network, out) = Self::flatten(spec)?;
        let shape = network.values[out.value];
        if shape.h * shape.w != 1 || shape.c != spec.classes || !out.flat {
            let found = describe(shape, out.flat);
            let classes = spec.classes;
            let problem = format!(
                "the last layer must give a vector of {classes} scores, one a class; it gives {found}"
            );
            return Err(whole(spec, problem));
        }
        Ok(network)
    }

    /// All but the check that the output is one score a class.
    fn flatten(spec: &ModelSpec) -> Result<(Self, Current), LayerError> {
        let input = spec.input;
        if input.channels == 0 || input.height == 0 || input.width == 0 {
            let problem = format!(
                "input must have at least one channel and one pixel, found {} x {} x {}",
                input.channels, input.height, input.width
            );
            return Err(whole(spec, problem));
        }
        let pixels = [input.channels, input.height, input.width];
        let sides = pixels.iter().map(|&side| side as u128);
        let values = sides.fold(1u128, u128::saturating_mul);
        if values > MAX_INPUT {
            let problem = format!("input has {values} values, more than {MAX_INPUT}");
            return Err(whole(spec, problem));
        }
        if spec.classes == 0 {
            return Err(whole(spec, "needs at least one class, found 0".to_owned()));
        }
        let image = ActShape::new(input.height, input.width, input.channels);
        let mut lowering = Lowering::new(image);
        let start = Current {
            value: 0,
            flat: false,
        };
        let out = blocks::sequence(&mut lowering, "", &spec.layers, start)?;
        if lowering.nodes.is_empty() {
            return Err(whole(spec, "has no layers that compute".to_owned()));
        }
        let network = Network {
            // Whoever made it need not have known the version that its layers need.
            spec: ModelSpec::new(
                spec.name.clone(),
                spec.input,
                spec.classes,
                spec.layers.clone(),
            ),
            nodes: lowering.nodes,
            values: lowering.values,
            output: out.value,
            layout: lowering.layout.finish(),
        };
        Ok((network, out))
    }

    /// A network whose output need not be one score a class: a part of one.
    #[cfg(test)]
    pub(crate) fn part(spec: &ModelSpec) -> Result<Self, LayerError> {
        Self::flatten(spec).map(|(network, _)| network)
    }

    /// The spec this was made from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Names, shapes and places of all parameters and buffers.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// Number of classes, the length of one image's output.
    pub fn classes(&self) -> usize {
        self.spec.classes
    }

    /// Dotted name of the head, the last layer with weights; `None` where nothing is trained.
    pub fn head(&self) -> Option<&str> {
        let tensors = self.layout.tensors();
        let last = tensors.iter().rfind(|t| t.role == Role::Trained);
        last.map(ParamTensor::layer)
    }

    /// Number of floats of one dense input image.
    pub fn image_len(&self) -> usize {
        self.spec.input.channels * self.spec.input.height * self.spec.input.width
    }

    /// The layer whose statistics a batch of one image leaves undefined: a batch norm over a single pixel.
    pub(crate) fn needs_two_images(&self) -> Option<&str> {
        self.nodes.iter().find_map(|node| {
            let shape = self.values[node.output];
            (node.op.fixed_norm().is_some() && shape.h * shape.w == 1).then_some(node.name.as_str())
        })
    }

    /// Shapes of an operation's values.
    pub(crate) fn shapes(&self, node: &Node) -> Shapes {
        let shape = |value: ValueId| self.values[value];
        Shapes {
            input: shape(node.input),
            other: shape(node.op.other().unwrap_or(node.input)),
            output: shape(node.output),
        }
    }
}

/// An error of the model as a whole.
fn whole(spec: &ModelSpec, problem: String) -> LayerError {
    LayerError {
        layer: spec.name.clone(),
        op: "model",
        problem,
    }
}
