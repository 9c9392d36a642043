//! Activation functions other than the rectifier, element by element.

use crate::Context;
use crate::disjoint::Disjoint;
use crate::relu::ELEMENT_CHUNK;

/// A function of one number, as PyTorch defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

/// `e^x` with an error of about a unit in the last place: Cephes' `expf`. Saturates beyond -87 and 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_2e-4;
    p = r.mul_add(p, 1.398_199_9e-3);
    p = r.mul_add(p, 8.333_452e-3);
    p = r.mul_add(p, 4.166_579_6e-2);
    p = r.mul_add(p, 1.666_666_5e-1);
    p = r.mul_add(p, 0.5);
    let p = (r * r).mul_add(p, r) + 1.0;
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

/// The error function with an error of about a unit in the last place (N. Juffa's two polynomials).
#[inline(always)]
fn erf(x: f32) -> f32 {
    // From 4 on it is 1 in f32.
    let t = if x.abs() > 4.0 { 4.0 } else { x.abs() };
    let s = x * x;
    let mut far = t.mul_add(-1.728_534_7e-5, 3.831_972e-4);
    far = far.mul_add(t * t, t.mul_add(-3.883_964_4e-3, 2.425_462_2e-2));
    far = far.mul_add(t, -1.067_778_8e-1);
    far = far.mul_add(t, -6.348_469e-1);
    far = far.mul_add(t, -1.287_175_1e-1);
    far = far.mul_add(t, -t);
    let far = (1.0 - exp(far)).copysign(x);
    let mut near = -5.967_617e-4;
    near = s.mul_add(near, 4.991_194_2e-3);
    near = s.mul_add(near, -2.676_813_5e-2);
    near = s.mul_add(near, 1.128_199_25e-1);
    near = s.mul_add(near, -3.761_253_4e-1);
    near = s.mul_add(near, 1.283_791_7e-1);
    let near = near.mul_add(x, x);
    if t > 0.927_734_4 { far } else { near }
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    x.clamp(0.0, 6.0)
}

#[inline(always)]
fn relu6_slope(x: f32) -> f32 {
    if x > 0.0 && x < 6.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn sigmoid_slope(x: f32) -> f32 {
    let y = sigmoid(x);
    y * (1.0 - y)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let y = sigmoid(x);
    y * x.mul_add(1.0 - y, 1.0)
}

#[inline(always)]
fn hardsigmoid(x: f32) -> f32 {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

#[inline(always)]
fn hardsigmoid_slope(x: f32) -> f32 {
    if x > -3.0 && x < 3.0 { 1.0 / 6.0 } else { 0.0 }
}

#[inline(always)]
fn hardswish(x: f32) -> f32 {
    x * (x + 3.0).clamp(0.0, 6.0) / 6.0
}

#[inline(always)]
fn hardswish_slope(x: f32) -> f32 {
    if x <= -3.0 {
        0.0
    } else if x < 3.0 {
        x / 3.0 + 0.5
    } else {
        1.0
    }
}

/// Distribution function of the standard normal.
#[inline(always)]
fn normal(x: f32) -> f32 {
    erf(x * std::f32::consts::FRAC_1_SQRT_2).mul_add(0.5, 0.5)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * normal(x)
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    /// 1 / sqrt(2 pi)
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let density = DENSITY_AT_0 * exp(-0.5 * x * x);
    x.mul_add(density, normal(x))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 4099th float of both signs in the range where the functions change.
    fn floats() -> impl Iterator<Item = f32> {
        (0..(100f32.to_bits()))
            .step_by(4099)
            .map(f32::from_bits)
            .flat_map(|v| [v, -v])
    }

    #[test]
    fn exp_and_erf_are_good_to_the_last_places() {
        let (mut worst_exp, mut worst_erf) = (0.0f64, 0.0f64);
        for x in floats() {
            if x.abs() < 87.0 {
                let exact = libm::exp(f64::from(x));
                worst_exp = worst_exp.max((f64::from(exp(x)) - exact).abs() / exact);
            }
            let exact = libm::erf(f64::from(x));
            let error = (f64::from(erf(x)) - exact).abs() / exact.abs().max(1e-30);
            worst_erf = worst_erf.max(error);
        }
        assert!(worst_exp < 2e-7, "exp: {worst_exp:e}");
        assert!(worst_erf < 2e-7, "erf: {worst_erf:e}");
        assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
    }

    #[test]
    fn slopes_are_those_of_the_functions() {
        type Function = fn(f32) -> f32;
        let pairs: [(Function, Function); 6] = [
            (relu6, relu6_slope),
            (sigmoid, sigmoid_slope),
            (silu, silu_slope),
            (hardsigmoid, hardsigmoid_slope),
            (hardswish, hardswish_slope),
            (gelu, gelu_slope),
        ];
        for (value, slope) in pairs {
            for step in -80..80 {
                // Off the kinks at 0, 3 and 6.
                let x = step as f32 / 8.0 + 0.05;
                let h = 1.0 / 128.0;
                let difference = (value(x + h) - value(x - h)) / (2.0 * h);
                assert!((difference - slope(x)).abs() < 1e-4, "{x}: {difference}");
            }
        }
    }
}
