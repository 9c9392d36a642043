//! The rectifier with a trained slope below 0.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use super::scale::{gather, spread};
use crate::params::{Role, Start};
use crate::spec::values;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, prelu};
use serde::{Deserialize, Serialize};

/// Settings of a PReLU. Its parameter `weight` is `[channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prelu {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Slopes: one for all channels, or as many as there are channels.
    #[serde(default = "values::one", skip_serializing_if = "values::is_one")]
    pub channels: usize,
}

/// What the slopes start with, as PyTorch's.
const START: f32 = 0.25;

/// Adds a PReLU to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &Prelu,
    mut x: Current,
) -> Result<Current, LayerError> {
    if l.channels != 1 {
        x = flatten::with_channels(lowering, place, x);
        let c = lowering.shape(x).c;
        if l.channels != c {
            let found = l.channels;
            return Err(place.error(format!("channels must be 1 or {c}, found {found}")));
        }
    }
    let start = Start::Constant(START);
    let op = PreluOp {
        weight: lowering.param(place, "weight", &[l.channels], Role::Trained, start)?,
        channels: lowering.shape(x).c,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// PReLU.
#[derive(Clone, Debug)]
pub(crate) struct PreluOp {
    weight: ParamId,
    channels: usize,
}

impl Operation for PreluOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("prelu", shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), None, None],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    /// A slope a channel, beside the kernel's own scratch.
    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        let shape = planning.shapes.input;
        Ok(Needs {
            forward_scratch: if planning.training { shape.c } else { 0 },
            backward_scratch: shape.c + prelu::scratch_len(planning.batch, shape),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let slopes = &mut pass.scratch[..self.channels];
        spread(pass.weights.of(self.weight), slopes);
        prelu::forward(pass.ctx, pass.n, pass.shapes.output, pass.x, slopes, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (slopes, scratch) = pass.scratch.split_at_mut(self.channels);
        spread(pass.weights.of(self.weight), slopes);
        let shape = pass.shapes.output;
        let dx = pass.dx.expect("it comes with the parameter's gradient");
        prelu::backward(
            pass.ctx, pass.n, shape, pass.x, pass.dy, slopes, scratch, dx,
        );
        gather(&scratch[..self.channels], pass.gradients.of(self.weight));
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale.resize(self.channels, 0.0);
        spread(from.weights.of(self.weight), &mut prepared.scale);
    }

    fn predict(&self, pass: Predict<'_>) {
        let (shape, slopes) = (pass.shapes.output, &pass.prepared.scale);
        prelu::forward(pass.ctx, pass.n, shape, pass.x, slopes, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name: x, flat } = writer.value(at.input);
        let slopes = writer.per_channel(self.weight, flat)?;
        let name = writer.op("PRelu", at.layer, &[&x, &slopes], vec![]);
        Ok(Value { name, flat })
    }
}
