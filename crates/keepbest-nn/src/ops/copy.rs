//! A copy of a value, for an operation that reads one value twice: its inputs must be two.

use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::ShapeError;

/// A copy.
#[derive(Clone, Debug)]
pub(crate) struct CopyOp;

impl Operation for CopyOp {
    fn summary(&self, _: Shapes) -> Work {
        Work::new("copy", 0)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.copy_from_slice(pass.dy);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        pass.y.copy_from_slice(pass.x);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        Ok(writer.value(at.input))
    }
}
