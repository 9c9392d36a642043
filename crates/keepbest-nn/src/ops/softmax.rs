//! Softmax over the channels of each pixel or the features of a vector, and its logarithm.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, ShapeError, softmax};

/// Adds a softmax, or its logarithm, to the network.
pub(crate) fn lower(
    log: bool,
) -> impl FnOnce(&mut Lowering, &Place, &Unnamed, Current) -> Result<Current, LayerError> {
    move |lowering, place, _, x| {
        let op = SoftmaxOp { log, flat: x.flat };
        Ok(lowering.same_shape(place, op, x))
    }
}

/// Softmax.
#[derive(Clone, Debug)]
pub(crate) struct SoftmaxOp {
    log: bool,
    /// Whether all values of an image are one vector.
    flat: bool,
}

impl SoftmaxOp {
    /// A vector is one pixel, in whatever order.
    fn shape(&self, shape: ActShape) -> ActShape {
        if self.flat {
            ActShape::new(1, 1, shape.values())
        } else {
            shape
        }
    }
}

impl Operation for SoftmaxOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = if self.log { "log_softmax" } else { "softmax" };
        Work::new(name, 3 * shapes.output.values() as u64)
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
        let shape = self.shape(pass.shapes.output);
        softmax::forward(pass.ctx, pass.n, shape, self.log, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let shape = self.shape(pass.shapes.output);
            softmax::backward(pass.ctx, pass.n, shape, self.log, pass.y, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let shape = self.shape(pass.shapes.output);
        softmax::forward(pass.ctx, pass.n, shape, self.log, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (x, flat) = if self.flat {
            (writer.flat(at.input), true)
        } else {
            (writer.value(at.input).name, false)
        };
        let op = if self.log { "LogSoftmax" } else { "Softmax" };
        let axis = vec![("axis", Attribute::Int(1))];
        let name = writer.op(op, at.layer, &[&x], axis);
        Ok(Value { name, flat })
    }
}
