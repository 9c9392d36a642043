//! Activation functions other than the rectifier, element by element.

mod curves;
mod elementary;

use crate::Context;
use crate::disjoint::Disjoint;
use crate::relu::ELEMENT_CHUNK;
use curves::*;
pub(crate) use elementary::exp_unbounded;
use elementary::{erf, tanh};

/// A function of one number, as PyTorch defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// `min(max(x, 0), 6)`, `torch.nn.ReLU6`.
    Relu6,
    /// `1 / (1 + e^-x)`, `torch.nn.Sigmoid`.
    Sigmoid,
    /// `x * sigmoid(x)`, `torch.nn.SiLU` (Elfwing et al., arXiv 1702.03118).
    Silu,
    /// `min(max(x + 3, 0), 6) / 6`, `torch.nn.Hardsigmoid`.
    Hardsigmoid,
    /// `x * hardsigmoid(x)`, `torch.nn.Hardswish` (Howard et al., arXiv 1905.02244).
    Hardswish,
    /// `x * P(X <= x)` for a standard normal X, `torch.nn.GELU()` (Hendrycks and Gimpel, arXiv 1606.08415).
    Gelu,
    /// `x` times the normal distribution function by a hyperbolic tangent, `torch.nn.GELU(approximate="tanh")`.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x` above 0, `slope * x` below: `torch.nn.LeakyReLU`.
    LeakyRelu {
        /// Factor below 0.
        slope: f32,
    },
    /// `positive * x` above 0, `negative * (e^(inner * x) - 1)` below: `torch.nn.ELU`, `CELU` and `SELU`.
    Elu {
        /// Factor above 0.
        positive: f32,
        /// Factor below 0.
        negative: f32,
        /// Factor of the exponent.
        inner: f32,
    },
    /// Hyperbolic tangent, `torch.nn.Tanh`.
    Tanh,
    /// `ln(1 + e^(beta * x)) / beta`, `torch.nn.Softplus`.
    Softplus {
        /// Steepness.
        beta: f32,
    },
    /// `x * tanh(softplus(x))`, `torch.nn.Mish` (Misra, arXiv 1908.08681).
    Mish,
    /// `min(max(x, min), max)`, `torch.nn.Hardtanh`: the gradient passes strictly between the two.
    Clip {
        /// The least value.
        min: f32,
        /// The largest value.
        max: f32,
    },
    /// Absolute value; its slope at 0 is 0, as PyTorch's.
    Abs,
    /// Square root.
    Sqrt,
    /// `x * x`.
    Square,
    /// `x` to a power.
    Pow {
        /// The power.
        exponent: f32,
    },
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// The error function.
    Erf,
    /// `x * scale + shift`.
    Affine {
        /// Factor.
        scale: f32,
        /// What is added.
        shift: f32,
    },
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], value: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = value(x);
    }
}

#[inline(always)]
fn scaled(x: &[f32], dy: &[f32], dx: &mut [f32], slope: impl Fn(f32) -> f32) {
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = dy * slope(x);
    }
}

multiversion! {
    fn forward_chunk(kind: Pointwise, x: &[f32], y: &mut [f32]) {
        match kind {
            Pointwise::Relu6 => map(x, y, relu6),
            Pointwise::Sigmoid => map(x, y, sigmoid),
            Pointwise::Silu => map(x, y, silu),
            Pointwise::Hardsigmoid => map(x, y, hardsigmoid),
            Pointwise::Hardswish => map(x, y, hardswish),
            Pointwise::Gelu => map(x, y, gelu),
            Pointwise::GeluTanh => map(x, y, gelu_tanh),
            Pointwise::QuickGelu => map(x, y, quick_gelu),
            Pointwise::LeakyRelu { slope } => map(x, y, |x| leaky_relu(x, slope)),
            Pointwise::Elu { positive, negative, inner } => {
                map(x, y, |x| elu(x, positive, negative, inner));
            }
            Pointwise::Tanh => map(x, y, tanh),
            Pointwise::Softplus { beta } => map(x, y, |x| softplus(x, beta)),
            Pointwise::Mish => map(x, y, mish),
            Pointwise::Clip { min, max } => map(x, y, |x| clip(x, min, max)),
            Pointwise::Abs => map(x, y, f32::abs),
            Pointwise::Sqrt => map(x, y, f32::sqrt),
            Pointwise::Square => map(x, y, |x| x * x),
            Pointwise::Pow { exponent } => map(x, y, |x| libm::powf(x, exponent)),
            Pointwise::Exp => map(x, y, exp_unbounded),
            Pointwise::Log => map(x, y, libm::logf),
            Pointwise::Erf => map(x, y, erf),
            Pointwise::Affine { scale, shift } => map(x, y, |x| x.mul_add(scale, shift)),
        }
    }
}

multiversion! {
    fn backward_chunk(kind: Pointwise, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        match kind {
            Pointwise::Relu6 => scaled(x, dy, dx, relu6_slope),
            Pointwise::Sigmoid => scaled(x, dy, dx, sigmoid_slope),
            Pointwise::Silu => scaled(x, dy, dx, silu_slope),
            Pointwise::Hardsigmoid => scaled(x, dy, dx, hardsigmoid_slope),
            Pointwise::Hardswish => scaled(x, dy, dx, hardswish_slope),
            Pointwise::Gelu => scaled(x, dy, dx, gelu_slope),
            Pointwise::GeluTanh => scaled(x, dy, dx, gelu_tanh_slope),
            Pointwise::QuickGelu => scaled(x, dy, dx, quick_gelu_slope),
            Pointwise::LeakyRelu { slope } => scaled(x, dy, dx, |x| leaky_relu_slope(x, slope)),
            Pointwise::Elu { positive, negative, inner } => {
                scaled(x, dy, dx, |x| elu_slope(x, positive, negative, inner));
            }
            Pointwise::Tanh => scaled(x, dy, dx, tanh_slope),
            Pointwise::Softplus { beta } => scaled(x, dy, dx, |x| softplus_slope(x, beta)),
            Pointwise::Mish => scaled(x, dy, dx, mish_slope),
            Pointwise::Clip { min, max } => scaled(x, dy, dx, |x| clip_slope(x, min, max)),
            Pointwise::Abs => scaled(x, dy, dx, abs_slope),
            Pointwise::Sqrt => scaled(x, dy, dx, sqrt_slope),
            Pointwise::Square => scaled(x, dy, dx, |x| x + x),
            Pointwise::Pow { exponent } => scaled(x, dy, dx, |x| pow_slope(x, exponent)),
            Pointwise::Exp => scaled(x, dy, dx, exp_unbounded),
            Pointwise::Log => scaled(x, dy, dx, |x| 1.0 / x),
            Pointwise::Erf => scaled(x, dy, dx, erf_slope),
            Pointwise::Affine { scale, .. } => scaled(x, dy, dx, |_| scale),
        }
    }
}

/// `y = f(x)`, element by element over slices of one length.
///
/// # Panics
///
/// When the lengths differ.
pub fn forward(ctx: &Context, kind: Pointwise, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "pointwise: lengths differ");
    let out = Disjoint::new(y);
    ctx.for_ranges(x.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let y = unsafe { out.part(range.start, range.len()) };
        forward_chunk(ctx.isa(), kind, &x[range], y);
    });
}

/// `dx = dy * f'(x)`; `x` is the input of [`forward`].
///
/// # Panics
///
/// When the lengths differ.
pub fn backward(ctx: &Context, kind: Pointwise, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(
        x.len() == dx.len() && dy.len() == dx.len(),
        "pointwise: lengths differ"
    );
    let out = Disjoint::new(dx);
    ctx.for_ranges(x.len(), ELEMENT_CHUNK, &|range| {
        // SAFETY: the ranges are disjoint.
        let dx = unsafe { out.part(range.start, range.len()) };
        backward_chunk(ctx.isa(), kind, &x[range.clone()], &dy[range], dx);
    });
}
