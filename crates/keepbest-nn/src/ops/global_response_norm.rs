//! Global response normalisation, of ConvNeXt V2.

use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use crate::params::{Role, Start};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, global_response_norm};
use serde::{Deserialize, Serialize};

/// Settings of a global response normalisation: parameters `weight` and `bias`, `[channels]` each, which start as zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalResponseNorm {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the mean of the channels' norms.
    #[serde(default = "default_eps", skip_serializing_if = "is_default_eps")]
    pub eps: f64,
}

fn default_eps() -> f64 {
    1e-6
}

fn is_default_eps(eps: &f64) -> bool {
    *eps == default_eps()
}

/// Adds a global response norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &GlobalResponseNorm,
    x: Current,
) -> Result<Current, LayerError> {
    let channels = lowering.map(place, x)?.c;
    check_eps(place, l.eps)?;
    let mut param = |part| {
        let start = Start::Constant(0.0);
        lowering.param(place, part, &[channels], Role::Trained, start)
    };
    let op = GlobalResponseNormOp {
        weight: param("weight")?,
        bias: param("bias")?,
        eps: l.eps,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Global response norm.
#[derive(Clone, Debug)]
pub(crate) struct GlobalResponseNormOp {
    weight: ParamId,
    bias: ParamId,
    eps: f64,
}

impl Operation for GlobalResponseNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("global_response_norm", 4 * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), Some(self.bias), None],
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
            backward_scratch: global_response_norm::scratch_len(
                planning.batch,
                planning.shapes.input,
            ),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (gamma, beta) = (pass.weights.of(self.weight), pass.weights.of(self.bias));
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        global_response_norm::forward(ctx, n, shape, pass.x, gamma, beta, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (shape, gamma) = (pass.shapes.output, pass.weights.of(self.weight));
        global_response_norm::backward(
            pass.ctx,
            pass.n,
            shape,
            pass.x,
            pass.dy,
            gamma,
            self.eps,
            pass.scratch,
            pass.dx.expect("it comes with the parameters' gradients"),
        );
        let (of_weight, rest) = pass.scratch.split_at(shape.c);
        pass.gradients.of(self.weight).copy_from_slice(of_weight);
        pass.gradients
            .of(self.bias)
            .copy_from_slice(&rest[..shape.c]);
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale = from.weights.of(self.weight).to_vec();
        prepared.shift = from.weights.of(self.bias).to_vec();
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        global_response_norm::forward(ctx, n, shape, pass.x, scale, shift, self.eps, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (x, layer) = (writer.value(at.input).name, at.layer);
        let (pixels, channels) = (writer.integers(&[2, 3])?, writer.integers(&[1])?);
        let keep = || vec![("keepdims", Attribute::Int(1))];
        let norms = writer.op("ReduceL2", layer, &[&x, &pixels], keep());
        let mean = writer.op("ReduceMean", layer, &[&norms, &channels], keep());
        let eps = writer.scalar(self.eps as f32)?;
        let mean = writer.op("Add", layer, &[&mean, &eps], vec![]);
        let relative = writer.op("Div", layer, &[&norms, &mean], vec![]);
        let weight = writer.per_channel(self.weight, false)?;
        let bias = writer.per_channel(self.bias, false)?;
        let factors = writer.op("Mul", layer, &[&relative, &weight], vec![]);
        let scaled = writer.op("Mul", layer, &[&x, &factors], vec![]);
        let moved = writer.op("Add", layer, &[&scaled, &bias], vec![]);
        Ok(Value::map(writer.op("Add", layer, &[&x, &moved], vec![])))
    }
}
