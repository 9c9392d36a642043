//! Maximum over a window.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use super::pooling::{self, Window};
use crate::spec::values::{self, Padding, Pair};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{PoolShape, ShapeError, max_pool};
use serde::{Deserialize, Serialize};

/// Settings of a max pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between windows; the window itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Padding: at most half the window where opposite sides have as much, else less than the window.
    #[serde(default, skip_serializing_if = "Padding::is_zero")]
    pub padding: Padding,
    /// Distance between cells of the window.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub dilation: Pair,
    /// Whether pixels that fill no whole step get a last window.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub ceil_mode: bool,
}

/// Adds a max pooling to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &Pool2d,
    x: Current,
) -> Result<Current, LayerError> {
    let window = Window {
        kernel: l.kernel,
        stride: l.stride,
        padding: l.padding,
        dilation: l.dilation,
        ceil_mode: l.ceil_mode,
    };
    let out = pooling::lower(lowering, place, window, x, MaxPoolOp)?;
    max_pool::check_window(l.kernel.0).map_err(|e| place.error(e.to_string()))?;
    Ok(out)
}

/// Max pooling.
#[derive(Clone, Debug)]
pub(crate) struct MaxPoolOp(pub PoolShape);

impl Operation for MaxPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        pooling::work("max_pool2d", &self.0, shapes.output)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    /// It keeps the place of each maximum instead.
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        let indices = if planning.training {
            max_pool::indices_len(planning.batch, planning.shapes.output)
        } else {
            0
        };
        Ok(Needs {
            indices,
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let indices = Some(pass.indices);
        max_pool::forward(pass.ctx, pass.n, &self.0, pass.x, pass.y, indices);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            max_pool::backward(pass.ctx, pass.n, &self.0, pass.dy, pass.indices, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        max_pool::forward(pass.ctx, pass.n, &self.0, pass.x, pass.y, None);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let attributes = pooling::attributes(&self.0);
        Ok(Value::map(writer.op(
            "MaxPool",
            at.layer,
            &[&x],
            attributes,
        )))
    }
}
