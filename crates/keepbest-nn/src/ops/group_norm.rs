//! Normalisation over the pixels of groups of channels of each image.

use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, group_norm};
use serde::{Deserialize, Serialize};

/// Settings of a group normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Groups of channels; channels must be a multiple of it.
    pub groups: usize,
    /// Added to the variance before its square root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
}

/// Adds a group norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &GroupNorm,
    x: Current,
) -> Result<Current, LayerError> {
    let (shape, groups) = (lowering.map(place, x)?, l.groups);
    check_eps(place, l.eps)?;
    let (weight, bias) = lowering.scale_and_shift(place, shape.c)?;
    if groups == 0 || !shape.c.is_multiple_of(groups) {
        let c = shape.c;
        let problem = format!("channels ({c}) must be a multiple of groups ({groups})");
        return Err(place.error(problem));
    }
    let op = GroupNormOp {
        weight,
        bias,
        groups,
        eps: l.eps,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Group norm.
#[derive(Clone, Debug)]
pub(crate) struct GroupNormOp {
    weight: ParamId,
    bias: ParamId,
    groups: usize,
    eps: f64,
}

impl Operation for GroupNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = format!("group_norm {}", self.groups);
        Work::new(name, 6 * shapes.output.values() as u64)
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
            backward_scratch: group_norm::scratch_len(planning.batch, planning.shapes.input),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (gamma, beta) = (pass.weights.of(self.weight), pass.weights.of(self.bias));
        let (ctx, n, shape, groups) = (pass.ctx, pass.n, pass.shapes.output, self.groups);
        group_norm::forward(ctx, n, shape, groups, pass.x, gamma, beta, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let [dgamma, dbeta] = pass.gradients.pair(self.weight, self.bias);
        group_norm::backward(
            pass.ctx,
            pass.n,
            pass.shapes.output,
            self.groups,
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
        let (ctx, n, shape, groups) = (pass.ctx, pass.n, pass.shapes.output, self.groups);
        group_norm::forward(
            ctx, n, shape, groups, pass.x, scale, shift, self.eps, pass.y,
        );
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let scale = writer.initializer(self.weight)?;
        let bias = writer.initializer(self.bias)?;
        let attributes = vec![
            ("num_groups", Attribute::Int(self.groups as i64)),
            ("epsilon", Attribute::Float(self.eps as f32)),
        ];
        let inputs = [&*x, &scale, &bias];
        Ok(Value::map(writer.op(
            "GroupNormalization",
            at.layer,
            &inputs,
            attributes,
        )))
    }
}
