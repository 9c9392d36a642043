//! 2-d convolution, and a linear layer as one.
//!
//! A linear layer over a flattened map is a convolution whose window is the whole map, and PyTorch's `[out, C*H*W]` weight is
//! that convolution's `[out, C, H, W]`.

use super::batch_norm::{BatchNormOp, fixed_map};
use super::lowering::{Current, LayerError, Lowering, Place, describe};
use super::norm_affine::NormAffine;
use super::onnx::{Value, Writer, ints, pads, tensor};
use super::operation::{
    At, Backward, FixedNorm, Forward, Learned, Needs, Operation, ParamId, Planning, Predict,
    Prepared, Preparing, Reads, Shapes, ValueId, Weights, Work, as_a,
};
use super::relu::ReluOp;
use super::standardize::{Standardize, Standardized};
use crate::params::{Role, Start};
use crate::spec::values::{self, Init, Padding, Pair};
use keepbest_formats::Tensor;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{Buffer, Context, ConvPlan, ConvShape, Epilogue, ShapeError};
use serde::{Deserialize, Serialize};

/// Settings of a convolution. Input channels come from the layer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Output channels.
    pub out: usize,
    /// Window, rows and columns.
    pub kernel: Pair,
    /// Step between windows.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub stride: Pair,
    /// Zeros around the image.
    #[serde(default, skip_serializing_if = "Padding::is_zero")]
    pub padding: Padding,
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
    /// How the weights are standardised before they are used; not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standardize: Option<Standardize>,
}

/// Settings of a fully connected layer. Input features come from the layer before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Output features.
    pub out: usize,
    /// Whether there is a bias.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub bias: bool,
    /// Whether it maps the channels of each pixel of a map, rather than one vector.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub per_pixel: bool,
    /// The values that the weights start with.
    #[serde(default, skip_serializing_if = "Init::is_default")]
    pub init: Init,
    /// Whether the bias starts at zero, rather than as PyTorch's does.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub zero_bias: bool,
}

/// Adds a convolution to the network.
pub(crate) fn lower_conv(
    lowering: &mut Lowering,
    place: &Place,
    l: &Conv2d,
    x: Current,
) -> Result<Current, LayerError> {
    let input = lowering.map(place, x)?;
    if l.groups == 0 || !input.c.is_multiple_of(l.groups) || !l.out.is_multiple_of(l.groups) {
        return Err(place.error(format!(
            "input channels ({}) and output channels ({}) must be multiples of groups ({})",
            input.c, l.out, l.groups
        )));
    }
    let shape = ConvShape {
        input,
        out_channels: l.out,
        kernel: l.kernel.0,
        stride: l.stride.0,
        padding: l
            .padding
            .around(input, l.kernel.0, l.stride.0, l.dilation.0),
        dilation: l.dilation.0,
        groups: l.groups,
    };
    // Before anything is multiplied: what they let through is small enough for that.
    check_out(place, l.out)?;
    shape.output().map_err(|e| place.error(e.to_string()))?;
    let per_group = input.c / l.groups;
    let taps = l.kernel.0[0] * l.kernel.0[1];
    let start = Starts {
        init: l.init,
        bias: l.bias,
        zero_bias: l.zero_bias,
        fan_in: per_group * taps,
        fan_out: l.out * taps,
    };
    let weight_shape = [l.out, per_group, l.kernel.0[0], l.kernel.0[1]];
    let standardize = l.standardize.as_ref();
    convolution(
        lowering,
        place,
        x,
        shape,
        &weight_shape,
        &start,
        standardize,
        false,
    )
}

/// Adds a fully connected layer to the network.
pub(crate) fn lower_linear(
    lowering: &mut Lowering,
    place: &Place,
    l: &Linear,
    x: Current,
) -> Result<Current, LayerError> {
    let input = if l.per_pixel {
        lowering.map(place, x)?
    } else {
        lowering.shape(x)
    };
    if !x.flat && !l.per_pixel {
        return Err(place.error(format!(
            "needs a vector, found {}; put a flatten layer before it, or say per_pixel = true",
            describe(input, false)
        )));
    }
    let kernel = if l.per_pixel {
        [1, 1]
    } else {
        [input.h, input.w]
    };
    check_out(place, l.out)?;
    let features = input.c * kernel[0] * kernel[1];
    let shape = ConvShape {
        input,
        out_channels: l.out,
        kernel,
        stride: [1, 1],
        padding: keepbest_kernels::Padding::NONE,
        dilation: [1, 1],
        groups: 1,
    };
    let start = Starts {
        init: l.init,
        bias: l.bias,
        zero_bias: l.zero_bias,
        fan_in: features,
        fan_out: l.out,
    };
    let weight_shape = [l.out, features];
    convolution(
        lowering,
        place,
        x,
        shape,
        &weight_shape,
        &start,
        None,
        !l.per_pixel,
    )
}

/// Outputs of a layer at most.
const MAX_OUT: usize = 1 << 24;

pub(super) fn check_out(place: &Place, out: usize) -> Result<(), LayerError> {
    if out <= MAX_OUT {
        Ok(())
    } else {
        Err(place.error(format!("out must be at most {MAX_OUT}, found {out}")))
    }
}

/// The values that the weights and, where there is one, the bias start with.
pub(super) struct Starts {
    pub init: Init,
    pub bias: bool,
    pub zero_bias: bool,
    pub fan_in: usize,
    pub fan_out: usize,
}

impl Starts {
    pub(super) fn check(&self, place: &Place) -> Result<(), LayerError> {
        if let Init::Normal(size) | Init::Uniform(size) = self.init
            && !(size >= 0.0 && size.is_finite())
        {
            return Err(place.error(format!("init must be at least 0 and finite, found {size}")));
        }
        Ok(())
    }

    pub(super) fn weight(&self) -> Start {
        match self.init {
            Init::Default => Start::uniform_fan_in(self.fan_in),
            Init::KaimingNormalFanOut => Start::kaiming_normal(self.fan_out),
            Init::KaimingNormalFanIn => Start::kaiming_normal(self.fan_in),
            Init::Normal(deviation) => Start::Normal { deviation },
            Init::Uniform(bound) => Start::Uniform { bound },
        }
    }

    pub(super) fn bias(&self) -> Option<Start> {
        let start = if self.zero_bias {
            Start::Constant(0.0)
        } else {
            Start::uniform_fan_in(self.fan_in)
        };
        self.bias.then_some(start)
    }
}

#[allow(clippy::too_many_arguments)]
fn convolution(
    lowering: &mut Lowering,
    place: &Place,
    x: Current,
    shape: ConvShape,
    weight_shape: &[usize],
    starts: &Starts,
    standardize: Option<&Standardize>,
    linear: bool,
) -> Result<Current, LayerError> {
    starts.check(place)?;
    let out = shape.output().map_err(|e| place.error(e.to_string()))?;
    let role = Role::Trained;
    let weight = lowering.param(place, "weight", weight_shape, role, starts.weight())?;
    let bias = match starts.bias() {
        Some(start) => Some(lowering.param(place, "bias", &[shape.out_channels], role, start)?),
        None => None,
    };
    let standardize = match standardize {
        Some(l) => Some(Standardized::new(lowering, place, l, shape.out_channels)?),
        None => None,
    };
    let op = ConvOp {
        shape,
        standardize,
        weight,
        bias,
        linear,
        then: Then::Nothing,
    };
    Ok(lowering.node(place, op, x.value, out, linear))
}

/// Convolution, or a linear layer as one.
#[derive(Clone, Debug)]
pub(crate) struct ConvOp {
    pub shape: ConvShape,
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    pub standardize: Option<Standardized>,
    pub linear: bool,
    /// What was the next operation, when this one takes it along.
    pub then: Then,
}

/// What a convolution does to its sums before it stores them.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Nothing,
    /// A batch norm with fixed statistics, its residual and its ReLU.
    BatchNorm(BatchNormOp),
    Relu,
}

impl Then {
    fn batch_norm(&self) -> Option<&BatchNormOp> {
        match self {
            Then::BatchNorm(norm) => Some(norm),
            Then::Nothing | Then::Relu => None,
        }
    }
}

impl ConvOp {
    fn plan<'a>(&self, conv: Option<&'a ConvPlan>) -> &'a ConvPlan {
        conv.expect("a convolution has its plan")
    }

    /// Floats of scratch for weights that are not used as they are.
    fn spare_len(&self) -> usize {
        if self.standardize.is_some() {
            self.shape.weight_len()
        } else {
            0
        }
    }

    /// The weights as they are used, in `spare` where they are not used as they are.
    fn kernel<'a>(&self, ctx: &Context, weights: Weights<'a>, spare: &'a mut [f32]) -> &'a [f32] {
        match &self.standardize {
            Some(standardize) => standardize.forward(ctx, weights, self.weight, spare),
            None => weights.of(self.weight),
        }
    }

    /// The values of [`kernel`](Self::kernel), for a file.
    fn written(&self, writer: &Writer<'_>) -> Vec<f32> {
        match &self.standardize {
            Some(standardize) => standardize.written(writer, self.weight),
            None => writer.floats(self.weight),
        }
    }
}

impl Operation for ConvOp {
    fn summary(&self, _: Shapes) -> Work {
        let [kh, kw] = self.shape.kernel;
        let name = if self.linear {
            "linear".to_owned()
        } else {
            format!("conv2d {kh}x{kw}")
        };
        Work::new(name, self.shape.flops_per_image())
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [
                Some(self.weight),
                self.bias,
                self.standardize.and_then(|standardize| standardize.gain),
            ],
            with_input: false,
        }
    }

    fn other(&self) -> Option<ValueId> {
        self.then.batch_norm().and_then(|norm| norm.residual)
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
        let conv = ConvPlan::for_training(&self.shape, batch, ctx)?;
        let of_weights = conv.weight_gradient_scratch_len(ctx.pool().threads());
        // Standardised weights come first.
        let spare = self.spare_len();
        Ok(Needs {
            forward_scratch: spare + conv.packed_forward_len(),
            backward_scratch: spare + conv.packed_backward_len().max(of_weights),
            conv: Some(conv),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, weights) = (pass.ctx, pass.weights);
        let conv = self.plan(pass.conv);
        let (spare, scratch) = pass.scratch.split_at_mut(self.spare_len());
        let packed = conv.pack_forward(ctx, self.kernel(ctx, weights, spare), scratch);
        let bias = self.bias.map(|id| weights.of(id));
        conv.forward(ctx, pass.n, pass.x, packed, bias.into(), pass.y);
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
        let (spare, scratch) = scratch.split_at_mut(self.spare_len());
        let learns = match &self.standardize {
            Some(standardize) => standardize.learns(rates, self.weight),
            None => !rates.frozen(self.weight),
        };
        if learns {
            let gradient = gradients.of(self.weight);
            conv.backward_weights(ctx, n, x, dy, scratch, gradient);
            if let Some(standardize) = &self.standardize {
                standardize.backward(ctx, pass.weights, rates, &mut gradients, self.weight);
            }
        }
        if let Some(bias) = self.bias
            && !rates.frozen(bias)
        {
            conv.backward_bias(ctx, n, dy, scratch, gradients.of(bias));
        }
        if let Some(dx) = pass.dx {
            let kernel = self.kernel(ctx, pass.weights, spare);
            let packed = conv.pack_backward(ctx, kernel, scratch);
            conv.backward_data(ctx, n, dy, packed, dx);
        }
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        let (ctx, weights) = (from.ctx, from.weights);
        let conv = self.plan(from.conv);
        let mut spare = vec![0.0; self.spare_len()];
        let own = self.kernel(ctx, weights, &mut spare);
        let bias = self.bias.map(|id| weights.of(id));
        let packed = prepared
            .packed
            .get_or_insert_with(|| Buffer::zeroed(conv.packed_forward_len()));
        let Some(norm) = self.then.batch_norm() else {
            conv.pack_forward(ctx, own, packed);
            prepared.shift = bias.unwrap_or_default().to_vec();
            return;
        };
        let (scale, mut shift) = fixed_map(&norm.norm, weights);
        conv.pack_forward(ctx, &scaled(own, &scale), packed);
        for ((shift, scale), bias) in shift.iter_mut().zip(&scale).zip(bias.into_iter().flatten()) {
            *shift = bias.mul_add(*scale, *shift);
        }
        prepared.shift = shift;
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { packed, shift, .. } = pass.prepared;
        let packed = packed.as_ref().expect("weights are prepared before use");
        let relu = match &self.then {
            Then::BatchNorm(norm) => norm.relu,
            Then::Relu => true,
            Then::Nothing => false,
        };
        let epilogue = Epilogue {
            bias: (!shift.is_empty()).then_some(shift),
            residual: self.other().map(|_| pass.other),
            relu,
        };
        let conv = self.plan(pass.conv);
        conv.forward(pass.ctx, pass.n, pass.x, packed, epilogue, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        if self.linear {
            let mut inputs = vec![writer.flat(at.input), writer.initializer(self.weight)?];
            if let Some(bias) = self.bias {
                inputs.push(writer.initializer(bias)?);
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let transposed = vec![("transB", Attribute::Int(1))];
            return Ok(Value {
                name: writer.op("Gemm", at.layer, &inputs, transposed),
                flat: true,
            });
        }
        let mut inputs = vec![writer.value(at.input).name];
        match writer.folded(at.output) {
            Some(norm) => inputs.extend(self.folded_weights(writer, at.layer, norm)?),
            None => {
                inputs.push(self.initializer(writer)?);
                if let Some(bias) = self.bias {
                    inputs.push(writer.initializer(bias)?);
                }
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = attributes(&self.shape);
        Ok(Value::map(writer.op("Conv", at.layer, &inputs, attributes)))
    }

    /// Its two gradients are each as much work as its forward pass.
    fn backward_flops(&self, forward: u64, through: bool) -> u64 {
        forward * (1 + u64::from(through))
    }

    fn folds_norm(&self) -> bool {
        !self.linear
    }

    /// One pass over memory less, and the norm's arithmetic becomes part of the weights.
    fn join_in_inference(&mut self, next: &dyn Operation) -> bool {
        if !matches!(self.then, Then::Nothing) {
            return false;
        }
        if let Some(norm) = as_a::<BatchNormOp>(next) {
            self.then = Then::BatchNorm(norm.clone());
        } else if as_a::<ReluOp>(next).is_some() {
            self.then = Then::Relu;
        } else {
            return false;
        }
        true
    }
}

impl ConvOp {
    /// The weights as ONNX has them; those of a linear layer at each pixel have PyTorch's `[out, in]`.
    fn initializer(&self, writer: &mut Writer<'_>) -> Result<String, OnnxError> {
        let shape = kernel_shape(writer.param(self.weight).1);
        if self.standardize.is_none() {
            return writer.reshaped(self.weight, &shape);
        }
        let values = tensor(&shape, &self.written(writer));
        let name = writer.param(self.weight).0;
        writer.graph.initializer(name, values)
    }

    /// Weight and bias with the norm after it: `w * s` and `(b - mean) * s + beta` with
    /// `s = gamma / sqrt(variance + eps)`, in f64 and rounded once.
    fn folded_weights(
        &self,
        writer: &mut Writer<'_>,
        layer: &str,
        norm: FixedNorm,
    ) -> Result<[String; 2], OnnxError> {
        let [gamma, beta] = NormAffine::from(&norm).floats(writer);
        let (mean, variance) = (writer.floats(norm.mean), writer.floats(norm.variance));
        let own_bias = self.bias.map(|bias| writer.floats(bias));
        let mut weights = self.written(writer);
        let out = gamma.len();
        let each = weights.len() / out;
        let mut biases = Vec::with_capacity(out);
        for c in 0..out {
            let scale = f64::from(gamma[c]) / libm::sqrt(f64::from(variance[c]) + norm.eps);
            for w in &mut weights[c * each..(c + 1) * each] {
                *w = (f64::from(*w) * scale) as f32;
            }
            let bias = own_bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
            biases.push(((bias - f64::from(mean[c])) * scale + f64::from(beta[c])) as f32);
        }
        let shape = kernel_shape(writer.param(self.weight).1);
        let name = format!("{layer}.weight");
        let weight = writer.graph.initializer(name, tensor(&shape, &weights))?;
        let name = format!("{layer}.bias");
        let bias = writer.graph.initializer(name, tensor(&[out], &biases))?;
        Ok([weight, bias])
    }
}

/// Weights, output channel by output channel, times the channel's scale.
fn scaled(weights: &[f32], scale: &[f32]) -> Vec<f32> {
    let channels = weights.chunks_exact(weights.len() / scale.len());
    let scaled = channels
        .zip(scale)
        .flat_map(|(weights, &scale)| weights.iter().map(move |w| w * scale));
    scaled.collect()
}

fn kernel_shape(tensor: &Tensor) -> Vec<usize> {
    let mut shape = tensor.shape().to_vec();
    shape.resize(4, 1);
    shape
}

fn attributes(shape: &ConvShape) -> Vec<(&'static str, Attribute)> {
    vec![
        ("kernel_shape", ints(&shape.kernel)),
        ("strides", ints(&shape.stride)),
        ("pads", pads(shape.padding)),
        ("dilations", ints(&shape.dilation)),
        ("group", Attribute::Int(shape.groups as i64)),
    ]
}
