//! Values that the settings of several layers are made of.

use serde::{Deserialize, Serialize};

/// A layer without parameters or settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unnamed {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
    pub(crate) fn is_default(&self) -> bool {
        *self == Init::Default
    }
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
    pub(crate) fn one() -> Self {
        Pair([1, 1])
    }
    pub(crate) fn is_one(&self) -> bool {
        self.0 == [1, 1]
    }
    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0, 0]
    }
}

pub(crate) fn one() -> usize {
    1
}
pub(crate) fn is_one(v: &usize) -> bool {
    *v == 1
}
pub(crate) fn yes() -> bool {
    true
}
pub(crate) fn is_yes(v: &bool) -> bool {
    *v
}
pub(crate) fn default_eps() -> f64 {
    1e-5
}
pub(crate) fn is_default_eps(v: &f64) -> bool {
    *v == default_eps()
}
pub(crate) fn default_momentum() -> f64 {
    0.1
}
pub(crate) fn is_default_momentum(v: &f64) -> bool {
    *v == default_momentum()
}
pub(crate) fn is_no(v: &bool) -> bool {
    !*v
}
pub(crate) fn is_nought(v: &usize) -> bool {
    *v == 0
}
pub(crate) fn one_f64() -> f64 {
    1.0
}
pub(crate) fn is_one_f64(v: &f64) -> bool {
    *v == 1.0
}
pub(crate) fn is_zero_f64(v: &f64) -> bool {
    *v == 0.0
}
pub(crate) fn is_default<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}
