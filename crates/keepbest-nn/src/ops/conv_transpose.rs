//! Transposed 2-d convolution: the data gradient of a convolution, as a layer.

use super::conv::{Starts, check_out};
use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, ints, pads};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use crate::params::Role;
use crate::spec::values::{self, Init, Padding, Pair};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, Buffer, ConvPlan, ConvShape, Epilogue, ShapeError, reduce};
use serde::{Deserialize, Serialize};

/// Settings of a transposed convolution. Input channels come from the layer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Output channels.
    pub out: usize,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between the windows of neighbouring pixels.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub stride: Pair,
    /// Rows and columns that are left out of the output's sides.
    #[serde(default, skip_serializing_if = "Padding::is_zero")]
    pub padding: Padding,
    /// Further rows below and columns on the right, fewer than the step.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub output_padding: Pair,
    /// Distance between taps of the window.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub dilation: Pair,
    /// Channel groups; input and output channels must be multiples of it.
    #[serde(default = "values::one", skip_serializing_if = "values::is_one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub bias: bool,
    /// The values that the weights start with.
    #[serde(default, skip_serializing_if = "Init::is_default")]
    pub init: Init,
    /// Whether the bias starts at zero, rather than as PyTorch's does.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub zero_bias: bool,
}

/// Adds a transposed convolution to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &ConvTranspose2d,
    x: Current,
) -> Result<Current, LayerError> {
    let input = lowering.map(place, x)?;
    let wrong = |e: ShapeError| place.error(e.to_string());
    check_out(place, l.out)?;
    let Padding::Sides(sides) = l.padding else {
        return Err(place.error("has no padding \"same\": say it in numbers".to_owned()));
    };
    let sizes = [l.kernel.0, l.stride.0, l.dilation.0, l.output_padding.0];
    let most = sizes.as_flattened().iter().chain(&sides).max();
    if most.is_some_and(|&size| size > MAX_SIZE) || sizes[..3].as_flattened().contains(&0) {
        return Err(place.error(format!(
            "kernel, stride and dilation must be 1 to {MAX_SIZE}, and paddings at most that"
        )));
    }
    let mut output = [0; 2];
    for (axis, size) in [input.h, input.w].into_iter().enumerate() {
        let (stride, further) = (l.stride.0[axis], l.output_padding.0[axis]);
        if further >= stride {
            return Err(place.error(format!(
                "output_padding ({further}) must be less than stride ({stride})"
            )));
        }
        let window = l.dilation.0[axis] * (l.kernel.0[axis] - 1) + 1;
        let whole = (size - 1) * stride + window + further;
        let left_out = sides[2 * axis] + sides[2 * axis + 1];
        output[axis] = whole.saturating_sub(left_out);
        if output[axis] == 0 {
            return Err(place.error(format!("padding ({left_out}) leaves nothing of {whole}")));
        }
    }
    let shape = ConvShape {
        input: ActShape::new(output[0], output[1], l.out),
        out_channels: input.c,
        kernel: l.kernel.0,
        stride: l.stride.0,
        padding: l
            .padding
            .around(input, l.kernel.0, l.stride.0, l.dilation.0),
        dilation: l.dilation.0,
        groups: l.groups,
    };
    // The shape that a convolution makes of the output is the input's, and the groups divide both.
    shape.output().map_err(wrong)?;
    let per_group = l.out / l.groups;
    let taps = shape.kernel[0] * shape.kernel[1];
    // PyTorch takes the second side of the weights for the number of inputs here too.
    let starts = Starts {
        init: l.init,
        bias: l.bias,
        zero_bias: l.zero_bias,
        fan_in: per_group * taps,
        fan_out: input.c * taps,
    };
    starts.check(place)?;
    let weight_shape = [input.c, per_group, shape.kernel[0], shape.kernel[1]];
    let role = Role::Trained;
    let weight = lowering.param(place, "weight", &weight_shape, role, starts.weight())?;
    let bias = match starts.bias() {
        Some(start) => Some(lowering.param(place, "bias", &[l.out], role, start)?),
        None => None,
    };
    let op = ConvTransposeOp {
        shape,
        output_padding: l.output_padding.0,
        weight,
        bias,
    };
    Ok(lowering.node(place, op, x.value, shape.input, false))
}

/// Sizes of a window at most.
const MAX_SIZE: usize = 1 << 20;

/// A transposed convolution.
#[derive(Clone, Debug)]
pub(crate) struct ConvTransposeOp {
    /// The convolution that it turns around: from the output to the input.
    shape: ConvShape,
    output_padding: [usize; 2],
    weight: ParamId,
    bias: Option<ParamId>,
}

impl ConvTransposeOp {
    fn plan<'a>(&self, conv: Option<&'a ConvPlan>) -> &'a ConvPlan {
        conv.expect("a convolution has its plan")
    }
}

impl Operation for ConvTransposeOp {
    fn summary(&self, _: Shapes) -> Work {
        let [kh, kw] = self.shape.kernel;
        Work::new(
            format!("conv_transpose2d {kh}x{kw}"),
            self.shape.flops_per_image(),
        )
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), self.bias, None],
            with_input: false,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        let &Planning { ctx, batch, .. } = planning;
        if !planning.training {
            return Ok(Needs {
                conv: Some(ConvPlan::new(&self.shape, batch, ctx)?),
                ..Needs::default()
            });
        }
        let conv = ConvPlan::for_training_transposed(&self.shape, batch, ctx)?;
        let of_weights = conv.weight_gradient_scratch_len(ctx.pool().threads());
        let of_bias = reduce::channel_sums_scratch_len(batch, self.shape.input);
        Ok(Needs {
            forward_scratch: conv.packed_backward_len(),
            backward_scratch: conv.packed_forward_len().max(of_weights).max(of_bias),
            conv: Some(conv),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, weights) = (pass.ctx, pass.weights);
        let conv = self.plan(pass.conv);
        let packed = conv.pack_backward(ctx, weights.of(self.weight), pass.scratch);
        let bias = self.bias.map(|id| weights.of(id));
        conv.transposed(ctx, pass.n, pass.x, packed, bias.into(), pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward {
            ctx,
            n,
            x,
            dy,
            scratch,
            rates,
            mut gradients,
            ..
        } = pass;
        let conv = self.plan(pass.conv);
        if !rates.frozen(self.weight) {
            let gradient = gradients.of(self.weight);
            conv.backward_weights(ctx, n, dy, x, scratch, gradient);
        }
        if let Some(bias) = self.bias
            && !rates.frozen(bias)
        {
            let sums = gradients.of(bias);
            reduce::channel_sums(ctx, n, self.shape.input, dy, scratch, sums);
        }
        if let Some(dx) = pass.dx {
            let packed = conv.pack_forward(ctx, pass.weights.of(self.weight), scratch);
            conv.forward(ctx, n, dy, packed, Epilogue::default(), dx);
        }
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        let conv = self.plan(from.conv);
        let packed = prepared
            .packed
            .get_or_insert_with(|| Buffer::zeroed(conv.packed_backward_len()));
        conv.pack_backward(from.ctx, from.weights.of(self.weight), packed);
        let bias = self.bias.map(|id| from.weights.of(id));
        prepared.shift = bias.unwrap_or_default().to_vec();
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { packed, shift, .. } = pass.prepared;
        let packed = packed.as_ref().expect("weights are prepared before use");
        let bias: Option<&[f32]> = (!shift.is_empty()).then_some(shift);
        let conv = self.plan(pass.conv);
        conv.transposed(pass.ctx, pass.n, pass.x, packed, bias.into(), pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let mut inputs = vec![
            writer.value(at.input).name,
            writer.initializer(self.weight)?,
        ];
        if let Some(bias) = self.bias {
            inputs.push(writer.initializer(bias)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = vec![
            ("kernel_shape", ints(&self.shape.kernel)),
            ("strides", ints(&self.shape.stride)),
            ("pads", pads(self.shape.padding)),
            ("output_padding", ints(&self.output_padding)),
            ("dilations", ints(&self.shape.dilation)),
            ("group", Attribute::Int(self.shape.groups as i64)),
        ];
        let name = writer.op("ConvTranspose", at.layer, &inputs, attributes);
        Ok(Value::map(name))
    }

    /// Its two gradients are each as much work as its forward pass.
    fn backward_flops(&self, forward: u64, through: bool) -> u64 {
        forward * (1 + u64::from(through))
    }
}
