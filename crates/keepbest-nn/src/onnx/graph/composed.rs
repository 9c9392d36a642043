//! Layers that ONNX has no single operation for, or one with constants.

use super::{Builder, ints, pads, tensor};
use crate::network::ChannelNorm;
use keepbest_formats::Tensor;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::Pointwise;

impl Builder<'_> {
    /// A constant that is made once, whoever asks for it.
    fn constant(
        &mut self,
        name: &str,
        value: impl FnOnce() -> Tensor,
    ) -> Result<String, OnnxError> {
        if self.constants.insert(name.to_owned()) {
            self.graph.initializer(name, value())?;
        }
        Ok(name.to_owned())
    }

    pub(super) fn pointwise(
        &mut self,
        layer: &str,
        kind: Pointwise,
        x: &str,
    ) -> Result<String, OnnxError> {
        Ok(match kind {
            Pointwise::Relu6 => {
                let low = self.constant("relu6.low", || tensor(&[], &[0.0]))?;
                let high = self.constant("relu6.high", || tensor(&[], &[6.0]))?;
                self.op("Clip", layer, &[x, &low, &high], vec![])
            }
            Pointwise::Sigmoid => self.op("Sigmoid", layer, &[x], vec![]),
            Pointwise::Silu => {
                let sigmoid = self.op("Sigmoid", layer, &[x], vec![]);
                self.op("Mul", layer, &[x, &sigmoid], vec![])
            }
            Pointwise::Hardsigmoid => {
                let alpha = vec![
                    ("alpha", Attribute::Float(1.0 / 6.0)),
                    ("beta", Attribute::Float(0.5)),
                ];
                self.op("HardSigmoid", layer, &[x], alpha)
            }
            Pointwise::Hardswish => self.op("HardSwish", layer, &[x], vec![]),
            Pointwise::Gelu => self.op("Gelu", layer, &[x], vec![]),
        })
    }

    /// ONNX normalises the last axes: channels go there and back.
    pub(super) fn layer_norm(
        &mut self,
        layer: &str,
        norm: &ChannelNorm,
        x: &str,
    ) -> Result<String, OnnxError> {
        let (scale, bias) = (self.initializer(norm.weight)?, self.initializer(norm.bias)?);
        let perm = |axes: [usize; 4]| vec![("perm", ints(&axes))];
        let x = self.op("Transpose", layer, &[x], perm([0, 2, 3, 1]));
        let attributes = vec![
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(norm.eps as f32)),
        ];
        let y = self.op(
            "LayerNormalization",
            layer,
            &[&x, &scale, &bias],
            attributes,
        );
        Ok(self.op("Transpose", layer, &[&y], perm([0, 3, 1, 2])))
    }

    /// Where the output's sides divide the input's, windows of one size. Else a product with a matrix of means on each
    /// side, for ONNX has no adaptive pooling.
    pub(super) fn adaptive_avg_pool(
        &mut self,
        layer: &str,
        x: String,
        input: [usize; 2],
        size: [usize; 2],
    ) -> Result<String, OnnxError> {
        if input == size {
            return Ok(x);
        }
        if (0..2).all(|axis| input[axis].is_multiple_of(size[axis])) {
            let kernel = [input[0] / size[0], input[1] / size[1]];
            let attributes = vec![
                ("kernel_shape", ints(&kernel)),
                ("strides", ints(&kernel)),
                ("pads", pads([0, 0])),
            ];
            return Ok(self.op("AveragePool", layer, &[&x], attributes));
        }
        let name = |side: &str| format!("{layer}.{side}_means");
        let (rows, columns) = (means(input[0], size[0]), means(input[1], size[1]));
        let rows = self
            .graph
            .initializer(name("row"), tensor(&[size[0], input[0]], &rows))?;
        let columns = transposed(&columns, input[1]);
        let columns = self
            .graph
            .initializer(name("column"), tensor(&[input[1], size[1]], &columns))?;
        let x = self.op("MatMul", layer, &[&rows, &x], vec![]);
        Ok(self.op("MatMul", layer, &[&x, &columns], vec![]))
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
