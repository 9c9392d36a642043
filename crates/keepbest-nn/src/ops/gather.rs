//! Rows, columns and channels of a map in another order, left out, repeated or surrounded.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, describe};
use super::onnx::{Value, Writer, int_tensor, tensor};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ActShape, Gather, ShapeError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Settings of a slice of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSlice {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first channel, or feature of a vector.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub start: usize,
    /// The channel behind the last; all that there are when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<usize>,
}

/// Settings of a channel shuffle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelShuffle {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Groups of channels, from which one is taken in turn.
    pub groups: usize,
}

/// Settings of a crop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rows to leave out above.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub top: usize,
    /// Rows to leave out below.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub bottom: usize,
    /// Columns to leave out on the left.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub left: usize,
    /// Columns to leave out on the right.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub right: usize,
}

/// Settings of a border.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rows above.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub top: usize,
    /// Rows below.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub bottom: usize,
    /// Columns on the left.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub left: usize,
    /// Columns on the right.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub right: usize,
    /// What the border is of.
    #[serde(default, skip_serializing_if = "PadMode::is_constant")]
    pub mode: PadMode,
    /// The value of a constant border.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value: f64,
}

/// What a border is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// One value.
    #[default]
    Constant,
    /// The map mirrored at its outermost pixels, which are not repeated.
    Reflect,
    /// The outermost pixels, PyTorch's `replicate`.
    Edge,
}

impl PadMode {
    fn is_constant(&self) -> bool {
        *self == PadMode::Constant
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Adds a slice of channels, or of a vector's features, to the network.
pub(crate) fn lower_slice(
    lowering: &mut Lowering,
    place: &Place,
    l: &ChannelSlice,
    x: Current,
) -> Result<Current, LayerError> {
    let whole = lowering.shape(x);
    let channels = if x.flat { whole.values() } else { whole.c };
    let (start, end) = (l.start, l.end.unwrap_or(channels));
    if start >= end || end > channels {
        return Err(place.error(format!(
            "start ({start}) must be below end ({end}), and end at most {channels}, the channels there are"
        )));
    }
    // A vector of a map lies in another order than it is read in.
    let x = if x.flat {
        flatten::one_pixel(lowering, place, x)
    } else {
        x
    };
    let ActShape { h, w, .. } = lowering.shape(x);
    lowering.list(place, ActShape::new(h, w, end - start))?;
    let [rows, columns, _] = all(lowering.shape(x));
    let channels = (start..end).map(Some).collect();
    let how = How::Slice {
        axes: vec![1],
        starts: vec![start],
        ends: vec![end],
    };
    let op = GatherOp::new(
        "channel_slice",
        how,
        lowering.shape(x),
        [rows, columns, channels],
        0.0,
    );
    Ok(op.add(lowering, place, x))
}

/// Adds a channel shuffle to the network.
pub(crate) fn lower_shuffle(
    lowering: &mut Lowering,
    place: &Place,
    l: &ChannelShuffle,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let groups = l.groups;
    if groups == 0 || !shape.c.is_multiple_of(groups) {
        return Err(place.error(format!(
            "channels ({}) must be a multiple of groups ({groups})",
            shape.c
        )));
    }
    lowering.list(place, shape)?;
    let each = shape.c / groups;
    let channels = (0..shape.c).map(|c| Some(c % groups * each + c / groups));
    let [rows, columns, _] = all(shape);
    let how = How::Shuffle { groups };
    let sources = [rows, columns, channels.collect()];
    Ok(GatherOp::new("channel_shuffle", how, shape, sources, 0.0).add(lowering, place, x))
}

/// Adds a crop to the network.
pub(crate) fn lower_crop(
    lowering: &mut Lowering,
    place: &Place,
    l: &Crop,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let left_over = |size: usize, before: usize, after: usize| {
        let end = size.checked_sub(after)?;
        (before < end).then_some(before..end)
    };
    let rows = left_over(shape.h, l.top, l.bottom);
    let columns = left_over(shape.w, l.left, l.right);
    let (Some(rows), Some(columns)) = (rows, columns) else {
        return Err(place.error(format!(
            "leaves nothing of {}: top {}, bottom {}, left {}, right {}",
            describe(shape, false),
            l.top,
            l.bottom,
            l.left,
            l.right
        )));
    };
    lowering.list(place, ActShape::new(rows.len(), columns.len(), shape.c))?;
    let how = How::Slice {
        axes: vec![2, 3],
        starts: vec![rows.start, columns.start],
        ends: vec![rows.end, columns.end],
    };
    let [_, _, channels] = all(shape);
    let sources = [
        rows.map(Some).collect(),
        columns.map(Some).collect(),
        channels,
    ];
    Ok(GatherOp::new("crop", how, shape, sources, 0.0).add(lowering, place, x))
}

/// Adds a border to the network.
pub(crate) fn lower_pad(
    lowering: &mut Lowering,
    place: &Place,
    l: &Pad2d,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let sides = [l.top, l.bottom, l.left, l.right];
    if l.mode != PadMode::Constant && l.value != 0.0 {
        return Err(place.error("`value` is for the mode `constant` alone".to_owned()));
    }
    let bound = match l.mode {
        PadMode::Reflect => [shape.h, shape.h, shape.w, shape.w].map(|size| size - 1),
        PadMode::Constant | PadMode::Edge => [MAX_BORDER; 4],
    };
    for (name, (side, bound)) in ["top", "bottom", "left", "right"]
        .iter()
        .zip(sides.iter().zip(bound))
    {
        if *side > bound {
            return Err(place.error(format!("{name} must be at most {bound}, found {side}")));
        }
    }
    let padded = ActShape::new(
        l.top + shape.h + l.bottom,
        l.left + shape.w + l.right,
        shape.c,
    );
    lowering.list(place, padded)?;
    let along = |before: usize, size: usize, padded: usize| -> Vec<Option<usize>> {
        let source = |at: usize| match l.mode {
            PadMode::Constant => at.checked_sub(before).filter(|&source| source < size),
            PadMode::Edge => Some(at.saturating_sub(before).min(size - 1)),
            PadMode::Reflect => {
                let from_first = at.abs_diff(before);
                let beyond = from_first.saturating_sub(size - 1);
                Some(from_first - 2 * beyond)
            }
        };
        (0..padded).map(source).collect()
    };
    let [_, _, channels] = all(shape);
    let sources = [
        along(l.top, shape.h, padded.h),
        along(l.left, shape.w, padded.w),
        channels,
    ];
    let value = l.value as f32;
    let how = How::Pad {
        mode: l.mode,
        sides,
        value,
    };
    Ok(GatherOp::new("pad2d", how, shape, sources, value).add(lowering, place, x))
}

/// Rows or columns of a border at most.
const MAX_BORDER: usize = 1 << 20;

/// Every row, column and channel where it is.
pub(super) fn all(shape: ActShape) -> [Vec<Option<usize>>; 3] {
    [shape.h, shape.w, shape.c].map(|size| (0..size).map(Some).collect())
}

/// A map whose rows, columns and channels are copies of another's.
#[derive(Clone, Debug)]
pub(crate) struct GatherOp {
    name: &'static str,
    how: How,
    /// Shared by the copies of an operation: it has a number for each row, column and channel.
    gather: Arc<Gather>,
}

/// What it is as ONNX has it.
#[derive(Clone, Debug)]
pub(super) enum How {
    Slice {
        axes: Vec<usize>,
        starts: Vec<usize>,
        ends: Vec<usize>,
    },
    Shuffle {
        groups: usize,
    },
    Pad {
        mode: PadMode,
        /// Top, bottom, left, right.
        sides: [usize; 4],
        value: f32,
    },
    /// The nearest pixel, at a factor or a size.
    Nearest(super::upsample::Target),
}

impl GatherOp {
    pub(super) fn new(
        name: &'static str,
        how: How,
        input: ActShape,
        sources: [Vec<Option<usize>>; 3],
        value: f32,
    ) -> Self {
        let gather = Arc::new(Gather::new(input, sources, value));
        GatherOp { name, how, gather }
    }

    /// Adds it to the network behind `x`.
    pub(super) fn add(self, lowering: &mut Lowering, place: &Place, x: Current) -> Current {
        let shape = self.gather.output();
        lowering.node(place, self, x.value, shape, x.flat)
    }
}

impl Operation for GatherOp {
    fn summary(&self, _: Shapes) -> Work {
        Work::new(self.name, 0)
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
        self.gather.forward(pass.ctx, pass.n, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            self.gather.backward(pass.ctx, pass.n, pass.dy, dx);
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        self.gather.forward(pass.ctx, pass.n, pass.x, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { name: x, flat } = writer.value(at.input);
        let layer = at.layer;
        let name = match &self.how {
            How::Slice { axes, starts, ends } => {
                let mut inputs = vec![x];
                for (part, values) in [("starts", starts), ("ends", ends), ("axes", axes)] {
                    let values = int_tensor(values.iter().map(|&v| v as i64));
                    let name = format!("{layer}.{part}");
                    inputs.push(writer.graph.initializer(name, values)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                writer.op("Slice", layer, &inputs, vec![])
            }
            How::Shuffle { groups } => shuffle(writer, at, &x, *groups)?,
            How::Pad { mode, sides, value } => {
                let [top, bottom, left, right] = sides.map(|side| side as i64);
                let pads = int_tensor([0, 0, top, left, 0, 0, bottom, right]);
                let pads = writer.graph.initializer(format!("{layer}.pads"), pads)?;
                let value = tensor(&[], &[*value]);
                let value = writer.graph.initializer(format!("{layer}.value"), value)?;
                let mode = match mode {
                    PadMode::Constant => "constant",
                    PadMode::Reflect => "reflect",
                    PadMode::Edge => "edge",
                };
                let mode = vec![("mode", Attribute::Text(mode.to_owned()))];
                writer.op("Pad", layer, &[&x, &pads, &value], mode)
            }
            How::Nearest(target) => {
                // PyTorch's `floor(at * step)`.
                let mode = [
                    ("mode", "nearest"),
                    ("coordinate_transformation_mode", "asymmetric"),
                    ("nearest_mode", "floor"),
                ];
                super::upsample::resize(writer, layer, &x, target, &mode)?
            }
        };
        Ok(Value { name, flat })
    }
}

/// Groups as an axis of their own, which changes places with the channels of each.
fn shuffle(
    writer: &mut Writer<'_>,
    at: At<'_>,
    x: &str,
    groups: usize,
) -> Result<String, OnnxError> {
    let ActShape { h, w, c } = at.shapes.input;
    let reshape = |writer: &mut Writer<'_>, x: &str, part: &str, sides: &[usize]| {
        let sides = int_tensor(std::iter::once(0).chain(sides.iter().map(|&v| v as i64)));
        let name = format!("{}.{part}", at.layer);
        let sides = writer.graph.initializer(name, sides)?;
        Ok(writer.op("Reshape", at.layer, &[x, &sides], vec![]))
    };
    let apart = reshape(writer, x, "groups", &[groups, c / groups, h, w])?;
    let perm = vec![("perm", super::onnx::ints(&[0, 2, 1, 3, 4]))];
    let turned = writer.op("Transpose", at.layer, &[&apart], perm);
    reshape(writer, &turned, "channels", &[c, h, w])
}
