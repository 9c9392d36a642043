//! Short ways to write the layers that the zoo's networks are made of.

use crate::spec::{
    BatchNorm2d, Conv2d, Gate, Init, Layer, LayerNorm2d, Linear, Pair, Pool2d, Residual,
    Sequential, Unnamed,
};

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

pub(super) fn conv(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> Conv2d {
    Conv2d {
        name: named(name),
        out,
        kernel: kernel.into(),
        stride: stride.into(),
        padding: padding.into(),
        dilation: 1.into(),
        groups: 1,
        bias: true,
        init: Init::Default,
        zero_bias: false,
        standardize: None,
    }
}

/// A convolution that a batch norm follows: no bias, and weights drawn as torchvision's.
pub(super) fn conv_no_bias(
    name: &str,
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Layer {
    Layer::Conv2d(Conv2d {
        bias: false,
        init: Init::KaimingNormalFanOut,
        ..conv(name, out, kernel, stride, padding)
    })
}

pub(super) fn batch_norm(name: &str) -> Layer {
    Layer::BatchNorm2d(BatchNorm2d {
        name: named(name),
        eps: 1e-5,
        momentum: 0.1,
        affine: true,
    })
}

pub(super) fn layer_norm(name: &str) -> Layer {
    Layer::LayerNorm2d(LayerNorm2d {
        name: named(name),
        eps: 1e-6,
        affine: true,
    })
}

pub(super) fn relu() -> Layer {
    Layer::Relu(Unnamed::default())
}

pub(super) fn max_pool(kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::MaxPool2d(Pool2d {
        name: None,
        kernel: kernel.into(),
        stride: (stride != kernel).then_some(Pair::from(stride)),
        padding: padding.into(),
        dilation: 1.into(),
        ceil_mode: false,
    })
}

pub(super) fn global_avg_pool() -> Layer {
    Layer::GlobalAvgPool2d(Unnamed::default())
}

pub(super) fn flatten() -> Layer {
    Layer::Flatten(Unnamed::default())
}

pub(super) fn linear(name: &str, out: usize) -> Layer {
    Layer::Linear(linear_from(name, out, Init::Default, false))
}

/// A linear layer with weights drawn from `init` and, when `zero_bias`, without PyTorch's random bias.
pub(super) fn linear_from(name: &str, out: usize, init: Init, zero_bias: bool) -> Linear {
    Linear {
        name: named(name),
        out,
        bias: true,
        per_pixel: false,
        init,
        zero_bias,
    }
}

/// The last layer of torchvision's mobile networks and VGGs: normal weights of deviation 0.01, no bias at the start.
pub(super) fn head(name: &str, out: usize) -> Layer {
    Layer::Linear(linear_from(name, out, Init::Normal(0.01), true))
}

pub(super) fn dropout(p: f64) -> Layer {
    Layer::Dropout(crate::spec::Dropout { name: None, p })
}

pub(super) fn stochastic_depth(p: f64) -> Layer {
    Layer::StochasticDepth(crate::spec::Dropout { name: None, p })
}

pub(super) fn block(name: &str, layers: Vec<Layer>) -> Layer {
    Layer::Sequential(Sequential {
        name: named(name),
        layers,
    })
}

/// `body(x) + x`.
pub(super) fn residual(name: &str, body: Vec<Layer>) -> Layer {
    Layer::Residual(Residual {
        name: named(name),
        body,
        shortcut: vec![],
    })
}

/// torchvision's `Conv2dNormActivation`: convolution (`0`), batch norm (`1`) and a function.
pub(super) struct ConvNorm {
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
    /// The batch norm's eps and momentum.
    pub norm: (f64, f64),
    pub function: Option<Layer>,
}

impl ConvNorm {
    pub(super) fn named(self, name: &str) -> Layer {
        let mut layers = vec![
            Layer::Conv2d(Conv2d {
                bias: false,
                init: Init::KaimingNormalFanOut,
                groups: self.groups,
                ..conv(
                    "0",
                    self.out,
                    self.kernel,
                    self.stride,
                    (self.kernel - 1) / 2,
                )
            }),
            Layer::BatchNorm2d(BatchNorm2d {
                name: named("1"),
                eps: self.norm.0,
                momentum: self.norm.1,
                affine: true,
            }),
        ];
        layers.extend(self.function);
        block(name, layers)
    }
}

/// Squeeze-and-excitation (Hu et al., arXiv 1709.01507) as torchvision names it: `fc1`, a function, `fc2`, a scale.
pub(super) fn squeeze_excite(
    name: &str,
    channels: usize,
    squeeze: usize,
    function: Layer,
    scale: Layer,
) -> Layer {
    let fc = |name: &str, out: usize| {
        Layer::Conv2d(Conv2d {
            init: Init::KaimingNormalFanOut,
            zero_bias: true,
            ..conv(name, out, 1, 1, 0)
        })
    };
    Layer::Gate(Gate {
        name: named(name),
        body: vec![
            global_avg_pool(),
            fc("fc1", squeeze),
            function,
            fc("fc2", channels),
            scale,
        ],
    })
}

/// `v` rounded to a multiple of 8, but not down by more than a tenth (torchvision's `_make_divisible`).
pub(super) fn divisible_by_8(v: f64) -> usize {
    let rounded = (((v + 4.0) as usize) / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * v {
        rounded + 8
    } else {
        rounded
    }
}
