//! Weights whose rows have mean 0 and variance 1 (Qiao et al., arXiv 1903.10520), with a gain each (Brock et al., arXiv
//! 2101.08692).

use crate::Context;
use crate::chunks::check_len;
use crate::disjoint::Disjoint;

/// Rows a task takes.
const ROWS: usize = 8;

/// What the rows of weights are brought to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardize {
    /// Added to the variance before its square root.
    pub eps: f64,
    /// Factor of all weights.
    pub scale: f64,
}

impl Standardize {
    /// Mean and `1 / sqrt(variance + eps)` of a row.
    fn moments(&self, row: &[f32]) -> (f64, f64) {
        let count = row.len() as f64;
        let mean = row.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
        let squares = row.iter().map(|&w| {
            let d = f64::from(w) - mean;
            d * d
        });
        let variance = squares.sum::<f64>() / count;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }

    /// `(w - mean) / sqrt(variance + eps) * gain * scale` of a row of weights.
    pub fn row(&self, weights: &[f32], gain: f32, out: &mut [f32]) {
        let (mean, inv_std) = self.moments(weights);
        let factor = inv_std * self.scale * f64::from(gain);
        for (out, &w) in out.iter_mut().zip(weights) {
            *out = ((f64::from(w) - mean) * factor) as f32;
        }
    }

    /// [`row`](Self::row) of each of `rows` rows of `weights`; gains of 1 where there are none.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn forward(
        &self,
        ctx: &Context,
        rows: usize,
        weights: &[f32],
        gains: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let width = weights.len() / rows;
        check_len("out", out, weights.len());
        let out = Disjoint::new(out);
        ctx.for_ranges(rows, ROWS, &|range| {
            for row in range {
                // SAFETY: rows are disjoint.
                let out = unsafe { out.part(row * width, width) };
                let gain = gains.map_or(1.0, |gains| gains[row]);
                self.row(&weights[row * width..][..width], gain, out);
            }
        });
    }

    /// Gradient of [`forward`](Self::forward): `gradient` is that of its output, and becomes that of `weights`; overwrites
    /// `dgains`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn backward(
        &self,
        ctx: &Context,
        rows: usize,
        weights: &[f32],
        gains: Option<&[f32]>,
        gradient: &mut [f32],
        dgains: &mut [f32],
    ) {
        let width = weights.len() / rows;
        check_len("gradient", gradient, weights.len());
        let (out, of_gains) = (Disjoint::new(gradient), Disjoint::new(dgains));
        ctx.for_ranges(rows, ROWS, &|range| {
            for row in range {
                // SAFETY: rows are disjoint.
                let g = unsafe { out.part(row * width, width) };
                let weights = &weights[row * width..][..width];
                let (mean, inv_std) = self.moments(weights);
                let normal = |w: f32| (f64::from(w) - mean) * inv_std;
                let sum = g.iter().map(|&g| f64::from(g)).sum::<f64>();
                let terms = g.iter().zip(weights);
                let dot = terms.map(|(&g, &w)| f64::from(g) * normal(w)).sum::<f64>();
                let gain = gains.map_or(1.0, |gains| f64::from(gains[row]));
                let (factor, count) = (inv_std * self.scale * gain, width as f64);
                for (g, &w) in g.iter_mut().zip(weights) {
                    let centred = f64::from(*g) - sum / count - normal(w) * (dot / count);
                    *g = (centred * factor) as f32;
                }
                if gains.is_some() {
                    // SAFETY: as above.
                    unsafe { of_gains.set(row, (dot * self.scale) as f32) };
                }
            }
        });
    }
}
