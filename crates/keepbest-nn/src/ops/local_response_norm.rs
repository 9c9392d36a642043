//! Local response normalisation, of AlexNet and GoogLeNet.

use super::lowering::{Current, LayerError, Lowering, Place, number};
use super::onnx::{Value, Writer, ints};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, ResponseNorm, ShapeError, local_response_norm};
use serde::{Deserialize, Serialize};

/// Settings of a local response normalisation: `x / (k + alpha * mean square)^beta` with the mean over `size` channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Channels of a window.
    pub size: usize,
    /// Factor of the mean square.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// The power.
    #[serde(default = "default_beta")]
    pub beta: f64,
    /// What is added to the mean square.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub k: f64,
}

fn default_alpha() -> f64 {
    1e-4
}

fn default_beta() -> f64 {
    0.75
}

/// Channels of a window at most.
const MAX_SIZE: usize = 1 << 16;

/// Adds a local response norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &LocalResponseNorm,
    x: Current,
) -> Result<Current, LayerError> {
    lowering.map(place, x)?;
    if l.size == 0 || l.size > MAX_SIZE {
        let found = l.size;
        return Err(place.error(format!(
            "size must be within 1 and {MAX_SIZE}, found {found}"
        )));
    }
    let norm = ResponseNorm {
        size: l.size,
        alpha: number(place, "alpha", l.alpha)?,
        beta: number(place, "beta", l.beta)?,
        k: number(place, "k", l.k)?,
    };
    Ok(lowering.same_shape(place, LocalResponseNormOp(norm), x))
}

/// Local response norm.
#[derive(Clone, Debug)]
pub(crate) struct LocalResponseNormOp(ResponseNorm);

impl Operation for LocalResponseNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let size = self.0.size as u64;
        let flops = (2 * size + 4) * shapes.output.values() as u64;
        Work::new(format!("local_response_norm {size}"), flops)
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
        let shape = pass.shapes.output;
        local_response_norm::forward(pass.ctx, pass.n, shape, self.0, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let shape = pass.shapes.output;
            local_response_norm::backward(pass.ctx, pass.n, shape, self.0, pass.x, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        let shape = pass.shapes.output;
        local_response_norm::forward(pass.ctx, pass.n, shape, self.0, pass.x, pass.y);
    }

    /// By parts where the window is even: ONNX's own has its middle elsewhere.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let (x, layer, norm) = (writer.value(at.input).name, at.layer, self.0);
        if !norm.size.is_multiple_of(2) {
            let attributes = vec![
                ("size", Attribute::Int(norm.size as i64)),
                ("alpha", Attribute::Float(norm.alpha)),
                ("beta", Attribute::Float(norm.beta)),
                ("bias", Attribute::Float(norm.k)),
            ];
            return Ok(Value::map(writer.op("LRN", layer, &[&x], attributes)));
        }
        let ActShape { h, w, c } = at.shapes.input;
        let squares = writer.op("Mul", layer, &[&x, &x], vec![]);
        let (image, map) = (
            writer.integers(&[0, 1, c, h * w])?,
            writer.integers(&[0, c, h, w])?,
        );
        let squares = writer.op("Reshape", layer, &[&squares, &image], vec![]);
        let (before, behind) = (norm.size / 2, (norm.size - 1) / 2);
        let sides = writer.integers(&[0, 0, before, 0, 0, 0, behind, 0])?;
        let squares = writer.op("Pad", layer, &[&squares, &sides], vec![]);
        let window = vec![("kernel_shape", ints(&[norm.size, 1]))];
        let mean = writer.op("AveragePool", layer, &[&squares], window);
        let mean = writer.op("Reshape", layer, &[&mean, &map], vec![]);
        let (alpha, k) = (writer.scalar(norm.alpha)?, writer.scalar(norm.k)?);
        let beta = writer.scalar(norm.beta)?;
        let base = writer.op("Mul", layer, &[&mean, &alpha], vec![]);
        let base = writer.op("Add", layer, &[&base, &k], vec![]);
        let divisor = writer.op("Pow", layer, &[&base, &beta], vec![]);
        Ok(Value::map(writer.op("Div", layer, &[&x, &divisor], vec![])))
    }
}
