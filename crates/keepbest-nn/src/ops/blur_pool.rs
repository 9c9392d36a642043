//! Blurring with a binomial filter and taking every so many pixels.

use super::gather::PadMode;
use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, ints, tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{BlurPool, Border, ShapeError, blur_pool};
use serde::{Deserialize, Serialize};

/// Settings of a blur pooling: timm's `BlurPool2d`, half the window around the map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlurPool2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Taps of the filter, each way.
    #[serde(default = "default_kernel")]
    pub kernel: usize,
    /// Step between windows.
    #[serde(default = "default_stride")]
    pub stride: usize,
    /// What stands outside of the map; `constant` is zeros.
    #[serde(default = "default_mode", skip_serializing_if = "is_default_mode")]
    pub mode: PadMode,
}

fn default_kernel() -> usize {
    3
}

fn default_stride() -> usize {
    2
}

fn default_mode() -> PadMode {
    PadMode::Reflect
}

fn is_default_mode(mode: &PadMode) -> bool {
    *mode == default_mode()
}

/// Adds a blur pooling to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &BlurPool2d,
    x: Current,
) -> Result<Current, LayerError> {
    let border = match l.mode {
        PadMode::Constant => Border::Zero,
        PadMode::Reflect => Border::Reflect,
        PadMode::Edge => Border::Edge,
    };
    let blur = BlurPool::new(lowering.map(place, x)?, l.kernel, l.stride, border);
    let blur = blur.map_err(|e| place.error(e.to_string()))?;
    let out = blur.output();
    Ok(lowering.node(place, BlurPoolOp { blur }, x.value, out, false))
}

/// Blur pooling.
#[derive(Clone, Debug)]
pub(crate) struct BlurPoolOp {
    blur: BlurPool,
}

impl Operation for BlurPoolOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let kernel = self.blur.taps().len();
        let flops = 2 * (kernel * kernel) as u64 * shapes.output.values() as u64;
        Work::new(format!("blur_pool2d {kernel}x{kernel}"), flops)
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
        blur_pool::forward(pass.ctx, pass.n, &self.blur, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            blur_pool::backward(pass.ctx, pass.n, &self.blur, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        blur_pool::forward(pass.ctx, pass.n, &self.blur, pass.x, pass.y);
    }

    /// A convolution of each channel by itself, of a map with its border around it.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let mut x = writer.value(at.input).name;
        let (layer, channels) = (at.layer, at.shapes.input.c);
        let (taps, stride) = (self.blur.taps(), self.blur.stride());
        let (kernel, mut around) = (taps.len(), self.blur.padding());
        let mode = match self.blur.border() {
            Border::Zero => None,
            Border::Reflect => Some("reflect"),
            Border::Edge => Some("edge"),
        };
        if let Some(mode) = mode {
            let sides = writer.integers(&[0, 0, around, around, 0, 0, around, around])?;
            let mode = vec![("mode", Attribute::Text(mode.to_owned()))];
            x = writer.op("Pad", layer, &[&x, &sides], mode);
            around = 0;
        }
        let filter: Vec<f32> = (0..channels * kernel * kernel)
            .map(|i| taps[i / kernel % kernel] * taps[i % kernel])
            .collect();
        let filter = tensor(&[channels, 1, kernel, kernel], &filter);
        let name = format!("{layer}.filt");
        let filter = writer.graph.initializer(name, filter)?;
        let attributes = vec![
            ("kernel_shape", ints(&[kernel; 2])),
            ("strides", ints(&[stride; 2])),
            ("pads", ints(&[around; 4])),
            ("group", Attribute::Int(channels as i64)),
        ];
        Ok(Value::map(writer.op(
            "Conv",
            layer,
            &[&x, &filter],
            attributes,
        )))
    }
}
