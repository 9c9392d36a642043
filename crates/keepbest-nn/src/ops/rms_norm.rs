//! Division of each pixel's channels by their root mean square.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use super::scale::spread_or;
use crate::params::{Role, Start};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, rms_norm};
use serde::{Deserialize, Serialize};

/// Settings of a root mean square normalisation. Its parameter `weight` is `[channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the mean square before its root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
    /// Whether there are trained factors.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub affine: bool,
}

/// Adds a root mean square norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &RmsNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    let x = flatten::with_channels(lowering, place, x);
    check_eps(place, l.eps)?;
    let channels = lowering.shape(x).c;
    let weight = if l.affine {
        let start = Start::Constant(1.0);
        Some(lowering.param(place, "weight", &[channels], Role::Trained, start)?)
    } else {
        None
    };
    let op = RmsNormOp {
        weight,
        channels,
        eps: l.eps,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Root mean square norm.
#[derive(Clone, Debug)]
pub(crate) struct RmsNormOp {
    weight: Option<ParamId>,
    channels: usize,
    eps: f64,
}

impl Operation for RmsNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("rms_norm2d", 4 * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [self.weight, None, None],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    /// The factors, beside the kernel's own scratch.
    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let scratch = rms_norm::scratch_len(planning.batch, planning.shapes.input);
        Ok(Needs {
            forward_scratch: self.channels,
            backward_scratch: self.channels + scratch,
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let gamma = &mut pass.scratch[..self.channels];
        spread_or(&pass.weights, self.weight, 1.0, gamma);
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        rms_norm::forward(ctx, n, shape, pass.x, gamma, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (gamma, scratch) = pass.scratch.split_at_mut(self.channels);
        spread_or(&pass.weights, self.weight, 1.0, gamma);
        let dx = pass.dx.expect("it comes with the parameter's gradient");
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        rms_norm::backward(ctx, n, shape, pass.x, pass.dy, gamma, self.eps, scratch, dx);
        if let Some(weight) = self.weight {
            let gradient = pass.gradients.of(weight);
            gradient.copy_from_slice(&scratch[..self.channels]);
        }
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale.resize(self.channels, 0.0);
        spread_or(&from.weights, self.weight, 1.0, &mut prepared.scale);
    }

    fn predict(&self, pass: Predict<'_>) {
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        rms_norm::forward(
            ctx,
            n,
            shape,
            pass.x,
            &pass.prepared.scale,
            self.eps,
            pass.y,
        );
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name: x, flat } = writer.value(at.input);
        let layer = at.layer;
        let squares = writer.op("Mul", layer, &[&x, &x], vec![]);
        let axes = writer.integers(&[1])?;
        let keep = vec![("keepdims", Attribute::Int(1))];
        let mean = writer.op("ReduceMean", layer, &[&squares, &axes], keep);
        let eps = writer.scalar(self.eps as f32)?;
        let mean = writer.op("Add", layer, &[&mean, &eps], vec![]);
        let root = writer.op("Sqrt", layer, &[&mean], vec![]);
        let mut name = writer.op("Div", layer, &[&x, &root], vec![]);
        if let Some(weight) = self.weight {
            let weight = writer.per_channel(weight, flat)?;
            name = writer.op("Mul", layer, &[&name, &weight], vec![]);
        }
        Ok(Value { name, flat })
    }
}
