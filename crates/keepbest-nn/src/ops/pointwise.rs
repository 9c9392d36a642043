//! Activation functions: a function of each value alone.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Unnamed;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{Pointwise, ShapeError, pointwise};

/// Adds the function `kind` to the network.
pub(crate) fn lower(
    kind: Pointwise,
) -> impl FnOnce(&mut Lowering, &Place, &Unnamed, Current) -> Result<Current, LayerError> {
    move |lowering, place, _, x| Ok(lowering.same_shape(place, PointwiseOp(kind), x))
}

/// An activation function.
#[derive(Clone, Debug)]
pub(crate) struct PointwiseOp(pub Pointwise);

impl Operation for PointwiseOp {
    /// One evaluation counts as one operation, as it does for the rectifier.
    fn summary(&self, shapes: Shapes) -> Work {
        let name = format!("{:?}", self.0).to_lowercase();
        Work::new(name, shapes.output.values() as u64)
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
        pointwise::forward(pass.ctx, self.0, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            pointwise::backward(pass.ctx, self.0, pass.x, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        pointwise::forward(pass.ctx, self.0, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name: x, flat } = writer.value(at.input);
        let (layer, x) = (at.layer, x.as_str());
        let name = match self.0 {
            Pointwise::Relu6 => {
                let low = writer.constant("relu6.low", || tensor(&[], &[0.0]))?;
                let high = writer.constant("relu6.high", || tensor(&[], &[6.0]))?;
                writer.op("Clip", layer, &[x, &low, &high], vec![])
            }
            Pointwise::Sigmoid => writer.op("Sigmoid", layer, &[x], vec![]),
            Pointwise::Silu => {
                let sigmoid = writer.op("Sigmoid", layer, &[x], vec![]);
                writer.op("Mul", layer, &[x, &sigmoid], vec![])
            }
            Pointwise::Hardsigmoid => {
                let alpha = vec![
                    ("alpha", Attribute::Float(1.0 / 6.0)),
                    ("beta", Attribute::Float(0.5)),
                ];
                writer.op("HardSigmoid", layer, &[x], alpha)
            }
            Pointwise::Hardswish => writer.op("HardSwish", layer, &[x], vec![]),
            Pointwise::Gelu => writer.op("Gelu", layer, &[x], vec![]),
        };
        Ok(Value { name, flat })
    }
}
