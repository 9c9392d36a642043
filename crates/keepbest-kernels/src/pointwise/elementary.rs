//! Elementary functions of `f32` in plain arithmetic, which LLVM turns into vectors: the same bits on every processor.

/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `x` as `n ln 2 + r`: `e^r - 1`, and `n` in the low bits of a float. Cephes' `expf`.
#[inline(always)]
fn reduced(x: f32) -> (f32, f32) {
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
    ((r * r).mul_add(p, r), shifted)
}

/// 2 to the power that stands in the low bits of `shifted`, from -126 to 127.
#[inline(always)]
fn power(shifted: f32) -> f32 {
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    f32::from_bits(exponent << 23)
}

/// `e^x` with an error of about a unit in the last place. Saturates beyond -87 and 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (p, shifted) = reduced(x.clamp(-87.0, 88.0));
    (p + 1.0) * power(shifted)
}

/// `e^x` with an error of about a unit in the last place, from 0 to infinity.
#[inline(always)]
pub(crate) fn exp_unbounded(x: f32) -> f32 {
    let (p, shifted) = reduced(x.clamp(-104.0, 89.0));
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    // The power of two in two factors: one alone may be no normal number.
    let half = n >> 1;
    let factor = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    (p + 1.0) * factor(half) * factor(n.wrapping_sub(half))
}

/// `e^x - 1`, precise near 0 too. Saturates beyond -87 and 88.
#[inline(always)]
pub(super) fn exp_m1(x: f32) -> f32 {
    let (p, shifted) = reduced(x.clamp(-87.0, 88.0));
    let scale = power(shifted);
    scale.mul_add(p, scale - 1.0)
}

/// `ln(1 + x)` for `x` within 0 and 1: the series of `2 artanh(x / (2 + x))`.
#[inline(always)]
pub(super) fn ln_1p_of_unit(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let square = s * s;
    let mut p = 1.0 / 15.0;
    p = square.mul_add(p, 1.0 / 13.0);
    p = square.mul_add(p, 1.0 / 11.0);
    p = square.mul_add(p, 1.0 / 9.0);
    p = square.mul_add(p, 1.0 / 7.0);
    p = square.mul_add(p, 1.0 / 5.0);
    p = square.mul_add(p, 1.0 / 3.0);
    let twice = s + s;
    (twice * square).mul_add(p, twice)
}

/// The hyperbolic tangent with an error of about two units in the last place: Cephes' `tanhf`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let far = (1.0 - 2.0 / (exp(size + size) + 1.0)).copysign(x);
    let s = x * x;
    let mut near = -5.704_988_7e-3;
    near = s.mul_add(near, 2.063_909e-2);
    near = s.mul_add(near, -5.373_971_5e-2);
    near = s.mul_add(near, 1.333_144_2e-1);
    near = s.mul_add(near, -3.333_328e-1);
    let near = (near * s).mul_add(x, x);
    if size > 0.625 { far } else { near }
}

/// The error function with an error of about a unit in the last place (N. Juffa's two polynomials).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
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

    /// The largest relative error of `found` on the floats that `take` lets through.
    fn worst(found: fn(f32) -> f32, exact: fn(f64) -> f64, take: fn(f32) -> bool) -> f64 {
        let error = |x: f32| {
            let exact = exact(f64::from(x));
            (f64::from(found(x)) - exact).abs() / exact.abs().max(1e-30)
        };
        floats().filter(|x| take(*x)).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_good_to_the_last_places() {
        let within_87 = |x: f32| x.abs() < 87.0;
        let all = |_: f32| true;
        for (name, error) in [
            ("exp", worst(exp, libm::exp, within_87)),
            (
                "exp_unbounded",
                worst(exp_unbounded, libm::exp, |x| x > -87.0 && x < 88.7),
            ),
            ("exp_m1", worst(exp_m1, libm::expm1, within_87)),
            (
                "ln_1p_of_unit",
                worst(ln_1p_of_unit, libm::log1p, |x| (0.0..=1.0).contains(&x)),
            ),
            ("tanh", worst(tanh, libm::tanh, all)),
            ("erf", worst(erf, libm::erf, all)),
        ] {
            assert!(error < 2e-7, "{name}: {error:e}");
        }
        for function in [exp, exp_unbounded, exp_m1, ln_1p_of_unit, tanh, erf] {
            assert!(function(f32::NAN).is_nan());
        }
        assert_eq!(exp_unbounded(89.0), f32::INFINITY);
        assert_eq!(exp_unbounded(-200.0), 0.0);
        let small = f64::from(exp_unbounded(-100.0)) / libm::exp(-100.0);
        assert!((small - 1.0).abs() < 0.05, "{small}");
    }
}
