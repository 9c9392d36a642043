//! `max(x, 0)`.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, relu};

/// Adds a ReLU to the network: to the operation before it, where that can do it along with its own work.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    _: &Unnamed,
    x: Current,
) -> Result<Current, LayerError> {
    if let Some(before) = lowering.made_for_this(x)
        && before.op.take_relu()
    {
        return Ok(x);
    }
    Ok(lowering.same_shape(place, ReluOp, x))
}

/// A ReLU of its own.
#[derive(Clone, Debug)]
pub(crate) struct ReluOp;

impl Operation for ReluOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("relu", shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::OUTPUT
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        relu::forward(pass.ctx, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            relu::backward(pass.ctx, pass.y, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        relu::forward(pass.ctx, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name, flat } = writer.value(at.input);
        Ok(Value {
            name: writer.relu_if(true, at.layer, name),
            flat,
        })
    }
}
