//! Activation functions and their slopes, as functions of their input.

use super::elementary::{erf, exp, exp_m1, ln_1p_of_unit, tanh};

#[inline(always)]
pub(super) fn relu6(x: f32) -> f32 {
    x.clamp(0.0, 6.0)
}

#[inline(always)]
pub(super) fn relu6_slope(x: f32) -> f32 {
    if x > 0.0 && x < 6.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub(super) fn sigmoid_slope(x: f32) -> f32 {
    let y = sigmoid(x);
    y * (1.0 - y)
}

#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
pub(super) fn silu_slope(x: f32) -> f32 {
    let y = sigmoid(x);
    y * x.mul_add(1.0 - y, 1.0)
}

#[inline(always)]
pub(super) fn hardsigmoid(x: f32) -> f32 {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

#[inline(always)]
pub(super) fn hardsigmoid_slope(x: f32) -> f32 {
    if x > -3.0 && x < 3.0 { 1.0 / 6.0 } else { 0.0 }
}

#[inline(always)]
pub(super) fn hardswish(x: f32) -> f32 {
    x * (x + 3.0).clamp(0.0, 6.0) / 6.0
}

#[inline(always)]
pub(super) fn hardswish_slope(x: f32) -> f32 {
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
pub(super) fn gelu(x: f32) -> f32 {
    x * normal(x)
}

#[inline(always)]
pub(super) fn gelu_slope(x: f32) -> f32 {
    /// 1 / sqrt(2 pi)
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let density = DENSITY_AT_0 * exp(-0.5 * x * x);
    x.mul_add(density, normal(x))
}

#[inline(always)]
pub(super) fn leaky_relu(x: f32, slope: f32) -> f32 {
    if x > 0.0 { x } else { x * slope }
}

#[inline(always)]
pub(super) fn leaky_relu_slope(x: f32, slope: f32) -> f32 {
    if x > 0.0 { 1.0 } else { slope }
}

/// `positive * x` above 0, `negative * (e^(inner * x) - 1)` below.
#[inline(always)]
pub(super) fn elu(x: f32, positive: f32, negative: f32, inner: f32) -> f32 {
    if x > 0.0 {
        positive * x
    } else {
        negative * exp_m1(inner * x)
    }
}

#[inline(always)]
pub(super) fn elu_slope(x: f32, positive: f32, negative: f32, inner: f32) -> f32 {
    if x > 0.0 {
        positive
    } else {
        negative * inner * exp(inner * x)
    }
}

#[inline(always)]
pub(super) fn tanh_slope(x: f32) -> f32 {
    let y = tanh(x);
    (-y).mul_add(y, 1.0)
}

/// `ln(1 + e^(beta * x)) / beta`.
#[inline(always)]
pub(super) fn softplus(x: f32, beta: f32) -> f32 {
    let x = beta * x;
    let positive = if x < 0.0 { 0.0 } else { x };
    (positive + ln_1p_of_unit(exp(-x.abs()))) / beta
}

#[inline(always)]
pub(super) fn softplus_slope(x: f32, beta: f32) -> f32 {
    sigmoid(beta * x)
}

/// `tanh(softplus(x))` is `n / (n + 2)` with `n = e^x (e^x + 2)`: gives `e^x` and `n`. From 20 on it is 1 in f32.
#[inline(always)]
fn mish_parts(x: f32) -> (f32, f32) {
    let e = exp(if x > 20.0 { 20.0 } else { x });
    (e, e * (e + 2.0))
}

#[inline(always)]
pub(super) fn mish(x: f32) -> f32 {
    let (_, n) = mish_parts(x);
    x * (n / (n + 2.0))
}

#[inline(always)]
pub(super) fn mish_slope(x: f32) -> f32 {
    let (e, n) = mish_parts(x);
    let d = n + 2.0;
    x.mul_add(4.0 * e * (e + 1.0) / (d * d), n / d)
}

/// sqrt(8 / pi): twice the factor in [`gelu_tanh`], for `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

/// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    // Beyond 10 the sigmoid is 0 or 1 in f32.
    let u = x.clamp(-10.0, 10.0);
    x * sigmoid(TWICE_SQRT_2_OVER_PI * (CUBIC * u * u).mul_add(u, u))
}

#[inline(always)]
pub(super) fn gelu_tanh_slope(x: f32) -> f32 {
    let u = x.clamp(-10.0, 10.0);
    let y = sigmoid(TWICE_SQRT_2_OVER_PI * (CUBIC * u * u).mul_add(u, u));
    let inner = TWICE_SQRT_2_OVER_PI * (3.0 * CUBIC * u).mul_add(u, 1.0);
    y * (x * inner).mul_add(1.0 - y, 1.0)
}

/// `x * sigmoid(1.702 x)`.
#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

#[inline(always)]
pub(super) fn quick_gelu_slope(x: f32) -> f32 {
    let y = sigmoid(1.702 * x);
    y * (1.702 * x).mul_add(1.0 - y, 1.0)
}

#[inline(always)]
pub(super) fn clip(x: f32, min: f32, max: f32) -> f32 {
    if x < min {
        min
    } else if x > max {
        max
    } else {
        x
    }
}

#[inline(always)]
pub(super) fn clip_slope(x: f32, min: f32, max: f32) -> f32 {
    if x <= min || x >= max { 0.0 } else { 1.0 }
}

#[inline(always)]
pub(super) fn abs_slope(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

#[inline(always)]
pub(super) fn sqrt_slope(x: f32) -> f32 {
    0.5 / x.sqrt()
}

#[inline(always)]
pub(super) fn pow_slope(x: f32, exponent: f32) -> f32 {
    if exponent == 0.0 {
        0.0
    } else {
        exponent * libm::powf(x, exponent - 1.0)
    }
}

#[inline(always)]
pub(super) fn erf_slope(x: f32) -> f32 {
    std::f32::consts::FRAC_2_SQRT_PI * exp(-x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(f32) -> f32;

    #[test]
    fn slopes_are_those_of_the_functions() {
        let pairs: [(Function, Function); 16] = [
            (relu6, relu6_slope),
            (sigmoid, sigmoid_slope),
            (silu, silu_slope),
            (hardsigmoid, hardsigmoid_slope),
            (hardswish, hardswish_slope),
            (gelu, gelu_slope),
            (|x| leaky_relu(x, 0.2), |x| leaky_relu_slope(x, 0.2)),
            (|x| elu(x, 1.1, 1.7, 0.5), |x| elu_slope(x, 1.1, 1.7, 0.5)),
            (tanh, tanh_slope),
            (|x| softplus(x, 1.5), |x| softplus_slope(x, 1.5)),
            (mish, mish_slope),
            (gelu_tanh, gelu_tanh_slope),
            (quick_gelu, quick_gelu_slope),
            (|x| clip(x, -1.0, 2.5), |x| clip_slope(x, -1.0, 2.5)),
            (f32::abs, abs_slope),
            (erf, erf_slope),
        ];
        for (number, (value, slope)) in pairs.into_iter().enumerate() {
            for step in -80..80 {
                // Off the kinks at whole numbers and halves.
                let x = step as f32 / 8.0 + 0.05;
                let h = 1.0 / 128.0;
                let difference = (value(x + h) - value(x - h)) / (2.0 * h);
                let error = (difference - slope(x)).abs();
                assert!(error < 1e-4, "function {number} at {x}: {difference}");
            }
        }
    }

    #[test]
    fn nothing_overflows_far_out() {
        let functions: [Function; 7] = [
            |x| softplus(x, 1.0),
            mish,
            mish_slope,
            gelu_tanh,
            gelu_tanh_slope,
            quick_gelu,
            tanh,
        ];
        for (number, function) in functions.into_iter().enumerate() {
            for x in [-1e30, -200.0, 200.0, 1e30] {
                assert!(function(x).is_finite(), "function {number} at {x}");
            }
            assert!(function(f32::NAN).is_nan(), "function {number}");
        }
        assert_eq!(mish(50.0), 50.0);
        assert_eq!(softplus(50.0, 1.0), 50.0);
    }
}
