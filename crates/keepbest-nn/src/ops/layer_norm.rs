//! Normalisation over the channels of each pixel, or over a vector.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, check_eps, describe};
use super::norm_affine::NormAffine;
use super::onnx::{Value, Writer, ints};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, layer_norm};
use serde::{Deserialize, Serialize};

/// Settings of a layer normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the variance before its square root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
    /// Whether there are trained factors and summands.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub affine: bool,
}

/// Adds a layer norm over the channels of each pixel to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    lowering.map(place, x)?;
    add(lowering, place, l, x)
}

/// Adds a layer norm over a vector to the network.
pub(crate) fn lower_flat(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    if !x.flat {
        return Err(place.error(format!(
            "needs a vector, found {}; layer_norm2d normalises the channels of each pixel",
            describe(lowering.shape(x), false)
        )));
    }
    let x = flatten::with_channels(lowering, place, x);
    add(lowering, place, l, x)
}

fn add(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    check_eps(place, l.eps)?;
    let channels = lowering.shape(x).c;
    let op = LayerNormOp {
        affine: NormAffine::new(lowering, place, l.affine, channels)?,
        eps: l.eps,
        name: place.op,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Layer norm.
#[derive(Clone, Debug)]
pub(crate) struct LayerNormOp {
    affine: NormAffine,
    eps: f64,
    /// The op as it is written in a spec.
    name: &'static str,
}

impl Operation for LayerNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new(self.name, 6 * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        self.affine.learned()
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let scratch = layer_norm::scratch_len(planning.batch, planning.shapes.input);
        Ok(Needs {
            forward_scratch: self.affine.spare_len(),
            backward_scratch: 2 * self.affine.spare_len() + scratch,
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let spare = &mut pass.scratch[..self.affine.spare_len()];
        let [gamma, beta] = self.affine.of(pass.weights, spare);
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        layer_norm::forward(ctx, n, shape, pass.x, gamma, beta, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let spare = self.affine.spare_len();
        let (of_norm, rest) = pass.scratch.split_at_mut(spare);
        let (of_gradients, scratch) = rest.split_at_mut(spare);
        let [gamma, _] = self.affine.of(pass.weights, of_norm);
        let [dgamma, dbeta] = self.affine.gradients(&mut pass.gradients, of_gradients);
        layer_norm::backward(
            pass.ctx,
            pass.n,
            pass.shapes.output,
            pass.x,
            pass.dy,
            gamma,
            self.eps,
            scratch,
            dgamma,
            dbeta,
            pass.dx.expect("it comes with the parameters' gradients"),
        );
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        self.affine.prepare(from.weights, prepared);
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        layer_norm::forward(ctx, n, shape, pass.x, scale, shift, self.eps, pass.y);
    }

    /// ONNX normalises the last axes: channels go there and back.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (Value { name: mut x, flat }, layer) = (writer.value(at.input), at.layer);
        let [scale, bias] = self.affine.onnx(writer)?;
        let perm = |axes: [usize; 4]| vec![("perm", ints(&axes))];
        if !flat {
            x = writer.op("Transpose", layer, &[&x], perm([0, 2, 3, 1]));
        }
        let attributes = vec![
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(self.eps as f32)),
        ];
        let inputs = [&*x, &scale, &bias];
        let y = writer.op("LayerNormalization", layer, &inputs, attributes);
        let name = if flat {
            y
        } else {
            writer.op("Transpose", layer, &[&y], perm([0, 3, 1, 2]))
        };
        Ok(Value { name, flat })
    }
}
