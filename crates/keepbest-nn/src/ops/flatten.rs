//! `[channels, height, width]` to one vector in that order. Costs nothing: the layer after it reads the map in that order. Only where
//! vectors of differently shaped maps meet, a vector is made of each.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, flatten};

/// Makes a vector of what comes.
pub(crate) fn lower(
    _: &mut Lowering,
    _: &Place,
    _: &Unnamed,
    x: Current,
) -> Result<Current, LayerError> {
    Ok(Current { flat: true, ..x })
}

/// A vector as one pixel.
pub(crate) fn one_pixel(lowering: &mut Lowering, place: &Place, x: Current) -> Current {
    let shape = lowering.shape(x);
    if shape.pixels() == 1 {
        return x;
    }
    lowering.node(place, FlattenOp, x.value, flatten::flat(shape), true)
}

/// A value whose channels have parameters of their own: a map, or a vector as one pixel.
pub(crate) fn with_channels(lowering: &mut Lowering, place: &Place, x: Current) -> Current {
    if x.flat {
        one_pixel(lowering, place, x)
    } else {
        x
    }
}

/// A map as a vector of its own.
#[derive(Clone, Debug)]
pub(crate) struct FlattenOp;

impl Operation for FlattenOp {
    fn summary(&self, _: Shapes) -> Work {
        Work::new("flatten", 0)
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
        flatten::forward(pass.ctx, pass.n, pass.shapes.input, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            flatten::backward(pass.ctx, pass.n, pass.shapes.input, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        flatten::forward(pass.ctx, pass.n, pass.shapes.input, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let name = writer.flat(at.input);
        Ok(Value { name, flat: true })
    }
}
