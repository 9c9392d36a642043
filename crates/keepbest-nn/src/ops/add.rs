//! `input + other`: the end of a residual block.

use super::lowering::{Current, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, add, relu};

/// Adds `body + other` to the network, two values of one shape: to the operation that makes `body`, where that can do it along with
/// its own work.
pub(crate) fn sum(
    lowering: &mut Lowering,
    place: &Place,
    body: Current,
    other: Current,
) -> Current {
    // A batch norm of the other value itself would read one value twice.
    let fused = lowering
        .made_for_this(body)
        .is_some_and(|last| last.input != other.value && last.op.take_residual(other.value));
    if fused {
        return body;
    }
    let op = AddOp {
        other: other.value,
        relu: false,
    };
    lowering.same_shape(place, op, body)
}

/// A sum, then a ReLU when `relu`.
#[derive(Clone, Debug)]
pub(crate) struct AddOp {
    pub other: ValueId,
    pub relu: bool,
}

impl Operation for AddOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = if self.relu {
            "residual + relu"
        } else {
            "residual"
        };
        Work::new(name, shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        Some(self.other)
    }

    fn backward_reads(&self) -> Reads {
        if self.relu {
            Reads::OUTPUT
        } else {
            Reads::NOTHING
        }
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        let len = pass.y.len();
        add::forward(pass.ctx, pass.x, &pass.other[..len], self.relu, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        for gradient in [pass.dx, pass.dother].into_iter().flatten() {
            if self.relu {
                relu::backward(pass.ctx, pass.y, pass.dy, gradient);
            } else {
                gradient.copy_from_slice(pass.dy);
            }
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let len = pass.y.len();
        add::forward(pass.ctx, pass.x, &pass.other[..len], self.relu, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (a, b, flat) = writer.alike(at.input, self.other);
        let sum = writer.op("Add", at.layer, &[&a, &b], vec![]);
        Ok(Value {
            name: writer.relu_if(self.relu, at.layer, sum),
            flat,
        })
    }

    fn take_relu(&mut self) -> bool {
        self.relu = true;
        true
    }
}
