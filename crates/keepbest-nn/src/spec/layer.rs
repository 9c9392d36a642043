//! The layers and blocks there are.

use super::values::Unnamed;
use crate::ops::dropout::Zeros;
use crate::ops::lowering::{Current, LayerError, Lowering, Place};
use crate::ops::{
    activations, adaptive_avg_pool, avg_pool, batch_norm, blocks, blur_pool, channel_conv1d,
    channel_pool, conv, conv_transpose, dropout, flatten, gather, global_avg_pool, global_max_pool,
    global_response_norm, group_norm, layer_norm, layer_scale, local_response_norm, max_pool,
    pointwise, prelu, relu, rms_norm, scale2d, softmax, unflatten, upsample,
};
use keepbest_kernels::{ChannelPool, Pointwise};
use serde::{Deserialize, Serialize};

pub use crate::ops::activations::{Affine, Approximate, Clip, Elu, Gelu, LeakyRelu, Pow, Softplus};
pub use crate::ops::adaptive_avg_pool::AdaptiveAvgPool2d;
pub use crate::ops::avg_pool::AvgPool2d;
pub use crate::ops::batch_norm::BatchNorm2d;
pub use crate::ops::blocks::{Branch, Gate, Graph, GraphNode, Repeat, Residual, Sequential};
pub use crate::ops::blur_pool::BlurPool2d;
pub use crate::ops::channel_conv1d::ChannelConv1d;
pub use crate::ops::conv::{Conv2d, Linear};
pub use crate::ops::conv_transpose::ConvTranspose2d;
pub use crate::ops::dropout::Dropout;
pub use crate::ops::gather::{ChannelShuffle, ChannelSlice, Crop, Pad2d, PadMode};
pub use crate::ops::global_response_norm::GlobalResponseNorm;
pub use crate::ops::group_norm::{GroupNorm, InstanceNorm2d};
pub use crate::ops::layer_norm::LayerNorm2d;
pub use crate::ops::layer_scale::LayerScale;
pub use crate::ops::local_response_norm::LocalResponseNorm;
pub use crate::ops::max_pool::Pool2d;
pub use crate::ops::prelu::Prelu;
pub use crate::ops::rms_norm::RmsNorm2d;
pub use crate::ops::scale2d::{ScalarAffine, Scale2d};
pub use crate::ops::standardize::Standardize;
pub use crate::ops::unflatten::Unflatten;
pub use crate::ops::upsample::{Upsample, UpsampleMode};

/// Defines [`Layer`] from one row a layer: what it is, its settings, its op as it is written in a spec, the version of the spec
/// since when there is such an op (the first when absent), and what adds it to a network.
macro_rules! layers {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $op:literal $(since $since:literal)?, $lower:expr;)*) => {
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

            /// The version of the spec since when there is an op.
            pub(super) fn since(op: &str) -> u32 {
                match op {
                    $($($op => $since,)?)*
                    _ => 1,
                }
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
    ConvTranspose2d(ConvTranspose2d) = "conv_transpose2d" since 3, conv_transpose::lower;
    /// Batch normalisation over images and pixels, `torch.nn.BatchNorm2d`.
    BatchNorm2d(BatchNorm2d) = "batch_norm2d", batch_norm::lower;
    /// Normalisation over the channels of each pixel, torchvision's `LayerNorm2d`.
    LayerNorm2d(LayerNorm2d) = "layer_norm2d", layer_norm::lower;
    /// Normalisation over the pixels of groups of channels of each image, `torch.nn.GroupNorm`.
    GroupNorm(GroupNorm) = "group_norm", group_norm::lower;
    /// Normalisation over a vector, `torch.nn.LayerNorm`.
    LayerNorm(LayerNorm2d) = "layer_norm" since 3, layer_norm::lower_flat;
    /// Normalisation over the pixels of each channel of each image, `torch.nn.InstanceNorm2d`.
    InstanceNorm2d(InstanceNorm2d) = "instance_norm2d" since 3, group_norm::lower_instance;
    /// Division of each pixel's channels by their root mean square, `torch.nn.RMSNorm` on channels.
    RmsNorm2d(RmsNorm2d) = "rms_norm2d" since 3, rms_norm::lower;
    /// Division by a power of the mean square of the channels around, `torch.nn.LocalResponseNorm`.
    LocalResponseNorm(LocalResponseNorm) = "local_response_norm" since 3, local_response_norm::lower;
    /// Each channel weighed by its norm relative to the channels' mean, timm's `GlobalResponseNorm`.
    GlobalResponseNorm(GlobalResponseNorm) = "global_response_norm" since 3, global_response_norm::lower;
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
    /// `x` times the normal distribution function of `x`, exact as PyTorch's default or by a hyperbolic tangent.
    Gelu(Gelu) = "gelu", pointwise::lower_with(Gelu::function);
    /// `x * sigmoid(1.702 x)`, the GELU of OpenAI's CLIP.
    QuickGelu(Unnamed) = "quick_gelu" since 3, pointwise::lower(Pointwise::QuickGelu);
    /// `x` above 0 and `slope * x` below, `torch.nn.LeakyReLU`.
    LeakyRelu(LeakyRelu) = "leaky_relu" since 3, pointwise::lower_with(LeakyRelu::function);
    /// `x` above 0 and `alpha * (e^x - 1)` below, `torch.nn.ELU`.
    Elu(Elu) = "elu" since 3, pointwise::lower_with(Elu::elu);
    /// `x` above 0 and `alpha * (e^(x / alpha) - 1)` below, `torch.nn.CELU`.
    Celu(Elu) = "celu" since 3, pointwise::lower_with(Elu::celu);
    /// An ELU whose factors keep mean and variance, `torch.nn.SELU`.
    Selu(Unnamed) = "selu" since 3, pointwise::lower(activations::SELU);
    /// Hyperbolic tangent.
    Tanh(Unnamed) = "tanh" since 3, pointwise::lower(Pointwise::Tanh);
    /// `ln(1 + e^(beta * x)) / beta`, `torch.nn.Softplus`.
    Softplus(Softplus) = "softplus" since 3, pointwise::lower_with(Softplus::function);
    /// `x * tanh(softplus(x))`, `torch.nn.Mish`.
    Mish(Unnamed) = "mish" since 3, pointwise::lower(Pointwise::Mish);
    /// `min(max(x, min), max)`, `torch.nn.Hardtanh`.
    Clip(Clip) = "clip" since 3, pointwise::lower_with(Clip::function);
    /// Absolute value.
    Abs(Unnamed) = "abs" since 3, pointwise::lower(Pointwise::Abs);
    /// Square root.
    Sqrt(Unnamed) = "sqrt" since 3, pointwise::lower(Pointwise::Sqrt);
    /// `x * x`.
    Square(Unnamed) = "square" since 3, pointwise::lower(Pointwise::Square);
    /// `x` to a power.
    Pow(Pow) = "pow" since 3, pointwise::lower_with(Pow::function);
    /// `e^x`.
    Exp(Unnamed) = "exp" since 3, pointwise::lower(Pointwise::Exp);
    /// Natural logarithm.
    Log(Unnamed) = "log" since 3, pointwise::lower(Pointwise::Log);
    /// The error function.
    Erf(Unnamed) = "erf" since 3, pointwise::lower(Pointwise::Erf);
    /// `x * scale + shift` by constants.
    Affine(Affine) = "affine" since 3, pointwise::lower_with(Affine::function);
    /// `x` above 0 and a trained slope times `x` below, `torch.nn.PReLU`.
    Prelu(Prelu) = "prelu" since 3, prelu::lower;
    /// Softmax over channels, `torch.nn.Softmax(1)`.
    Softmax(Unnamed) = "softmax" since 3, softmax::lower(false);
    /// Logarithm of the softmax over channels, `torch.nn.LogSoftmax(1)`.
    LogSoftmax(Unnamed) = "log_softmax" since 3, softmax::lower(true);
    /// Maximum over a window, `torch.nn.MaxPool2d`.
    MaxPool2d(Pool2d) = "max_pool2d", max_pool::lower;
    /// Mean over a window, `torch.nn.AvgPool2d`.
    AvgPool2d(AvgPool2d) = "avg_pool2d", avg_pool::lower;
    /// Mean over all pixels of each channel, `torch.nn.AdaptiveAvgPool2d(1)`.
    GlobalAvgPool2d(Unnamed) = "global_avg_pool2d", global_avg_pool::lower;
    /// Maximum over all pixels of each channel, `torch.nn.AdaptiveMaxPool2d(1)`.
    GlobalMaxPool2d(Unnamed) = "global_max_pool2d" since 3, global_max_pool::lower;
    /// Mean over the channels of each pixel, `torch.mean(x, 1, keepdim=True)`.
    ChannelMean(Unnamed) = "channel_mean" since 3, channel_pool::lower(ChannelPool::Mean);
    /// Maximum over the channels of each pixel, `torch.max(x, 1, keepdim=True)`.
    ChannelMax(Unnamed) = "channel_max" since 3, channel_pool::lower(ChannelPool::Max);
    /// Blurring with a binomial filter and taking every so many pixels, timm's `BlurPool2d`.
    BlurPool2d(BlurPool2d) = "blur_pool2d" since 3, blur_pool::lower;
    /// Mean over windows that share the map out, `torch.nn.AdaptiveAvgPool2d`.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d) = "adaptive_avg_pool2d", adaptive_avg_pool::lower;
    /// Some of the channels, one after the other.
    ChannelSlice(ChannelSlice) = "channel_slice" since 3, gather::lower_slice;
    /// A channel of each group in turn, `torch.nn.ChannelShuffle`.
    ChannelShuffle(ChannelShuffle) = "channel_shuffle" since 3, gather::lower_shuffle;
    /// Without some rows and columns of its sides.
    Crop(Crop) = "crop" since 3, gather::lower_crop;
    /// With rows and columns around it, `torch.nn.functional.pad`.
    Pad2d(Pad2d) = "pad2d" since 3, gather::lower_pad;
    /// At another size, `torch.nn.Upsample`.
    Upsample(Upsample) = "upsample" since 3, upsample::lower;
    /// `[channels, height, width]` to one vector in that order, `torch.nn.Flatten`.
    Flatten(Unnamed) = "flatten", flatten::lower;
    /// A vector as `[channels, height, width]`, `torch.nn.Unflatten`.
    Unflatten(Unflatten) = "unflatten" since 3, unflatten::lower;
    /// Fully connected layer, `torch.nn.Linear`.
    Linear(Linear) = "linear", conv::lower_linear;
    /// A trained factor for each channel (Touvron et al., arXiv 2103.17239).
    LayerScale(LayerScale) = "layer_scale", layer_scale::lower;
    /// A trained factor and summand for each channel.
    Scale2d(Scale2d) = "scale2d" since 3, scale2d::lower;
    /// A trained factor and summand for all channels, the last part of timm's `StarReLU`.
    ScalarAffine(ScalarAffine) = "scalar_affine" since 3, scale2d::lower_scalar;
    /// Convolution along the channels of each pixel, `torch.nn.Conv1d(1, 1, kernel)` in timm's `EcaModule`.
    ChannelConv1d(ChannelConv1d) = "channel_conv1d" since 3, channel_conv1d::lower;
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
    Graph(Graph) = "graph" since 3, blocks::lower_graph;
    /// The sum of two values or more; in a as all that follow. One row, column or channel stands for all of the other
    /// value's.
    Add(Unnamed) = "add" since 3, blocks::alone;
    /// The first value minus the second.
    Sub(Unnamed) = "sub" since 3, blocks::alone;
    /// The product of two values or more.
    Mul(Unnamed) = "mul" since 3, blocks::alone;
    /// The first value divided by the second.
    Div(Unnamed) = "div" since 3, blocks::alone;
    /// The larger of two values or more, `torch.maximum`.
    Maximum(Unnamed) = "maximum" since 3, blocks::alone;
    /// The smaller of two values or more, `torch.minimum`.
    Minimum(Unnamed) = "minimum" since 3, blocks::alone;
    /// The channels of two values or more, one after the other, or the features of vectors.
    Concat(Unnamed) = "concat" since 3, blocks::alone;
    /// The value itself, `torch.nn.Identity`.
    Identity(Unnamed) = "identity" since 3, blocks::lower_identity;
}
