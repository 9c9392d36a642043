//! Mean over a window.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use super::pooling::{self, Window};
use crate::spec::values::{self, Padding, Pair};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{PoolShape, ShapeError, avg_pool};
use serde::{Deserialize, Serialize};

/// Settings of an average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
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
    /// Whether the zeros of the padding count in the mean.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub count_include_pad: bool,
}

/// Adds an average pooling to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &AvgPool2d,
    x: Current,
) -> Result<Current, LayerError> {
    let window = Window {
        kernel: l.kernel,
        stride: l.stride,
        padding: l.padding,
        dilation: l.dilation,
        ceil_mode: l.ceil_mode,
    };
    let count_include_pad = l.count_include_pad;
    pooling::lower(lowering, place, window, x, |pool| AvgPoolOp {
        pool,
        count_include_pad,
    })
}

/// Average pooling.
#[derive(Clone, Debug)]
pub(crate) struct AvgPoolOp {
    pool: PoolShape,
    count_include_pad: bool,
}

impl Operation for AvgPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        pooling::work("avg_pool2d", &self.pool, shapes.output)
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
        let include = self.count_include_pad;
        avg_pool::forward(pass.ctx, pass.n, &self.pool, include, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let include = self.count_include_pad;
            avg_pool::backward(pass.ctx, pass.n, &self.pool, include, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let include = self.count_include_pad;
        avg_pool::forward(pass.ctx, pass.n, &self.pool, include, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let mut attributes = pooling::attributes(&self.pool);
        let include = Attribute::Int(self.count_include_pad.into());
        attributes.push(("count_include_pad", include));
        Ok(Value::map(writer.op(
            "AveragePool",
            at.layer,
            &[&x],
            attributes,
        )))
    }
}
