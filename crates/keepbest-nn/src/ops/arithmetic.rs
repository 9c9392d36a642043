//! Arithmetic of two values: sums, differences, products, quotients, the larger and the smaller. One row, column or channel stands
//! for all of the other's.

use super::add;
use super::copy::CopyOp;
use super::flatten;
use super::gate::GateOp;
use super::lowering::{Current, LayerError, Lowering, Place, describe};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ActShape, Arithmetic, ShapeError, arithmetic};

/// Adds `kind` of several values to the network, from the first to the last.
pub(crate) fn join(
    lowering: &mut Lowering,
    place: &Place,
    kind: Arithmetic,
    inputs: &[Current],
) -> Result<Current, LayerError> {
    let found = inputs.len();
    match kind {
        Arithmetic::Sub | Arithmetic::Div if found != 2 => {
            return Err(place.error(format!("takes two values, found {found}")));
        }
        _ if found < 2 => {
            return Err(place.error(format!("takes two or more values, found {found}")));
        }
        _ => {}
    }
    let mut joined = inputs[0];
    for other in &inputs[1..] {
        lowering.count(place)?;
        joined = pair(lowering, place, kind, joined, *other)?;
    }
    Ok(joined)
}

/// Two values as an operation can read them: not one value twice, and vectors of one shape.
pub(super) fn two_values(
    lowering: &mut Lowering,
    place: &Place,
    mut a: Current,
    mut b: Current,
) -> Result<(Current, Current), LayerError> {
    if a.flat != b.flat {
        return Err(place.error(format!(
            "one value is {} and another {}: maps and vectors do not mix",
            describe(lowering.shape(a), a.flat),
            describe(lowering.shape(b), b.flat)
        )));
    }
    let size = |lowering: &Lowering, x| {
        let shape = lowering.shape(x);
        (shape.h, shape.w)
    };
    if a.flat && size(lowering, a) != size(lowering, b) {
        a = flatten::one_pixel(lowering, place, a);
        b = flatten::one_pixel(lowering, place, b);
    }
    if a.value == b.value {
        b = lowering.same_shape(place, CopyOp, a);
    }
    Ok((a, b))
}

fn pair(
    lowering: &mut Lowering,
    place: &Place,
    kind: Arithmetic,
    a: Current,
    b: Current,
) -> Result<Current, LayerError> {
    let (mut a, mut b) = two_values(lowering, place, a, b)?;
    if a.flat && lowering.shape(a) != lowering.shape(b) {
        a = flatten::one_pixel(lowering, place, a);
        b = flatten::one_pixel(lowering, place, b);
    }
    let (x, y) = (lowering.shape(a), lowering.shape(b));
    let Some(shape) = arithmetic::joined(x, y) else {
        return Err(place.error(format!(
            "one value is {} and another {}: each side must be the same, or 1",
            describe(x, a.flat),
            describe(y, b.flat)
        )));
    };
    shape
        .check("its output")
        .map_err(|e| place.error(e.to_string()))?;
    if kind == Arithmetic::Add && x == y {
        // The sum is fused into the norm that ends either side.
        let swapped = lowering.made_for_this(b).is_some();
        let (body, residual) = if swapped { (b, a) } else { (a, b) };
        return Ok(add::sum(lowering, place, body, residual));
    }
    if kind == Arithmetic::Mul && !a.flat && shape.pixels() > 1 {
        let factors = ActShape::new(1, 1, shape.c);
        for (map, gate) in [(a, b), (b, a)] {
            if lowering.shape(map) == shape && lowering.shape(gate) == factors {
                let other = gate.value;
                return Ok(lowering.same_shape(place, GateOp { other }, map));
            }
        }
    }
    let op = ArithmeticOp {
        kind,
        other: b.value,
    };
    Ok(lowering.node(place, op, a.value, shape, a.flat))
}

/// Arithmetic of the input and another value.
#[derive(Clone, Debug)]
pub(crate) struct ArithmeticOp {
    kind: Arithmetic,
    other: ValueId,
}

impl Operation for ArithmeticOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = format!("{:?}", self.kind).to_lowercase();
        Work::new(name, shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        Some(self.other)
    }

    fn backward_reads(&self) -> Reads {
        Reads {
            input: self.kind.reads_values(),
            other: self.kind.reads_values(),
            output: false,
        }
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        let (a, b) = ((pass.shapes.input, pass.x), (pass.shapes.other, pass.other));
        arithmetic::forward(pass.ctx, pass.n, self.kind, a, b, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        let (a, b) = ((pass.shapes.input, pass.x), (pass.shapes.other, pass.other));
        for (of_first, gradient) in [(true, pass.dx), (false, pass.dother)] {
            if let Some(dx) = gradient {
                arithmetic::backward(pass.ctx, pass.n, self.kind, a, b, pass.dy, of_first, dx);
            }
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let (a, b) = ((pass.shapes.input, pass.x), (pass.shapes.other, pass.other));
        arithmetic::forward(pass.ctx, pass.n, self.kind, a, b, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (a, b, flat) = writer.alike(at.input, self.other);
        let op = match self.kind {
            Arithmetic::Add => "Add",
            Arithmetic::Sub => "Sub",
            Arithmetic::Mul => "Mul",
            Arithmetic::Div => "Div",
            Arithmetic::Maximum => "Max",
            Arithmetic::Minimum => "Min",
        };
        let name = writer.op(op, at.layer, &[&a, &b], vec![]);
        Ok(Value { name, flat })
    }
}
