//! The layers and blocks there are.

use super::values::Unnamed;
use crate::ops::dropout::Zeros;
use crate::ops::lowering::{Current, LayerError, Lowering, Place};
use crate::ops::{
    adaptive_avg_pool, avg_pool, batch_norm, blocks, conv, conv_transpose, dropout, flatten,
    gather, global_avg_pool, graph, group_norm, layer_norm, layer_scale, max_pool, pointwise, relu,
    unflatten, upsample,
};
use keepbest_kernels::Pointwise;
use serde::{Deserialize, Serialize};

pub use crate::ops::adaptive_avg_pool::AdaptiveAvgPool2d;
pub use crate::ops::avg_pool::AvgPool2d;
pub use crate::ops::batch_norm::BatchNorm2d;
pub use crate::ops::blocks::{Branch, Gate, Repeat, Residual, Sequential};
pub use crate::ops::conv::{Conv2d, Linear};
pub use crate::ops::conv_transpose::ConvTranspose2d;
pub use crate::ops::dropout::Dropout;
pub use crate::ops::gather::{ChannelShuffle, ChannelSlice, Crop, Pad2d, PadMode};
pub use crate::ops::graph::{Graph, GraphNode};
pub use crate::ops::group_norm::GroupNorm;
pub use crate::ops::layer_norm::LayerNorm2d;
pub use crate::ops::layer_scale::LayerScale;
pub use crate::ops::max_pool::Pool2d;
pub use crate::ops::unflatten::Unflatten;
pub use crate::ops::upsample::{Upsample, UpsampleMode};

/// Defines [`Layer`] from one row a layer: what it is, its settings, its op as it is written in a spec, and what adds it to a
/// network.
macro_rules! layers {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $op:literal, $lower:expr;)*) => {
        /// One layer or block of a [`ModelSpec`](super::ModelSpec).
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op")]
        pub enum Layer {
            $($(#[$doc])* #[serde(rename = $op)] $variant($settings),)*
        }

        impl Layer {
            /// Every op as it is written in a spec, with the keys it takes besides `op`.
            pub(super) fn known() -> Vec<(&'static str, &'static [&'static str])> {
                vec![$(($op, super::fields::of::<$settings>()),)*]
            }

            /// The layer's own name, when it has one.
            pub fn name(&self) -> Option<&str> {
                match self {
                    $(Layer::$variant(l) => l.name.as_deref(),)*
                }
            }

            /// The op as it is written in a spec, such as `conv2d`.
            pub fn op(&self) -> &'static str {
                match self {
                    $(Layer::$variant(_) => $op,)*
                }
            }

            /// Adds the layer to a network, behind the value `x`.
            pub(crate) fn lower(
                &self,
                lowering: &mut Lowering,
                place: &Place,
                x: Current,
            ) -> Result<Current, LayerError> {
                match self {
                    $(Layer::$variant(l) => ($lower)(lowering, place, l, x),)*
                }
            }
        }
    };
}

layers! {
    /// 2-d convolution, `torch.nn.Conv2d`.
    Conv2d(Conv2d) = "conv2d", conv::lower_conv;
    /// Transposed 2-d convolution, `torch.nn.ConvTranspose2d`.
    ConvTranspose2d(ConvTranspose2d) = "conv_transpose2d", conv_transpose::lower;
    /// Batch normalisation over images and pixels, `torch.nn.BatchNorm2d`.
    BatchNorm2d(BatchNorm2d) = "batch_norm2d", batch_norm::lower;
    /// Normalisation over the channels of each pixel, torchvision's `LayerNorm2d`.
    LayerNorm2d(LayerNorm2d) = "layer_norm2d", layer_norm::lower;
    /// Normalisation over the pixels of groups of channels of each image, `torch.nn.GroupNorm`.
    GroupNorm(GroupNorm) = "group_norm", group_norm::lower;
    /// `max(x, 0)`.
    Relu(Unnamed) = "relu", relu::lower;
    /// `min(max(x, 0), 6)`.
    Relu6(Unnamed) = "relu6", pointwise::lower(Pointwise::Relu6);
    /// `1 / (1 + e^-x)`.
    Sigmoid(Unnamed) = "sigmoid", pointwise::lower(Pointwise::Sigmoid);
    /// `x * sigmoid(x)`.
    Silu(Unnamed) = "silu", pointwise::lower(Pointwise::Silu);
    /// `min(max(x + 3, 0), 6) / 6`.
    Hardsigmoid(Unnamed) = "hardsigmoid", pointwise::lower(Pointwise::Hardsigmoid);
    /// `x * hardsigmoid(x)`.
    Hardswish(Unnamed) = "hardswish", pointwise::lower(Pointwise::Hardswish);
    /// `x` times the normal distribution function of `x`, exact as PyTorch's default.
    Gelu(Unnamed) = "gelu", pointwise::lower(Pointwise::Gelu);
    /// Maximum over a window, `torch.nn.MaxPool2d`.
    MaxPool2d(Pool2d) = "max_pool2d", max_pool::lower;
    /// Mean over a window, `torch.nn.AvgPool2d`.
    AvgPool2d(AvgPool2d) = "avg_pool2d", avg_pool::lower;
    /// Mean over all pixels of each channel, `torch.nn.AdaptiveAvgPool2d(1)`.
    GlobalAvgPool2d(Unnamed) = "global_avg_pool2d", global_avg_pool::lower;
    /// Mean over windows that share the map out, `torch.nn.AdaptiveAvgPool2d`.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d) = "adaptive_avg_pool2d", adaptive_avg_pool::lower;
    /// Some of the channels, one after the other.
    ChannelSlice(ChannelSlice) = "channel_slice", gather::lower_slice;
    /// A channel of each group in turn, `torch.nn.ChannelShuffle`.
    ChannelShuffle(ChannelShuffle) = "channel_shuffle", gather::lower_shuffle;
    /// Without some rows and columns of its sides.
    Crop(Crop) = "crop", gather::lower_crop;
    /// With rows and columns around it, `torch.nn.functional.pad`.
    Pad2d(Pad2d) = "pad2d", gather::lower_pad;
    /// At another size, `torch.nn.Upsample`.
    Upsample(Upsample) = "upsample", upsample::lower;
    /// `[channels, height, width]` to one vector in that order, `torch.nn.Flatten`.
    Flatten(Unnamed) = "flatten", flatten::lower;
    /// A vector as `[channels, height, width]`, `torch.nn.Unflatten`.
    Unflatten(Unflatten) = "unflatten", unflatten::lower;
    /// Fully connected layer, `torch.nn.Linear`.
    Linear(Linear) = "linear", conv::lower_linear;
    /// A trained factor for each channel (Touvron et al., arXiv 2103.17239).
    LayerScale(LayerScale) = "layer_scale", layer_scale::lower;
    /// Random zeros in training, identity otherwise, `torch.nn.Dropout`.
    Dropout(Dropout) = "dropout", dropout::lower(Zeros::Values);
    /// Whole images become zero at random in training, identity otherwise: torchvision's `StochasticDepth` by rows, at
    /// the end of a residual block's body.
    StochasticDepth(Dropout) = "stochastic_depth", dropout::lower(Zeros::Images);
    /// Layers in order under one name.
    Sequential(Sequential) = "sequential", blocks::lower_sequential;
    /// Layers several times over, under names with a running number.
    Repeat(Repeat) = "repeat", blocks::lower_repeat;
    /// `body(x) + shortcut(x)`; an empty shortcut is the identity.
    Residual(Residual) = "residual", blocks::lower_residual;
    /// `x * body(x)`, where the body gives one number a channel: squeeze-and-excitation.
    Gate(Gate) = "gate", blocks::lower_gate;
    /// The channels of several branches of `x` one after the other; an empty branch is the identity.
    Branch(Branch) = "branch", blocks::lower_branch;
    /// A graph of layers: each says which values it reads.
    Graph(Graph) = "graph", graph::lower;
    /// The sum of two values or more; in a graph, as all that follow. One row, column or channel stands for all of the other
    /// value's.
    Add(Unnamed) = "add", graph::alone;
    /// The first value minus the second.
    Sub(Unnamed) = "sub", graph::alone;
    /// The product of two values or more.
    Mul(Unnamed) = "mul", graph::alone;
    /// The first value divided by the second.
    Div(Unnamed) = "div", graph::alone;
    /// The larger of two values or more, `torch.maximum`.
    Maximum(Unnamed) = "maximum", graph::alone;
    /// The smaller of two values or more, `torch.minimum`.
    Minimum(Unnamed) = "minimum", graph::alone;
    /// The channels of two values or more, one after the other, or the features of vectors.
    Concat(Unnamed) = "concat", graph::alone;
    /// The value itself, `torch.nn.Identity`.
    Identity(Unnamed) = "identity", blocks::lower_identity;
}
