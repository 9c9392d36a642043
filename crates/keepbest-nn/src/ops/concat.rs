//! The channels of `input`, then those of `other`.

use super::arithmetic::two_values;
use super::lowering::{Current, LayerError, Lowering, Place, describe};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, concat};
use std::collections::BTreeMap;

/// Concatenations that there are already, by their two parts.
pub(crate) type Known = BTreeMap<(ValueId, ValueId), Current>;

/// Adds a concatenation of several values to the network: of the channels of maps, or the features of vectors. Where another one
/// begins with the same values, it goes on from there.
pub(crate) fn join(
    lowering: &mut Lowering,
    place: &Place,
    inputs: &[Current],
    known: &mut Known,
) -> Result<Current, LayerError> {
    let &[mut joined, ref rest @ ..] = inputs else {
        return Err(place.error("takes two or more values, found none".to_owned()));
    };
    if rest.is_empty() {
        return Err(place.error("takes two or more values, found 1".to_owned()));
    }
    for end in rest {
        lowering.count(place)?;
        let (a, b) = two_values(lowering, place, joined, *end)?;
        let (x, y) = (lowering.shape(a), lowering.shape(b));
        if (x.h, x.w) != (y.h, y.w) {
            return Err(place.error(format!(
                "one value is {} and another {}: their sizes must be the same",
                describe(x, false),
                describe(y, false)
            )));
        }
        concat::joined(x, y)
            .check("its output")
            .map_err(|e| place.error(e.to_string()))?;
        joined = match known.get(&(a.value, b.value)) {
            Some(&both) => {
                lowering.share(both);
                both
            }
            None => pair(lowering, place, a, b),
        };
        known.insert((a.value, b.value), joined);
    }
    Ok(joined)
}

/// The channels of `a`, then those of `b`, which is as large.
pub(crate) fn pair(lowering: &mut Lowering, place: &Place, a: Current, b: Current) -> Current {
    let op = ConcatOp { other: b.value };
    let shape = concat::joined(lowering.shape(a), lowering.shape(b));
    lowering.node(place, op, a.value, shape, a.flat)
}

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
        let (x, other, flat) = writer.alike(at.input, self.other);
        let axis = vec![("axis", Attribute::Int(1))];
        let name = writer.op("Concat", at.layer, &[&x, &other], axis);
        Ok(Value { name, flat })
    }
}
