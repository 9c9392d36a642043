//! A spec, checked and flattened: the values, the operations between them and the parameters they need.
//!
//! Shape inference and fusion happen here, once. A ReLU is fused into the batch norm or sum it follows, and
//! a residual sum into the batch norm that ends its body. Flatten costs nothing: a linear layer over a
//! flattened map is a convolution whose window is the whole map, and PyTorch's `[out, C*H*W]` weight is that
//! convolution's `[out, C, H, W]`.

mod fuse;
mod lower;
mod summary;

pub use summary::LayerSummary;

use crate::params::{ParamLayout, ParamTensor, Role};
use crate::spec::ModelSpec;
use keepbest_kernels::{ActShape, ConvShape, Pointwise, PoolShape};

/// Index of a value (the input image, or a layer's output) in [`Network::values`].
pub(crate) type ValueId = usize;
/// Index of a tensor of the state dict in [`ParamLayout::tensors`].
pub(crate) type ParamId = usize;

/// One operation of the flattened network.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The layer's dotted name.
    pub name: String,
    pub op: Op,
    pub input: ValueId,
    pub output: ValueId,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Convolution, or a linear layer as one.
    Conv {
        shape: ConvShape,
        weight: ParamId,
        bias: Option<ParamId>,
        linear: bool,
        /// What was the next operation, when this one takes it along.
        then: Option<Then>,
    },
    BatchNorm(BatchNorm),
    Relu,
    MaxPool(PoolShape),
    AvgPool {
        pool: PoolShape,
        count_include_pad: bool,
    },
    GlobalAvgPool,
    AdaptiveAvgPool([usize; 2]),
    Pointwise(Pointwise),
    LayerNorm(ChannelNorm),
    GroupNorm {
        norm: ChannelNorm,
        groups: usize,
    },
    /// `input` times a trained factor a channel.
    LayerScale {
        weight: ParamId,
    },
    Dropout {
        p: f64,
        stream: u64,
    },
    /// Dropout of whole images.
    StochasticDepth {
        p: f64,
        stream: u64,
    },
    /// `input * other`, where `other` is one pixel.
    Gate {
        other: ValueId,
    },
    /// The channels of `input`, then those of `other`.
    Concat {
        other: ValueId,
    },
    /// `input + other`, then a ReLU when `relu`.
    Add {
        other: ValueId,
        relu: bool,
    },
}

/// What a convolution does to its sums before it stores them.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// A batch norm with fixed statistics, its residual and its ReLU.
    BatchNorm(BatchNorm),
    Relu,
}

#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    pub weight: ParamId,
    pub bias: ParamId,
    pub running_mean: ParamId,
    pub running_var: ParamId,
    pub eps: f64,
    pub momentum: f64,
    pub residual: Option<ValueId>,
    pub relu: bool,
    /// Max pooling that was the next operation, when this one takes it along.
    pub pool: Option<PoolShape>,
}

/// A norm that keeps no statistics.
#[derive(Clone, Debug)]
pub(crate) struct ChannelNorm {
    pub weight: ParamId,
    pub bias: ParamId,
    pub eps: f64,
}

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

impl Network {
    /// Checks a spec and flattens it.
    ///
    /// # Errors
    /// [`LayerError`] naming the layer: a window larger than its padded input, channels that are no multiple
    /// of the groups, branches whose outputs do not fit each other, two layers of one name, a linear layer
    /// on something not flattened, an output that is not one score a class.
    pub fn new(spec: &ModelSpec) -> Result<Self, LayerError> {
        lower::lower(spec)
    }

    /// A network whose output need not be one score a class: a part of one.
    #[cfg(test)]
    pub(crate) fn part(spec: &ModelSpec) -> Result<Self, LayerError> {
        lower::flatten(spec).map(|(network, _)| network)
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
            (matches!(node.op, Op::BatchNorm(_)) && shape.h * shape.w == 1)
                .then_some(node.name.as_str())
        })
    }
}
