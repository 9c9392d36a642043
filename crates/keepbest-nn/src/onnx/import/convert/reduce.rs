//! Means, maxima and sums along axes.

use super::super::steps::step;
use super::super::view::{Axis, Size, View};
use super::{Call, Converter};

impl Converter<'_> {
    /// Over all pixels of each channel, or over all channels of each pixel, wherever the axes lie.
    pub(super) fn reduce(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let rank = x.dims.len();
        call.optional(1)?;
        let axes = call.node.axes(&call.constants, 1, rank)?;
        let axes = match axes {
            Some(axes) if !axes.is_empty() => axes,
            _ if call.node.int("noop_with_empty_axes", 0)? == 1 => return Ok(x),
            _ => return Err("it is over all axes, the images among them".to_owned()),
        };
        let over: Vec<_> = axes
            .iter()
            .flat_map(|&at| x.dims[at].iter().copied())
            .collect();
        let full = |axis: Axis| {
            let mut pieces = over.iter().filter(|piece| piece.axis == axis);
            pieces.next().map_or(1, |piece| piece.size) == x.size.along(axis)
                && pieces.next().is_none()
        };
        let of = |axis: Axis| over.iter().any(|piece| piece.axis == axis);
        let (pixels, channels) = (of(Axis::Row) || of(Axis::Column), of(Axis::Channel));
        let mean = call.node.op() != "ReduceMax";
        let (op, size) = match (of(Axis::Batch), pixels, channels) {
            (false, false, false) => ("", x.size),
            (false, true, false) if full(Axis::Row) && full(Axis::Column) => {
                let op = if mean {
                    "global_avg_pool2d"
                } else {
                    "global_max_pool2d"
                };
                (op, Size::new(x.size.channels, 1, 1))
            }
            (false, false, true) if full(Axis::Channel) => {
                let op = if mean { "channel_mean" } else { "channel_max" };
                (op, Size::new(1, x.size.rows, x.size.columns))
            }
            _ => return Err("it is over other axes than all pixels or all channels".to_owned()),
        };
        let mut dims = x.dims.clone();
        axes.iter().for_each(|&at| dims[at].clear());
        if call.node.int("keepdims", 1)? == 0 {
            let mut at = 0;
            dims.retain(|_| {
                at += 1;
                !axes.contains(&(at - 1))
            });
        }
        let mut made = View { dims, ..x.clone() };
        if !op.is_empty() {
            let layer = step(op, vec![x.step], size);
            made.step = self.steps.add(layer);
            made.size = size;
        }
        if call.node.op() == "ReduceSum" {
            let times = x.size.values() / size.values();
            let sum = step("affine", vec![], size)
                .set("scale", times as f64)
                .set("shift", 0.0);
            made = self.same(&made, sum);
        }
        Ok(made)
    }
}
