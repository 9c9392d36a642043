//! Convolution along the channels of each pixel: efficient channel attention.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, ints};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use crate::params::{Role, Start};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, ShapeError, channel_conv};
use serde::{Deserialize, Serialize};

/// Settings of a convolution along the channels: parameters `weight` `[1, 1, kernel]` and `bias` `[1]`, as
/// `torch.nn.Conv1d(1, 1, kernel)` over the channels has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConv1d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Taps of the window, an odd number. Half of them may lie outside of the channels.
    pub kernel: usize,
    /// Whether there is a bias.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub bias: bool,
    /// Whether the channels go round, rather than having zeros beyond their ends.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub circular: bool,
}

/// Adds a convolution along the channels to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &ChannelConv1d,
    x: Current,
) -> Result<Current, LayerError> {
    let channels = lowering.map(place, x)?.c;
    let most = 2 * channels - 1;
    if l.kernel.is_multiple_of(2) || l.kernel > most {
        return Err(place.error(format!(
            "kernel must be odd and at most {most} for {channels} channels, found {}",
            l.kernel
        )));
    }
    let start = Start::uniform_fan_in(l.kernel);
    let weight = lowering.param(place, "weight", &[1, 1, l.kernel], Role::Trained, start)?;
    let bias = if l.bias {
        Some(lowering.param(place, "bias", &[1], Role::Trained, start)?)
    } else {
        None
    };
    let op = ChannelConvOp {
        weight,
        bias,
        kernel: l.kernel,
        circular: l.circular,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Convolution along the channels.
#[derive(Clone, Debug)]
pub(crate) struct ChannelConvOp {
    weight: ParamId,
    bias: Option<ParamId>,
    kernel: usize,
    circular: bool,
}

impl Operation for ChannelConvOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let flops = 2 * self.kernel as u64 * shapes.output.values() as u64;
        Work::new(format!("channel_conv1d {}", self.kernel), flops)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), self.bias, None],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs {
            backward_scratch: channel_conv::scratch_len(planning.batch, self.kernel),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, n, shape, weights) = (pass.ctx, pass.n, pass.shapes.output, pass.weights);
        let bias = self.bias.map_or(0.0, |id| weights.of(id)[0]);
        let weight = weights.of(self.weight);
        channel_conv::forward(ctx, n, shape, pass.x, weight, bias, self.circular, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        channel_conv::backward(
            pass.ctx,
            pass.n,
            pass.shapes.output,
            pass.x,
            pass.dy,
            pass.weights.of(self.weight),
            self.circular,
            pass.scratch,
            pass.dx.expect("it comes with the parameters' gradients"),
        );
        let (of_weight, rest) = pass.scratch.split_at(self.kernel);
        pass.gradients.of(self.weight).copy_from_slice(of_weight);
        if let Some(bias) = self.bias {
            pass.gradients.of(bias).copy_from_slice(&rest[..1]);
        }
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale = from.weights.of(self.weight).to_vec();
        prepared.shift = self
            .bias
            .map_or(vec![0.0], |id| from.weights.of(id).to_vec());
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape, bias) = (pass.ctx, pass.n, pass.shapes.output, shift[0]);
        channel_conv::forward(ctx, n, shape, pass.x, scale, bias, self.circular, pass.y);
    }

    /// A convolution of an image whose rows are the channels, and whose columns the pixels.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let (layer, around) = (at.layer, self.kernel / 2);
        let ActShape { h, w, c } = at.shapes.input;
        let image = writer.integers(&[0, 1, c, h * w])?;
        let mut x = writer.op("Reshape", layer, &[&x, &image], vec![]);
        let mut beyond = around;
        if self.circular && around > 0 {
            let sides = writer.integers(&[0, 0, around, 0, 0, 0, around, 0])?;
            let wrap = vec![("mode", Attribute::Text("wrap".to_owned()))];
            x = writer.op("Pad", layer, &[&x, &sides], wrap);
            beyond = 0;
        }
        let mut inputs = vec![x, writer.reshaped(self.weight, &[1, 1, self.kernel, 1])?];
        if let Some(bias) = self.bias {
            inputs.push(writer.initializer(bias)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = vec![
            ("kernel_shape", ints(&[self.kernel, 1])),
            ("pads", ints(&[beyond, 0, beyond, 0])),
        ];
        let y = writer.op("Conv", layer, &inputs, attributes);
        let map = writer.integers(&[0, c, h, w])?;
        Ok(Value::map(writer.op("Reshape", layer, &[&y, &map], vec![])))
    }
}
