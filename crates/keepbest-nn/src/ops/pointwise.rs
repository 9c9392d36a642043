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
    lower_with(move |_: &Unnamed, _: &Place| Ok(kind))
}

/// Adds the function that the layer's settings say to the network.
pub(crate) fn lower_with<S>(
    kind: impl FnOnce(&S, &Place) -> Result<Pointwise, LayerError>,
) -> impl FnOnce(&mut Lowering, &Place, &S, Current) -> Result<Current, LayerError> {
    move |lowering, place, settings, x| {
        let op = PointwiseOp {
            kind: kind(settings, place)?,
            name: place.op,
        };
        Ok(lowering.same_shape(place, op, x))
    }
}

/// An activation function.
#[derive(Clone, Debug)]
pub(crate) struct PointwiseOp {
    kind: Pointwise,
    /// The op as it is written in a spec.
    name: &'static str,
}

impl Operation for PointwiseOp {
    /// One evaluation counts as one operation, as it does for the rectifier.
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new(self.name, shapes.output.values() as u64)
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
        pointwise::forward(pass.ctx, self.kind, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            pointwise::backward(pass.ctx, self.kind, pass.x, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        pointwise::forward(pass.ctx, self.kind, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name: x, flat } = writer.value(at.input);
        let name = written(writer, at.layer, &x, self.kind)?;
        Ok(Value { name, flat })
    }
}

/// Writes a function of `x` as ONNX and tells the output.
fn written(
    writer: &mut Writer<'_>,
    layer: &str,
    x: &str,
    kind: Pointwise,
) -> Result<String, OnnxError> {
    let float = |name, value| (name, Attribute::Float(value));
    let (op, attributes) = match kind {
        Pointwise::Relu6 => {
            let low = writer.constant("relu6.low", || tensor(&[], &[0.0]))?;
            let high = writer.constant("relu6.high", || tensor(&[], &[6.0]))?;
            return Ok(writer.op("Clip", layer, &[x, &low, &high], vec![]));
        }
        Pointwise::Clip { min, max } => return clip(writer, layer, x, min, max),
        Pointwise::Sigmoid => ("Sigmoid", vec![]),
        Pointwise::Silu => {
            let sigmoid = writer.op("Sigmoid", layer, &[x], vec![]);
            return Ok(writer.op("Mul", layer, &[x, &sigmoid], vec![]));
        }
        Pointwise::QuickGelu => {
            let steep = with_scalar(writer, "Mul", layer, x, 1.702)?;
            let sigmoid = writer.op("Sigmoid", layer, &[&steep], vec![]);
            return Ok(writer.op("Mul", layer, &[x, &sigmoid], vec![]));
        }
        Pointwise::Hardsigmoid => (
            "HardSigmoid",
            vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)],
        ),
        Pointwise::Hardswish => ("HardSwish", vec![]),
        Pointwise::Gelu => ("Gelu", vec![]),
        Pointwise::GeluTanh => {
            let tanh = Attribute::Text("tanh".to_owned());
            ("Gelu", vec![("approximate", tanh)])
        }
        Pointwise::LeakyRelu { slope } => ("LeakyRelu", vec![float("alpha", slope)]),
        Pointwise::Elu {
            positive,
            negative,
            inner,
        } => return elu(writer, layer, x, [positive, negative, inner]),
        Pointwise::Tanh => ("Tanh", vec![]),
        Pointwise::Softplus { beta } => {
            let steep = with_scalar(writer, "Mul", layer, x, beta)?;
            let soft = writer.op("Softplus", layer, &[&steep], vec![]);
            return with_scalar(writer, "Div", layer, &soft, beta);
        }
        Pointwise::Mish => {
            let soft = writer.op("Softplus", layer, &[x], vec![]);
            let tanh = writer.op("Tanh", layer, &[&soft], vec![]);
            return Ok(writer.op("Mul", layer, &[x, &tanh], vec![]));
        }
        Pointwise::Abs => ("Abs", vec![]),
        Pointwise::Sqrt => ("Sqrt", vec![]),
        Pointwise::Square => return Ok(writer.op("Mul", layer, &[x, x], vec![])),
        Pointwise::Pow { exponent } => return with_scalar(writer, "Pow", layer, x, exponent),
        Pointwise::Exp => ("Exp", vec![]),
        Pointwise::Log => ("Log", vec![]),
        Pointwise::Erf => ("Erf", vec![]),
        Pointwise::Affine { scale, shift } => {
            let x = with_scalar(writer, "Mul", layer, x, scale)?;
            return with_scalar(writer, "Add", layer, &x, shift);
        }
    };
    Ok(writer.op(op, layer, &[x], attributes))
}

/// `x` and a number. What would change nothing is not written.
fn with_scalar(
    writer: &mut Writer<'_>,
    op: &'static str,
    layer: &str,
    x: &str,
    value: f32,
) -> Result<String, OnnxError> {
    let neutral = if op == "Add" { 0.0 } else { 1.0 };
    if value == neutral {
        return Ok(x.to_owned());
    }
    let value = writer.scalar(value)?;
    Ok(writer.op(op, layer, &[x, &value], vec![]))
}

/// Between two limits, of which one may be infinite.
fn clip(
    writer: &mut Writer<'_>,
    layer: &str,
    x: &str,
    min: f32,
    max: f32,
) -> Result<String, OnnxError> {
    let mut limit = |value: f32| {
        if value.is_finite() {
            writer.scalar(value)
        } else {
            Ok(String::new())
        }
    };
    let (min, max) = (limit(min)?, limit(max)?);
    let inputs = [x, &min, &max];
    // An input that is left out has an empty name, or none at the end.
    let given = if max.is_empty() { 2 } else { 3 };
    Ok(writer.op("Clip", layer, &inputs[..given], vec![]))
}

/// `positive * x` above 0, `negative * (e^(inner * x) - 1)` below.
fn elu(
    writer: &mut Writer<'_>,
    layer: &str,
    x: &str,
    [positive, negative, inner]: [f32; 3],
) -> Result<String, OnnxError> {
    // Elu has the factor `alpha` below 0, Selu also `gamma` on both sides. The exponent's goes before them, and out again above 0.
    let steep = with_scalar(writer, "Mul", layer, x, inner)?;
    let gamma = positive / inner;
    let mut attributes = vec![("alpha", Attribute::Float(negative / gamma))];
    if gamma == 1.0 {
        return Ok(writer.op("Elu", layer, &[&steep], attributes));
    }
    attributes.push(("gamma", Attribute::Float(gamma)));
    Ok(writer.op("Selu", layer, &[&steep], attributes))
}
