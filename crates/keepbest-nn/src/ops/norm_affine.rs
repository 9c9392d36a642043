//! The trained factors and summands behind a norm, which a norm may lack.

use super::lowering::{LayerError, Lowering, Place};
use super::onnx::{Writer, tensor};
use super::operation::{FixedNorm, Gradients, Learned, ParamId, Prepared, Weights};
use keepbest_formats::onnx::OnnxError;

/// `weight` and `bias` of a norm, one value a channel; ones and zeros where it has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormAffine {
    /// Factors and summands.
    pub ids: Option<(ParamId, ParamId)>,
    channels: usize,
}

impl From<&FixedNorm> for NormAffine {
    fn from(norm: &FixedNorm) -> Self {
        NormAffine {
            ids: norm.affine,
            channels: norm.channels,
        }
    }
}

impl NormAffine {
    /// Declares the parameters, if there are any.
    pub(crate) fn new(
        lowering: &mut Lowering,
        place: &Place,
        affine: bool,
        channels: usize,
    ) -> Result<Self, LayerError> {
        let ids = if affine {
            Some(lowering.scale_and_shift(place, channels)?)
        } else {
            None
        };
        Ok(NormAffine { ids, channels })
    }

    pub(crate) fn learned(&self) -> Learned {
        Learned {
            ids: [self.ids.map(|ids| ids.0), self.ids.map(|ids| ids.1), None],
            with_input: true,
        }
    }

    /// Floats of scratch that stand for parameters, and for their gradients, that are not there.
    pub(crate) fn spare_len(&self) -> usize {
        if self.ids.is_some() {
            0
        } else {
            2 * self.channels
        }
    }

    /// Factors and summands, in scratch where they are no parameters.
    pub(crate) fn of<'a>(&self, weights: Weights<'a>, spare: &'a mut [f32]) -> [&'a [f32]; 2] {
        if let Some((weight, bias)) = self.ids {
            return [weights.of(weight), weights.of(bias)];
        }
        let (ones, zeros) = spare.split_at_mut(self.channels);
        ones.fill(1.0);
        zeros.fill(0.0);
        [ones, zeros]
    }

    /// The places of the gradients, in scratch where nobody wants them.
    pub(crate) fn gradients<'a>(
        &self,
        gradients: &'a mut Gradients<'_>,
        spare: &'a mut [f32],
    ) -> [&'a mut [f32]; 2] {
        match self.ids {
            Some((weight, bias)) => gradients.pair(weight, bias),
            None => spare.split_at_mut(self.channels).into(),
        }
    }

    /// Keeps factors and summands for inference.
    pub(crate) fn prepare(&self, weights: Weights<'_>, prepared: &mut Prepared) {
        let mut spare = vec![0.0; self.spare_len()];
        let [scale, shift] = self.of(weights, &mut spare);
        prepared.scale = scale.to_vec();
        prepared.shift = shift.to_vec();
    }

    /// The values of factors and summands.
    pub(crate) fn floats(&self, writer: &Writer<'_>) -> [Vec<f32>; 2] {
        match self.ids {
            Some((weight, bias)) => [writer.floats(weight), writer.floats(bias)],
            None => [vec![1.0; self.channels], vec![0.0; self.channels]],
        }
    }

    /// Factors and summands as inputs of an ONNX operation.
    pub(crate) fn onnx(&self, writer: &mut Writer<'_>) -> Result<[String; 2], OnnxError> {
        if let Some((weight, bias)) = self.ids {
            return Ok([writer.initializer(weight)?, writer.initializer(bias)?]);
        }
        let c = self.channels;
        let mut all = |value: f32| {
            let values = || tensor(&[c], &vec![value; c]);
            writer.constant(&format!("{c} x {value:?}"), values)
        };
        Ok([all(1.0)?, all(0.0)?])
    }
}
