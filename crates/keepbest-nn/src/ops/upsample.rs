//! Maps of another size: the nearest pixel of the input, or bilinear interpolation.

use super::gather::{GatherOp, How, all};
use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer, int_tensor, tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values::{self, Factors, Pair};
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, Bilinear, Blend, ShapeError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Settings of a change of size, `torch.nn.Upsample`; smaller is possible too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Factors on rows and columns; either these or the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Factors>,
    /// Rows and columns of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Pair>,
    /// How pixels are made.
    #[serde(default, skip_serializing_if = "UpsampleMode::is_nearest")]
    pub mode: UpsampleMode,
    /// Whether the outermost pixels of both maps lie on each other, rather than their borders; of `bilinear` alone.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub align_corners: bool,
}

/// How pixels of a map of another size are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleMode {
    /// A copy of one pixel.
    #[default]
    Nearest,
    /// Of four pixels, by their distance.
    Bilinear,
}

impl UpsampleMode {
    fn is_nearest(&self) -> bool {
        *self == UpsampleMode::Nearest
    }
}

/// The output's size, as it was said: PyTorch computes coordinates by a factor where one is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Scale([f64; 2]),
    Size([usize; 2]),
}

/// Rows or columns of the output at most.
const MAX_SIDE: usize = 1 << 20;

/// Adds a change of size to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &Upsample,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let input = [shape.h, shape.w];
    let target = match (l.scale, l.size) {
        (Some(Factors(scale)), None) => Target::Scale(scale),
        (None, Some(size)) => Target::Size(size.0),
        _ => {
            return Err(place.error("needs either `scale` or `size`".to_owned()));
        }
    };
    if l.align_corners && l.mode == UpsampleMode::Nearest {
        return Err(place.error("`align_corners` is for the mode `bilinear` alone".to_owned()));
    }
    let output = match target {
        Target::Size(size) => size,
        Target::Scale(scale) => {
            if !scale.iter().all(|s| s.is_finite() && *s > 0.0) {
                return Err(place.error(format!(
                    "scale must be positive and finite, found {scale:?}"
                )));
            }
            // What is too large for a number becomes the largest, which is refused.
            [0, 1].map(|axis| (input[axis] as f64 * scale[axis]) as usize)
        }
    };
    let [h, w] = output;
    if h.min(w) == 0 || h.max(w) > MAX_SIDE {
        let problem = format!("its output must have sides of 1 to {MAX_SIDE}, found {h} x {w}");
        return Err(place.error(problem));
    }
    let out = ActShape::new(h, w, shape.c);
    lowering.list(place, out)?;
    let step = |axis: usize| match target {
        Target::Scale(scale) => (1.0 / scale[axis]) as f32,
        Target::Size(size) => input[axis] as f32 / size[axis] as f32,
    };
    if l.mode == UpsampleMode::Nearest {
        let [_, _, channels] = all(shape);
        let along = |axis: usize| -> Vec<Option<usize>> {
            let step = step(axis);
            let source = |at: usize| ((at as f32 * step) as usize).min(input[axis] - 1);
            (0..output[axis]).map(|at| Some(source(at))).collect()
        };
        let sources = [along(0), along(1), channels];
        let op = GatherOp::new(
            "upsample nearest",
            How::Nearest(target),
            shape,
            sources,
            0.0,
        );
        return Ok(op.add(lowering, place, x));
    }
    let along = |axis: usize| {
        let (size, count) = (input[axis], output[axis]);
        blends(size, count, step(axis), l.align_corners)
    };
    let op = BilinearOp {
        map: Arc::new(Bilinear::new(shape, along(0), along(1))),
        target,
        align_corners: l.align_corners,
    };
    Ok(lowering.node(place, op, x.value, out, false))
}

/// PyTorch's coordinates, in its own arithmetic (`area_pixel_compute_source_index`).
fn blends(size: usize, count: usize, step: f32, align_corners: bool) -> Vec<Blend> {
    let aligned = match count {
        1 => 0.0,
        count => (size - 1) as f32 / (count - 1) as f32,
    };
    let blend = |at: usize| {
        let real = if align_corners {
            aligned * at as f32
        } else {
            (step * (at as f32 + 0.5) - 0.5).max(0.0)
        };
        let low = (real as usize).min(size - 1);
        Blend {
            low,
            high: (low + 1).min(size - 1),
            share: (real - low as f32).clamp(0.0, 1.0),
        }
    };
    (0..count).map(blend).collect()
}

/// Bilinear interpolation.
#[derive(Clone, Debug)]
pub(crate) struct BilinearOp {
    /// Shared by the copies of an operation: it has an entry for each row and column.
    map: Arc<Bilinear>,
    target: Target,
    align_corners: bool,
}

impl Operation for BilinearOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("upsample bilinear", 7 * shapes.output.values() as u64)
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
        self.map.forward(pass.ctx, pass.n, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            self.map.backward(pass.ctx, pass.n, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        self.map.forward(pass.ctx, pass.n, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let coordinates = if self.align_corners {
            "align_corners"
        } else {
            "half_pixel"
        };
        let mode = [
            ("mode", "linear"),
            ("coordinate_transformation_mode", coordinates),
        ];
        let name = resize(writer, at.layer, &x, &self.target, &mode)?;
        Ok(Value::map(name))
    }
}

/// ONNX's `Resize` of rows and columns.
pub(super) fn resize(
    writer: &mut Writer<'_>,
    layer: &str,
    x: &str,
    target: &Target,
    mode: &[(&'static str, &str)],
) -> Result<String, OnnxError> {
    let (scales, sizes) = match target {
        Target::Scale(scale) => {
            let scales = tensor(&[2], &scale.map(|s| s as f32));
            let scales = writer
                .graph
                .initializer(format!("{layer}.scales"), scales)?;
            (scales, None)
        }
        Target::Size(size) => {
            let sizes = int_tensor(size.map(|side| side as i64));
            let sizes = writer.graph.initializer(format!("{layer}.sizes"), sizes)?;
            (String::new(), Some(sizes))
        }
    };
    let mut inputs = vec![x, "", &scales];
    inputs.extend(sizes.as_deref());
    let mut attributes: Vec<(&'static str, Attribute)> = mode
        .iter()
        .map(|&(key, value)| (key, Attribute::Text(value.to_owned())))
        .collect();
    attributes.push(("axes", super::onnx::ints(&[2, 3])));
    Ok(writer.op("Resize", layer, &inputs, attributes))
}
