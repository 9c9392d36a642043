//! The layers and blocks of a spec, with their settings and defaults.

use serde::{Deserialize, Serialize};

/// Defines [`Layer`] from one line a layer: what it is, its settings, and its op as it is written in a spec.
macro_rules! layers {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $op:literal,)*) => {
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
        }
    };
}

layers! {
    /// 2-d convolution, `torch.nn.Conv2d`.
    Conv2d(Conv2d) = "conv2d",
    /// Batch normalisation over images and pixels, `torch.nn.BatchNorm2d`.
    BatchNorm2d(BatchNorm2d) = "batch_norm2d",
    /// Normalisation over the channels of each pixel, torchvision's `LayerNorm2d`.
    LayerNorm2d(LayerNorm2d) = "layer_norm2d",
    /// Normalisation over the pixels of groups of channels of each image, `torch.nn.GroupNorm`.
    GroupNorm(GroupNorm) = "group_norm",
    /// `max(x, 0)`.
    Relu(Unnamed) = "relu",
    /// `min(max(x, 0), 6)`.
    Relu6(Unnamed) = "relu6",
    /// `1 / (1 + e^-x)`.
    Sigmoid(Unnamed) = "sigmoid",
    /// `x * sigmoid(x)`.
    Silu(Unnamed) = "silu",
    /// `min(max(x + 3, 0), 6) / 6`.
    Hardsigmoid(Unnamed) = "hardsigmoid",
    /// `x * hardsigmoid(x)`.
    Hardswish(Unnamed) = "hardswish",
    /// `x` times the normal distribution function of `x`, exact as PyTorch's default.
    Gelu(Unnamed) = "gelu",
    /// Maximum over a window, `torch.nn.MaxPool2d`.
    MaxPool2d(Pool2d) = "max_pool2d",
    /// Mean over a window, `torch.nn.AvgPool2d`.
    AvgPool2d(AvgPool2d) = "avg_pool2d",
    /// Mean over all pixels of each channel, `torch.nn.AdaptiveAvgPool2d(1)`.
    GlobalAvgPool2d(Unnamed) = "global_avg_pool2d",
    /// Mean over windows that share the map out, `torch.nn.AdaptiveAvgPool2d`.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d) = "adaptive_avg_pool2d",
    /// `[channels, height, width]` to one vector in that order, `torch.nn.Flatten`.
    Flatten(Unnamed) = "flatten",
    /// Fully connected layer, `torch.nn.Linear`.
    Linear(Linear) = "linear",
    /// A trained factor for each channel (Touvron et al., arXiv 2103.17239).
    LayerScale(LayerScale) = "layer_scale",
    /// Random zeros in training, identity otherwise, `torch.nn.Dropout`.
    Dropout(Dropout) = "dropout",
    /// Whole images become zero at random in training, identity otherwise: torchvision's `StochasticDepth` by rows, at
    /// the end of a residual block's body.
    StochasticDepth(Dropout) = "stochastic_depth",
    /// Layers in order under one name.
    Sequential(Sequential) = "sequential",
    /// Layers several times over, under names with a running number.
    Repeat(Repeat) = "repeat",
    /// `body(x) + shortcut(x)`; an empty shortcut is the identity.
    Residual(Residual) = "residual",
    /// `x * body(x)`, where the body gives one number a channel: squeeze-and-excitation.
    Gate(Gate) = "gate",
    /// The channels of several branches of `x` one after the other; an empty branch is the identity.
    Branch(Branch) = "branch",
}

/// A layer without parameters or settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unnamed {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Settings of a convolution. Input channels come from the layer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Output channels.
    pub out: usize,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between windows.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub stride: Pair,
    /// Zeros around the image, each side.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
    /// Distance between taps of the window.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub dilation: Pair,
    /// Channel groups; input and output channels must be multiples of it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weights start.
    #[serde(default, skip_serializing_if = "Init::is_default")]
    pub init: Init,
    /// Whether the bias starts at zero, rather than as PyTorch's does.
    #[serde(default, skip_serializing_if = "is_no")]
    pub zero_bias: bool,
}

/// Starting distribution of the weights of a convolution or linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// PyTorch's default: uniform in ±1/sqrt(fan-in), for weights and biases.
    #[default]
    Default,
    /// Normal with variance 2/fan-out (He et al. 2015), as torchvision's ResNets.
    KaimingNormalFanOut,
    /// Normal with variance 2/fan-in.
    KaimingNormalFanIn,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this.
    Uniform(f64),
}

impl Init {
    fn is_default(&self) -> bool {
        *self == Init::Default
    }
}

/// Settings of a batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the variance before its square root.
    #[serde(default = "default_eps", skip_serializing_if = "is_default_eps")]
    pub eps: f64,
    /// Share of the batch's statistics in the running ones.
    #[serde(
        default = "default_momentum",
        skip_serializing_if = "is_default_momentum"
    )]
    pub momentum: f64,
}

/// Settings of a layer normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the variance before its square root.
    #[serde(default = "default_eps", skip_serializing_if = "is_default_eps")]
    pub eps: f64,
}

/// Settings of a group normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Groups of channels; channels must be a multiple of it.
    pub groups: usize,
    /// Added to the variance before its square root.
    #[serde(default = "default_eps", skip_serializing_if = "is_default_eps")]
    pub eps: f64,
}

/// Settings of a layer scale. Its one parameter `[channels, 1, 1]` has the layer's own name, and comes before those of
/// the layers beside it, as a parameter of the block itself does in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What every factor starts with.
    pub init: f64,
}

/// Settings of an adaptive average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rows and columns of the output.
    pub size: Pair,
}

/// Settings of a max pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between windows; the window itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Padding, each side; at most half the window.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
}

/// Settings of an average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between windows; the window itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Padding, each side; at most half the window.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
    /// Whether the zeros of the padding count in the mean.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub count_include_pad: bool,
}

/// Settings of a fully connected layer. Input features come from the layer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Output features.
    pub out: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// Whether it maps the channels of each pixel of a map, rather than one vector.
    #[serde(default, skip_serializing_if = "is_no")]
    pub per_pixel: bool,
    /// How the weights start.
    #[serde(default, skip_serializing_if = "Init::is_default")]
    pub init: Init,
    /// Whether the bias starts at zero, rather than as PyTorch's does.
    #[serde(default, skip_serializing_if = "is_no")]
    pub zero_bias: bool,
}

/// Settings of a dropout or stochastic depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Probability that a value (or a whole image) becomes zero, in `[0, 1)`.
    pub p: f64,
}

/// Layers under one name. An empty name adds nothing to the names of the layers inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequential {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// Layers several times over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// Name of each copy, with `{}` where its number goes; the number alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of copies.
    pub times: usize,
    /// Number of the first copy.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub first: usize,
    /// The layers of each copy, in order.
    pub layers: Vec<Layer>,
}

/// A residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The main branch.
    pub body: Vec<Layer>,
    /// The other branch; the identity when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<Layer>,
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What computes the factors, one pixel of as many channels as `x` has.
    pub body: Vec<Layer>,
}

/// Branches whose outputs are joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The branches, in the order of their channels. A branch adds nothing to the names of its layers.
    pub branches: Vec<Vec<Layer>>,
}

/// Rows and columns; written `3` when both are equal and `[3, 1]` otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PairText", into = "PairText")]
pub struct Pair(pub [usize; 2]);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PairText {
    Both(usize),
    Each([usize; 2]),
}

impl From<PairText> for Pair {
    fn from(text: PairText) -> Self {
        match text {
            PairText::Both(v) => Pair([v, v]),
            PairText::Each(v) => Pair(v),
        }
    }
}

impl From<Pair> for PairText {
    fn from(Pair([a, b]): Pair) -> Self {
        if a == b {
            PairText::Both(a)
        } else {
            PairText::Each([a, b])
        }
    }
}

impl From<usize> for Pair {
    fn from(v: usize) -> Self {
        Pair([v, v])
    }
}

impl Pair {
    fn one() -> Self {
        Pair([1, 1])
    }
    fn is_one(&self) -> bool {
        self.0 == [1, 1]
    }
    fn is_zero(&self) -> bool {
        self.0 == [0, 0]
    }
}

fn one() -> usize {
    1
}
fn is_one(v: &usize) -> bool {
    *v == 1
}
fn yes() -> bool {
    true
}
fn is_yes(v: &bool) -> bool {
    *v
}
fn default_eps() -> f64 {
    1e-5
}
fn is_default_eps(v: &f64) -> bool {
    *v == default_eps()
}
fn default_momentum() -> f64 {
    0.1
}
fn is_default_momentum(v: &f64) -> bool {
    *v == default_momentum()
}
fn is_no(v: &bool) -> bool {
    !*v
}
fn is_nought(v: &usize) -> bool {
    *v == 0
}
