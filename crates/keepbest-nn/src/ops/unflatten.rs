//! A vector as a map of channels, in PyTorch's order.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, describe};
use super::onnx::{Value, Writer, int_tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ActShape, ShapeError, flatten as kernel};
use serde::{Deserialize, Serialize};

/// Settings of a vector that becomes a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unflatten {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Channels, rows and columns of the map.
    pub size: [usize; 3],
}

/// Adds the map of a vector to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &Unflatten,
    x: Current,
) -> Result<Current, LayerError> {
    let input = lowering.shape(x);
    if !x.flat {
        return Err(place.error(format!("needs a vector, found {}", describe(input, false))));
    }
    let [c, h, w] = l.size;
    let values = l.size.iter().map(|&side| side as u128);
    if values.fold(1, u128::saturating_mul) != input.values() as u128 {
        return Err(place.error(format!(
            "{} does not become {c} channels of {h} x {w}",
            describe(input, true)
        )));
    }
    let x = flatten::one_pixel(lowering, place, x);
    let shape = ActShape::new(h, w, c);
    Ok(lowering.node(place, UnflattenOp, x.value, shape, false))
}

/// A vector as a map.
#[derive(Clone, Debug)]
pub(crate) struct UnflattenOp;

impl Operation for UnflattenOp {
    fn summary(&self, _: Shapes) -> Work {
        Work::new("unflatten", 0)
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
        kernel::backward(pass.ctx, pass.n, pass.shapes.output, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            kernel::forward(pass.ctx, pass.n, pass.shapes.output, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        kernel::backward(pass.ctx, pass.n, pass.shapes.output, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.flat(at.input);
        let ActShape { h, w, c } = at.shapes.output;
        // The batch stays as it is.
        let size = int_tensor([0, c as i64, h as i64, w as i64]);
        let size = writer
            .graph
            .initializer(format!("{}.size", at.layer), size)?;
        let name = writer.op("Reshape", at.layer, &[&x, &size], vec![]);
        Ok(Value::map(name))
    }
}
