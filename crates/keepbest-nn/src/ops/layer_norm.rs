//! Normalisation over the channels of each pixel.

use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::onnx::{Value, Writer, ints};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
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
}

/// Adds a layer norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    check_eps(place, l.eps)?;
    let (weight, bias) = lowering.scale_and_shift(place, shape.c)?;
    let op = LayerNormOp {
        weight,
        bias,
        eps: l.eps,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Layer norm.
#[derive(Clone, Debug)]
pub(crate) struct LayerNormOp {
    weight: ParamId,
    bias: ParamId,
    eps: f64,
}

impl Operation for LayerNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("layer_norm2d", 6 * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), Some(self.bias)],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs {
            backward_scratch: layer_norm::scratch_len(planning.batch, planning.shapes.input),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (gamma, beta) = (pass.weights.of(self.weight), pass.weights.of(self.bias));
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        layer_norm::forward(ctx, n, shape, pass.x, gamma, beta, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let [dgamma, dbeta] = pass.gradients.pair(self.weight, self.bias);
        layer_norm::backward(
            pass.ctx,
            pass.n,
            pass.shapes.output,
            pass.x,
            pass.dy,
            pass.weights.of(self.weight),
            self.eps,
            pass.scratch,
            dgamma,
            dbeta,
            pass.dx.expect("it comes with the parameters' gradients"),
        );
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale = from.weights.of(self.weight).to_vec();
        prepared.shift = from.weights.of(self.bias).to_vec();
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        layer_norm::forward(ctx, n, shape, pass.x, scale, shift, self.eps, pass.y);
    }

    /// ONNX normalises the last axes: channels go there and back.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (x, layer) = (writer.value(at.input).name, at.layer);
        let scale = writer.initializer(self.weight)?;
        let bias = writer.initializer(self.bias)?;
        let perm = |axes: [usize; 4]| vec![("perm", ints(&axes))];
        let x = writer.op("Transpose", layer, &[&x], perm([0, 2, 3, 1]));
        let attributes = vec![
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(self.eps as f32)),
        ];
        let inputs = [&*x, &scale, &bias];
        let y = writer.op("LayerNormalization", layer, &inputs, attributes);
        Ok(Value::map(writer.op(
            "Transpose",
            layer,
            &[&y],
            perm([0, 3, 1, 2]),
        )))
    }
}
