//! The model spec: an architecture as data.
//!
//! A spec is what a full model carries instead of code, and what a TOML model file holds. Layers run in
//! order; blocks nest. Parameter names follow PyTorch: the names of the enclosing blocks and of the layer,
//! joined by dots, then `weight`, `bias` and so on (`layer1.0.conv1.weight`). A layer without a name is
//! called by its position in its list, as in `torch.nn.Sequential`.

use serde::{Deserialize, Serialize};

/// The spec schema this build reads and writes.
pub const SPEC_VERSION: u32 = 1;

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
    /// Schema version, [`SPEC_VERSION`].
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

/// One layer or block of a [`ModelSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Layer {
    /// 2-d convolution, `torch.nn.Conv2d`.
    Conv2d(Conv2d),
    /// Batch normalisation over images and pixels, `torch.nn.BatchNorm2d`.
    BatchNorm2d(BatchNorm2d),
    /// `max(x, 0)`.
    Relu(Unnamed),
    /// Maximum over a window, `torch.nn.MaxPool2d`.
    MaxPool2d(Pool2d),
    /// Mean over a window, `torch.nn.AvgPool2d`.
    AvgPool2d(AvgPool2d),
    /// Mean over all pixels of each channel, `torch.nn.AdaptiveAvgPool2d(1)`.
    GlobalAvgPool2d(Unnamed),
    /// `[channels, height, width]` to one vector in that order, `torch.nn.Flatten`.
    Flatten(Unnamed),
    /// Fully connected layer, `torch.nn.Linear`.
    Linear(Linear),
    /// Random zeros in training, identity otherwise, `torch.nn.Dropout`.
    Dropout(Dropout),
    /// Layers in order under one name.
    Sequential(Sequential),
    /// `body(x) + shortcut(x)`; an empty shortcut is the identity.
    Residual(Residual),
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
}

/// Starting distribution of a convolution's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// PyTorch's default: uniform in ±1/sqrt(fan-in), for weights and biases.
    #[default]
    Default,
    /// Normal with variance 2/fan-out (He et al. 2015), as torchvision's ResNets.
    KaimingNormalFanOut,
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
}

/// Settings of a dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Probability that a value becomes zero, in `[0, 1)`.
    pub p: f64,
}

/// Layers under one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequential {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layers, in order.
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

impl Layer {
    /// The layer's own name, when it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Layer::Conv2d(l) => l.name.as_deref(),
            Layer::BatchNorm2d(l) => l.name.as_deref(),
            Layer::Relu(l) | Layer::GlobalAvgPool2d(l) | Layer::Flatten(l) => l.name.as_deref(),
            Layer::MaxPool2d(l) => l.name.as_deref(),
            Layer::AvgPool2d(l) => l.name.as_deref(),
            Layer::Linear(l) => l.name.as_deref(),
            Layer::Dropout(l) => l.name.as_deref(),
            Layer::Sequential(l) => l.name.as_deref(),
            Layer::Residual(l) => l.name.as_deref(),
        }
    }

    /// The op as it is written in a spec, such as `conv2d`.
    pub fn op(&self) -> &'static str {
        match self {
            Layer::Conv2d(_) => "conv2d",
            Layer::BatchNorm2d(_) => "batch_norm2d",
            Layer::Relu(_) => "relu",
            Layer::MaxPool2d(_) => "max_pool2d",
            Layer::AvgPool2d(_) => "avg_pool2d",
            Layer::GlobalAvgPool2d(_) => "global_avg_pool2d",
            Layer::Flatten(_) => "flatten",
            Layer::Linear(_) => "linear",
            Layer::Dropout(_) => "dropout",
            Layer::Sequential(_) => "sequential",
            Layer::Residual(_) => "residual",
        }
    }
}

/// Why a spec could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The schema version is not one this build knows.
    #[error(
        "model spec version {found} is not known to this build, which reads version {expected}"
    )]
    Version {
        /// Version in the spec.
        found: u64,
        /// Version this build reads.
        expected: u32,
    },
    /// A key is missing, unknown or of the wrong type.
    #[error("invalid model spec")]
    Invalid(#[source] serde_json::Error),
}

impl ModelSpec {
    /// Reads a spec from JSON, as a full model holds it.
    ///
    /// # Errors
    /// [`SpecError::Version`] for another schema version, [`SpecError::Invalid`] for an unknown or missing
    /// key or a value of the wrong type. Whether the layers fit each other is checked by
    /// [`Network::new`](crate::Network::new).
    pub fn from_json(value: &serde_json::Value) -> Result<Self, SpecError> {
        if let Some(found) = value.get("version").and_then(serde_json::Value::as_u64)
            && found != u64::from(SPEC_VERSION)
        {
            return Err(SpecError::Version {
                found,
                expected: SPEC_VERSION,
            });
        }
        serde_json::from_value(value.clone()).map_err(SpecError::Invalid)
    }

    /// The spec as JSON, as a full model holds it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a spec has string keys and finite numbers")
    }
}
