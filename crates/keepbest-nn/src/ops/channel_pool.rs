//! One number a pixel from its channels: their mean or maximum.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ChannelPool, ShapeError, channel_pool};

/// Adds the mean or maximum over channels to the network.
pub(crate) fn lower(
    pool: ChannelPool,
) -> impl FnOnce(&mut Lowering, &Place, &Unnamed, Current) -> Result<Current, LayerError> {
    move |lowering, place, _, x| {
        let out = channel_pool::output(lowering.map(place, x)?);
        Ok(lowering.node(place, ChannelPoolOp(pool), x.value, out, false))
    }
}

/// Mean or maximum over the channels of each pixel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelPoolOp(ChannelPool);

impl Operation for ChannelPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = match self.0 {
            ChannelPool::Mean => "channel_mean",
            ChannelPool::Max => "channel_max",
        };
        Work::new(name, shapes.input.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        match self.0 {
            ChannelPool::Mean => Reads::NOTHING,
            ChannelPool::Max => Reads::INPUT,
        }
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        channel_pool::forward(pass.ctx, pass.n, pass.shapes.input, self.0, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let shape = pass.shapes.input;
            channel_pool::backward(pass.ctx, pass.n, shape, self.0, pass.x, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        channel_pool::forward(pass.ctx, pass.n, pass.shapes.input, self.0, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let op = match self.0 {
            ChannelPool::Mean => "ReduceMean",
            ChannelPool::Max => "ReduceMax",
        };
        let axes = writer.integers(&[1])?;
        let keep = vec![("keepdims", Attribute::Int(1))];
        Ok(Value::map(writer.op(op, at.layer, &[&x, &axes], keep)))
    }
}
