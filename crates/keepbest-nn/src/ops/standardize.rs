//! Convolutions whose weights are standardised: each output's weights have mean 0 and variance 1 before they are used.

use super::lowering::{LayerError, Lowering, Place, check_eps, number};
use super::onnx::Writer;
use super::operation::{Gradients, LearningRates, ParamId, Weights};
use crate::params::{Role, Start};
use crate::spec::values;
use keepbest_kernels::Context;
use serde::{Deserialize, Serialize};

/// Settings of standardised weights: `(w - mean) / sqrt(variance + eps)` over the weights of each output, times `gain`, times
/// `scale`. timm's `StdConv2d` (Qiao et al., arXiv 1903.10520) has neither factor; its `ScaledStdConv2d` (Brock et al., arXiv
/// 2101.08692) has both, and `scale` is its gamma divided by the root of the fan-in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardize {
    /// Added to the variance before its square root.
    #[serde(default = "default_eps", skip_serializing_if = "is_default_eps")]
    pub eps: f64,
    /// Whether each output has a trained factor: the parameter `gain`, `[out, 1, 1, 1]`.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub gain: bool,
    /// Factor of all weights.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub scale: f64,
}

fn default_eps() -> f64 {
    1e-6
}

fn is_default_eps(eps: &f64) -> bool {
    *eps == default_eps()
}

/// How the weights of a convolution are standardised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standardized {
    map: keepbest_kernels::Standardize,
    /// The trained factors, one an output.
    pub gain: Option<ParamId>,
    /// Outputs.
    rows: usize,
}

impl Standardized {
    /// Declares the gains of a convolution with `out` outputs, if there are any.
    pub(crate) fn new(
        lowering: &mut Lowering,
        place: &Place,
        l: &Standardize,
        out: usize,
    ) -> Result<Self, LayerError> {
        check_eps(place, l.eps)?;
        number(place, "scale", l.scale)?;
        let gain = if l.gain {
            let start = Start::Constant(1.0);
            Some(lowering.param(place, "gain", &[out, 1, 1, 1], Role::Trained, start)?)
        } else {
            None
        };
        let map = keepbest_kernels::Standardize {
            eps: l.eps,
            scale: l.scale,
        };
        let rows = out;
        Ok(Standardized { map, gain, rows })
    }

    /// The weights as they are used, in `out`.
    pub(crate) fn forward<'a>(
        &self,
        ctx: &Context,
        weights: Weights<'_>,
        id: ParamId,
        out: &'a mut [f32],
    ) -> &'a [f32] {
        let gains = self.gain.map(|id| weights.of(id));
        self.map.forward(ctx, self.rows, weights.of(id), gains, out);
        out
    }

    /// The weights as they are used, for a file.
    pub(crate) fn written(&self, writer: &Writer<'_>, id: ParamId) -> Vec<f32> {
        let weights = writer.floats(id);
        let gains = self.gain.map(|id| writer.floats(id));
        let width = weights.len() / self.rows;
        let mut out = vec![0.0; weights.len()];
        let rows = weights.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (row, (weights, out)) in rows.enumerate() {
            let gain = gains.as_ref().map_or(1.0, |gains| gains[row]);
            self.map.row(weights, gain, out);
        }
        out
    }

    /// Whether anything that the weights are made of learns.
    pub(crate) fn learns(&self, rates: LearningRates<'_>, id: ParamId) -> bool {
        !rates.frozen(id) || self.gain.is_some_and(|gain| !rates.frozen(gain))
    }

    /// Turns the gradient of the weights as they are used into that of the weights, and writes that of the gains.
    pub(crate) fn backward(
        &self,
        ctx: &Context,
        weights: Weights<'_>,
        rates: LearningRates<'_>,
        gradients: &mut Gradients<'_>,
        id: ParamId,
    ) {
        let own = weights.of(id);
        match self.gain {
            None => {
                let gradient = gradients.of(id);
                self.map
                    .backward(ctx, self.rows, own, None, gradient, &mut []);
            }
            Some(gain) => {
                let gains = Some(weights.of(gain));
                let [gradient, of_gain] = gradients.pair(id, gain);
                self.map
                    .backward(ctx, self.rows, own, gains, gradient, of_gain);
            }
        }
        // One comes with the other: that of a frozen parameter is nobody's.
        for id in [Some(id), self.gain].into_iter().flatten() {
            if rates.frozen(id) {
                gradients.of(id).fill(0.0);
            }
        }
    }
}
