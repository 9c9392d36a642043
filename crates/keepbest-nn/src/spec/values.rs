//! Values that the settings of several layers are made of.

use keepbest_kernels::ActShape;
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

/// Factors on rows and columns; written `2` when both are equal and `[2, 1.5]` otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "FactorsText", into = "FactorsText")]
pub struct Factors(pub [f64; 2]);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "factors are a number or [rows, columns]")]
enum FactorsText {
    Both(f64),
    Each([f64; 2]),
}

impl From<FactorsText> for Factors {
    fn from(text: FactorsText) -> Self {
        match text {
            FactorsText::Both(v) => Factors([v, v]),
            FactorsText::Each(v) => Factors(v),
        }
    }
}

impl From<Factors> for FactorsText {
    fn from(Factors([a, b]): Factors) -> Self {
        if a == b {
            FactorsText::Both(a)
        } else {
            FactorsText::Each([a, b])
        }
    }
}

/// Rows and columns around an image; written `1`, `[1, 0]` for rows and columns, `[0, 1, 0, 1]` for top, bottom, left and right,
/// or `"same"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PaddingText", into = "PaddingText")]
pub enum Padding {
    /// Rows above and below, columns on the left and right.
    Sides([usize; 4]),
    /// As much as makes the output the input's size divided by the step, rounded up, the odd one below and on the right: TensorFlow's
    /// `SAME`, ONNX's `SAME_UPPER`.
    Same,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "padding is a number, [rows, columns], [top, bottom, left, right] or \"same\""
)]
enum PaddingText {
    All(usize),
    Each([usize; 2]),
    Sides([usize; 4]),
    Word(PaddingWord),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaddingWord {
    Same,
}

impl From<PaddingText> for Padding {
    fn from(text: PaddingText) -> Self {
        match text {
            PaddingText::All(v) => v.into(),
            PaddingText::Each(v) => Pair(v).into(),
            PaddingText::Sides(sides) => Padding::Sides(sides),
            PaddingText::Word(PaddingWord::Same) => Padding::Same,
        }
    }
}

impl From<Padding> for PaddingText {
    fn from(padding: Padding) -> Self {
        match padding {
            Padding::Sides([top, bottom, left, right]) if top == bottom && left == right => {
                match top == left {
                    true => PaddingText::All(top),
                    false => PaddingText::Each([top, left]),
                }
            }
            Padding::Sides(sides) => PaddingText::Sides(sides),
            Padding::Same => PaddingText::Word(PaddingWord::Same),
        }
    }
}

impl From<usize> for Padding {
    fn from(v: usize) -> Self {
        Padding::Sides([v; 4])
    }
}

impl From<Pair> for Padding {
    fn from(Pair([rows, columns]): Pair) -> Self {
        Padding::Sides([rows, rows, columns, columns])
    }
}

impl Default for Padding {
    fn default() -> Self {
        0.into()
    }
}

impl Padding {
    pub(crate) fn is_zero(&self) -> bool {
        *self == Padding::default()
    }

    /// The padding of `input` under windows.
    pub(crate) fn around(
        &self,
        input: ActShape,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> keepbest_kernels::Padding {
        let mut padding = keepbest_kernels::Padding::NONE;
        for (axis, size) in [input.h, input.w].into_iter().enumerate() {
            let (before, after) = match self {
                Padding::Sides(sides) => (sides[2 * axis], sides[2 * axis + 1]),
                Padding::Same => {
                    // A size of 0 is refused by whoever computes the output.
                    let stride = stride[axis].max(1);
                    let taps = kernel[axis].saturating_sub(1);
                    let window = dilation[axis].saturating_mul(taps).saturating_add(1);
                    let covered = (size.div_ceil(stride) - 1) * stride;
                    let all = covered.saturating_add(window).saturating_sub(size);
                    (all / 2, all.div_ceil(2))
                }
            };
            (padding.before[axis], padding.after[axis]) = (before, after);
        }
        padding
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
