//! Mean over windows that share the map out.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, ints, pads, tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::Pair;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ActShape, Padding, ShapeError, adaptive_avg_pool};
use serde::{Deserialize, Serialize};

/// Sides of the output at most.
const MAX_SIDE: usize = 4096;

/// Settings of an adaptive average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rows and columns of the output.
    pub size: Pair,
}

/// Adds an adaptive average pooling to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &AdaptiveAvgPool2d,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let [h, w] = l.size.0;
    let out = ActShape { h, w, c: shape.c };
    if out.is_empty() || h.max(w) > MAX_SIDE {
        let problem = format!("size must be within 1 and {MAX_SIDE}, found {h} x {w}");
        return Err(place.error(problem));
    }
    let op = AdaptiveAvgPoolOp { size: l.size.0 };
    Ok(lowering.node(place, op, x.value, out, false))
}

/// Adaptive average pooling to a number of rows and columns.
#[derive(Clone, Debug)]
pub(crate) struct AdaptiveAvgPoolOp {
    size: [usize; 2],
}

impl Operation for AdaptiveAvgPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let [h, w] = self.size;
        let flops = shapes.output.values().max(shapes.input.values());
        Work::new(format!("adaptive_avg_pool2d {h}x{w}"), flops as u64)
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
        let input = pass.shapes.input;
        adaptive_avg_pool::forward(pass.ctx, pass.n, input, self.size, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let input = pass.shapes.input;
            adaptive_avg_pool::backward(pass.ctx, pass.n, input, self.size, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let input = pass.shapes.input;
        adaptive_avg_pool::forward(pass.ctx, pass.n, input, self.size, pass.x, pass.y);
    }

    /// Where the output's sides divide the input's, windows of one size. Else a product with a matrix of means on each side,
    /// for ONNX has no adaptive pooling.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let (layer, size) = (at.layer, self.size);
        let input = [at.shapes.input.h, at.shapes.input.w];
        if input == size {
            return Ok(Value::map(x));
        }
        if (0..2).all(|axis| input[axis].is_multiple_of(size[axis])) {
            let kernel = [input[0] / size[0], input[1] / size[1]];
            let attributes = vec![
                ("kernel_shape", ints(&kernel)),
                ("strides", ints(&kernel)),
                ("pads", pads(Padding::NONE)),
            ];
            return Ok(Value::map(writer.op(
                "AveragePool",
                layer,
                &[&x],
                attributes,
            )));
        }
        let name = |side: &str| format!("{layer}.{side}_means");
        let rows = tensor(&[size[0], input[0]], &means(input[0], size[0]));
        let rows = writer.graph.initializer(name("row"), rows)?;
        let columns = transposed(&means(input[1], size[1]), input[1]);
        let columns = tensor(&[input[1], size[1]], &columns);
        let columns = writer.graph.initializer(name("column"), columns)?;
        let x = writer.op("MatMul", layer, &[&rows, &x], vec![]);
        Ok(Value::map(writer.op(
            "MatMul",
            layer,
            &[&x, &columns],
            vec![],
        )))
    }
}

/// The matrix `[output, input]` whose rows take the mean of the inputs of each window.
fn means(input: usize, output: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; output * input];
    for (i, row) in matrix.chunks_exact_mut(input).enumerate() {
        let window = i * input / output..((i + 1) * input).div_ceil(output);
        let share = 1.0 / window.len() as f32;
        row[window].fill(share);
    }
    matrix
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| matrix.iter().skip(column).step_by(columns).copied())
        .collect()
}
