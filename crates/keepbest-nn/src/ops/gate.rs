//! `input * other`, where `other` is one pixel: the end of a squeeze-and-excitation.

use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, gate};

/// A gate.
#[derive(Clone, Debug)]
pub(crate) struct GateOp {
    pub other: ValueId,
}

impl Operation for GateOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("gate", shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        Some(self.other)
    }

    fn backward_reads(&self) -> Reads {
        Reads {
            other: true,
            ..Reads::INPUT
        }
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        let shape = pass.shapes.output;
        gate::forward(pass.ctx, pass.n, shape, pass.x, pass.other, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        let (ctx, n, shape, dy) = (pass.ctx, pass.n, pass.shapes.output, pass.dy);
        if let Some(dx) = pass.dx {
            gate::forward(ctx, n, shape, dy, pass.other, dx);
        }
        if let Some(dother) = pass.dother {
            gate::backward_factors(ctx, n, shape, pass.x, dy, dother);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let shape = pass.shapes.output;
        gate::forward(pass.ctx, pass.n, shape, pass.x, pass.other, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let factors = writer.value(self.other).name;
        Ok(Value::map(writer.op(
            "Mul",
            at.layer,
            &[&x, &factors],
            vec![],
        )))
    }
}
