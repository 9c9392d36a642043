//! The channels of `input`, then those of `other`.

use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, concat};

/// A concatenation of channels.
#[derive(Clone, Debug)]
pub(crate) struct ConcatOp {
    pub other: ValueId,
}

impl Operation for ConcatOp {
    fn summary(&self, _: Shapes) -> Work {
        Work::new("concat", 0)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        Some(self.other)
    }

    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        let (a, b) = ((pass.shapes.input, pass.x), (pass.shapes.other, pass.other));
        concat::forward(pass.ctx, pass.n, a, b, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Shapes {
            input,
            other,
            output,
        } = pass.shapes;
        for (gradient, from, shape) in [(pass.dx, 0, input), (pass.dother, input.c, other)] {
            if let Some(gradient) = gradient {
                let dy = (output, pass.dy);
                concat::backward(pass.ctx, pass.n, dy, from, (shape, gradient));
            }
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let (a, b) = ((pass.shapes.input, pass.x), (pass.shapes.other, pass.other));
        concat::forward(pass.ctx, pass.n, a, b, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let other = writer.value(self.other).name;
        let axis = vec![("axis", Attribute::Int(1))];
        Ok(Value::map(writer.op(
            "Concat",
            at.layer,
            &[&x, &other],
            axis,
        )))
    }
}
