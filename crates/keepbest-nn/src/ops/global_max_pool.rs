//! Maximum over all pixels of each channel.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ActShape, ShapeError, global_max_pool};

/// Adds a global max pooling to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    _: &Unnamed,
    x: Current,
) -> Result<Current, LayerError> {
    let out = ActShape::new(1, 1, lowering.map(place, x)?.c);
    Ok(lowering.node(place, GlobalMaxPoolOp, x.value, out, false))
}

/// Global max pooling.
#[derive(Clone, Debug)]
pub(crate) struct GlobalMaxPoolOp;

impl Operation for GlobalMaxPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("global_max_pool2d", shapes.input.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        global_max_pool::forward(pass.ctx, pass.n, pass.shapes.input, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let shape = pass.shapes.input;
            global_max_pool::backward(pass.ctx, pass.n, shape, pass.x, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        global_max_pool::forward(pass.ctx, pass.n, pass.shapes.input, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        Ok(Value::map(writer.op(
            "GlobalMaxPool",
            at.layer,
            &[&x],
            vec![],
        )))
    }
}
