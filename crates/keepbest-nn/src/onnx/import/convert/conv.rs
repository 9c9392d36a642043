//! Convolutions and linear layers.

use super::super::fold::floats;
use super::super::steps::{Step, padding, pair, step};
use super::super::view::{Axis, Order, Piece, Size, View};
use super::window::Window;
use super::{Call, Constant, Converter, Value, shaped, tensor};
use keepbest_formats::Tensor;

impl Converter<'_> {
    /// `Conv` over rows and columns, over a signal, or over the channels of a pixel.
    pub(super) fn conv(&mut self, call: &Call<'_>) -> Result<View, String> {
        let weight = call.constant(1)?;
        let shape = weight.tensor.shape().to_vec();
        if let Some(view) = self.over_channels(call, weight)? {
            return Ok(view);
        }
        let (x, order) = self.map(call.view(0)?)?;
        let (window, shape) = kernel(call, &x, order, &shape)?;
        let groups = groups(call)?;
        let [out, per_group] = [shape[0], shape[1]];
        if per_group.checked_mul(groups) != Some(x.size.channels) {
            return Err(format!(
                "its weight takes {per_group} channels in {groups} groups, and the input has {}",
                x.size.channels
            ));
        }
        let [rows, columns] = window.steps(x.size, false)?;
        let layer = step("conv2d", vec![x.step], Size::new(out, rows, columns))
            .set("out", out)
            .set("kernel", pair(window.kernel))
            .set("stride", pair(window.stride))
            .set("padding", padding(window.padding))
            .set("dilation", pair(window.dilation))
            .set("groups", groups);
        let layer = self.weighed(
            call,
            layer,
            shaped(weight, &shape)?,
            weight,
            call.optional(2)?,
            out,
        )?;
        Ok(self.sized(layer, order))
    }

    /// A convolution of one dimension whose signal is the channels of one pixel: efficient channel attention.
    fn over_channels(
        &mut self,
        call: &Call<'_>,
        weight: &Constant,
    ) -> Result<Option<View>, String> {
        let x = call.view(0)?;
        let whole = Piece {
            axis: Axis::Channel,
            size: x.size.channels,
            stride: 1,
        };
        let turned =
            x.size.one_pixel() && x.dims.len() == 3 && x.dims[1].is_empty() && x.dims[2] == [whole];
        let &[1, 1, taps] = weight.tensor.shape() else {
            return Ok(None);
        };
        if !turned || x.size.channels == 1 {
            return Ok(None);
        }
        let as_signal = Size::new(1, 1, x.size.channels);
        let window = Window::of(&call.node, &[taps], as_signal, Order::Signal)?;
        if window.stride != [1, 1]
            || window.dilation != [1, 1]
            || window.padding != [0, 0, taps / 2, taps / 2]
            || taps % 2 == 0
        {
            return Err("a convolution over channels must keep their number".to_owned());
        }
        if call.optional(2)?.is_some() {
            return Err("a convolution over channels with a bias".to_owned());
        }
        let mut layer = step("channel_conv1d", vec![x.step], x.size).set("kernel", taps);
        layer.name = Some(self.names.layer(weight.origin.as_deref(), call.proto()));
        layer.params = vec![("weight", shaped(weight, &[1, 1, taps])?)];
        Ok(Some(self.same(x, layer)))
    }

    pub(super) fn conv_transpose(&mut self, call: &Call<'_>) -> Result<View, String> {
        let weight = call.constant(1)?;
        let (x, order) = self.map(call.view(0)?)?;
        let axes = if order == Order::Signal { 1 } else { 2 };
        let own = weight.tensor.shape().to_vec();
        // What "the same" means is told of the output here, so that the rule is followed below.
        let rule = call.node.text("auto_pad", "NOTSET")?;
        let (mut window, shape) = kernel(call, &x, order, &own)?;
        let groups = groups(call)?;
        if shape[0] != x.size.channels {
            return Err(format!(
                "its weight takes {} channels, and the input has {}",
                shape[0], x.size.channels
            ));
        }
        let more = call.node.lengths("output_padding", axes, 0)?;
        let mut more = if axes == 1 {
            [0, more[0]]
        } else {
            [more[0], more[1]]
        };
        let wanted = match call.node.ints("output_shape")? {
            Some(_) => Some(call.node.lengths("output_shape", axes, 0)?),
            None => None,
        };
        let sides = [x.size.rows, x.size.columns];
        let mut out = [0; 2];
        for axis in 0..2 {
            let mut full = window.stride[axis]
                .checked_mul(sides[axis] - 1)
                .and_then(|reach| reach.checked_add(more[axis] + window.reach(axis)))
                .ok_or("its output overflows")?;
            let asked = match (&wanted, rule) {
                (Some(wanted), _) if axes == 2 => Some(wanted[axis]),
                (Some(wanted), _) => Some(if axis == 1 { wanted[0] } else { 1 }),
                (None, "SAME_UPPER" | "SAME_LOWER") => Some(sides[axis] * window.stride[axis]),
                _ => None,
            };
            if let Some(asked) = asked {
                // What is asked for beyond all windows is output padding.
                more[axis] += asked.saturating_sub(full);
                full = full.max(asked);
                let total = full - asked;
                let (less, rest) = (total / 2, total - total / 2);
                let both = if rule == "SAME_UPPER" {
                    [less, rest]
                } else {
                    [rest, less]
                };
                window.padding[2 * axis..2 * axis + 2].copy_from_slice(&both);
            }
            let padded = window.padding[2 * axis] + window.padding[2 * axis + 1];
            out[axis] = full
                .checked_sub(padded)
                .filter(|&side| side > 0)
                .ok_or("nothing is left of its output")?;
        }
        let channels = shape[1].checked_mul(groups).ok_or("its output overflows")?;
        let layer = step(
            "conv_transpose2d",
            vec![x.step],
            Size::new(channels, out[0], out[1]),
        )
        .set("out", channels)
        .set("kernel", pair(window.kernel))
        .set("stride", pair(window.stride))
        .set("padding", padding(window.padding))
        .set("output_padding", pair(more))
        .set("dilation", pair(window.dilation))
        .set("groups", groups);
        let layer = self.weighed(
            call,
            layer,
            shaped(weight, &shape)?,
            weight,
            call.optional(2)?,
            channels,
        )?;
        Ok(self.sized(layer, order))
    }

    /// Adds name, weight and bias to a layer.
    fn weighed(
        &mut self,
        call: &Call<'_>,
        mut layer: Step,
        weight: Tensor,
        of: &Constant,
        bias: Option<&Constant>,
        out: usize,
    ) -> Result<Step, String> {
        layer.name = Some(self.names.layer(of.origin.as_deref(), call.proto()));
        layer.params.push(("weight", weight));
        match bias {
            Some(bias) => layer.params.push(("bias", shaped(bias, &[out])?)),
            None => layer = layer.set("bias", false),
        }
        Ok(layer)
    }

    /// `alpha * A * B + beta * C` of an `A` that depends on the image.
    pub(super) fn gemm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        if call.node.int("transA", 0)? != 0 {
            return Err("its first input is transposed".to_owned());
        }
        let weight = call.constant(1)?;
        let transposed = call.node.int("transB", 0)? != 0;
        let scale = call.node.float("alpha", 1.0)?;
        let (weight_values, out) = rows(weight, transposed, scale)?;
        let bias = match call.optional(2)? {
            None => None,
            Some(bias) => {
                let beta = call.node.float("beta", 1.0)?;
                let values = floats(&bias.tensor)?;
                let values = match values.len() {
                    1 => vec![values[0] * beta; out],
                    many if many == out => values.into_iter().map(|v| v * beta).collect(),
                    many => return Err(format!("{many} biases for {out} outputs")),
                };
                Some(tensor(&[out], &values)?)
            }
        };
        self.linear(call, &x, weight_values, weight, bias)
    }

    /// A product with a constant matrix on the right, or one of means on either side of a map.
    pub(super) fn mat_mul(&mut self, call: &Call<'_>) -> Result<View, String> {
        if let Some(Value::Constant(means)) = &call.inputs[0] {
            let x = call.view(1)?.clone();
            let made = self.adaptive(&x, &means.tensor, Axis::Row)?;
            return made.ok_or_else(|| "a constant matrix on the left".to_owned());
        }
        let x = call.view(0)?.clone();
        let weight = call.constant(1)?;
        if let Some(made) = self.adaptive(&x, &weight.tensor, Axis::Column)? {
            return Ok(made);
        }
        let (values, _) = rows(weight, false, 1.0)?;
        self.linear(call, &x, values, weight, None)
    }

    /// Adaptive pooling along one axis, which ONNX has no operator for: a product with a matrix of means.
    fn adaptive(&mut self, x: &View, means: &Tensor, axis: Axis) -> Result<Option<View>, String> {
        let &[a, b] = means.shape() else {
            return Ok(None);
        };
        let (from, to) = if axis == Axis::Row { (b, a) } else { (a, b) };
        if !x.is(Order::ChannelsFirst)
            || x.size.along(axis) != from
            || from == 1
            || to == 0
            || to > from
        {
            return Ok(None);
        }
        let values = floats(means)?;
        let expected = |at: usize, out: usize| {
            let window = out * from / to..((out + 1) * from).div_ceil(to);
            if window.contains(&at) {
                1.0 / window.len() as f32
            } else {
                0.0
            }
        };
        let near = |at: usize, out: usize| {
            let place = if axis == Axis::Row {
                out * from + at
            } else {
                at * to + out
            };
            (values[place] - expected(at, out)).abs() < 1e-6
        };
        if !(0..to).all(|out| (0..from).all(|at| near(at, out))) {
            return Ok(None);
        }
        let size = match axis {
            Axis::Row => Size::new(x.size.channels, to, x.size.columns),
            _ => Size::new(x.size.channels, x.size.rows, to),
        };
        let layer = step("adaptive_avg_pool2d", vec![x.step], size)
            .set("size", pair([size.rows, size.columns]));
        Ok(Some(self.sized(layer, Order::ChannelsFirst)))
    }

    /// A linear layer over a vector, or over the channels of each pixel, whichever the last axis is.
    fn linear(
        &mut self,
        call: &Call<'_>,
        x: &View,
        weight: Tensor,
        of: &Constant,
        bias: Option<Tensor>,
    ) -> Result<View, String> {
        let [out, features] = [weight.shape()[0], weight.shape()[1]];
        let length = x.shape().last().copied().unwrap_or_default();
        if length != features {
            return Err(format!(
                "its weight takes {features} features, and the input has {length}"
            ));
        }
        let (x, weight, per_pixel) = match x.order() {
            Some(Order::Vector | Order::Numbers) if x.size.one_pixel() => {
                let flat = self.steps.0[x.step].flat;
                (x.clone(), weight, !flat)
            }
            Some(Order::ChannelsLast | Order::PixelsFirst) => (x.clone(), weight, true),
            Some(Order::Vector) => (self.vector(x), weight, false),
            _ => {
                let weight = reordered(x, &weight)?;
                (self.vector(x), weight, false)
            }
        };
        let size = match per_pixel {
            true => Size::new(out, x.size.rows, x.size.columns),
            false => Size::new(out, 1, 1),
        };
        let order = x.order().unwrap_or(Order::Vector);
        let mut layer = step("linear", vec![x.step], size).set("out", out);
        if per_pixel {
            layer = layer.set("per_pixel", true);
        }
        layer.flat = !per_pixel;
        layer.name = Some(self.names.layer(of.origin.as_deref(), call.proto()));
        layer.params.push(("weight", weight));
        match bias {
            Some(bias) => layer.params.push(("bias", bias)),
            None => layer = layer.set("bias", false),
        }
        Ok(self.sized(layer, order))
    }
}

fn groups(call: &Call<'_>) -> Result<usize, String> {
    let groups = call.node.int("group", 1)?;
    let positive = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    positive.ok_or_else(|| format!("{groups} groups"))
}

/// Window of a convolution, and the shape of its weight over rows and columns.
fn kernel(
    call: &Call<'_>,
    x: &View,
    order: Order,
    shape: &[usize],
) -> Result<(Window, Vec<usize>), String> {
    let Some((channels, taps)) = shape.split_at_checked(2) else {
        return Err(format!("its weight has the shape {shape:?}"));
    };
    if let Some(said) = call.node.ints("kernel_shape")?
        && !said
            .iter()
            .map(|&side| usize::try_from(side).ok())
            .eq(taps.iter().map(|&side| Some(side)))
    {
        return Err(format!("a window of {said:?} and a weight of {shape:?}"));
    }
    let window = Window::of(&call.node, taps, x.size, order)?;
    let mut full = channels.to_vec();
    full.extend(window.kernel);
    Ok((window, full))
}

/// A matrix as `[outputs, features]`, times a factor.
fn rows(of: &Constant, transposed: bool, scale: f32) -> Result<(Tensor, usize), String> {
    let &[a, b] = of.tensor.shape() else {
        return Err(format!(
            "its weight has the shape {:?}, and is no matrix",
            of.tensor.shape()
        ));
    };
    if transposed && scale == 1.0 {
        return Ok((shaped(of, &[a, b])?, a));
    }
    let mut values = floats(&of.tensor)?;
    let mut shape = [a, b];
    if !transposed {
        let columns = (0..b).flat_map(|column| (0..a).map(move |row| row * b + column));
        values = columns.map(|at| values[at]).collect();
        shape = [b, a];
    }
    if scale != 1.0 {
        values.iter_mut().for_each(|value| *value *= scale);
    }
    Ok((tensor(&shape, &values)?, shape[0]))
}

/// The weight of a linear layer for features in the order of channels, rows and columns, where the graph has them otherwise: as
/// TensorFlow flattens.
fn reordered(x: &View, weight: &Tensor) -> Result<Tensor, String> {
    let refused = || format!("its input of {:?} has been moved about", x.shape());
    let [_, features] = x.dims.as_slice() else {
        return Err(refused());
    };
    let whole = |piece: &Piece| {
        piece.stride == 1 && piece.size == x.size.along(piece.axis) && piece.axis != Axis::Batch
    };
    let total: usize = features.iter().map(|piece| piece.size).product();
    if !features.iter().all(whole) || total != x.size.values() {
        return Err(refused());
    }
    let own = weight.as_f32().map_err(|error| error.to_string())?;
    // The place of a channel, row and column among the features of the graph.
    let mut strides = [0; 3];
    let mut stride = 1;
    for piece in features.iter().rev() {
        match piece.axis {
            Axis::Channel => strides[0] = stride,
            Axis::Row => strides[1] = stride,
            _ => strides[2] = stride,
        }
        stride *= piece.size;
    }
    let mut values = Vec::with_capacity(own.len());
    for output in own.chunks_exact(total) {
        for channel in 0..x.size.channels {
            for row in 0..x.size.rows {
                for column in 0..x.size.columns {
                    values.push(
                        output[channel * strides[0] + row * strides[1] + column * strides[2]],
                    );
                }
            }
        }
    }
    tensor(weight.shape(), &values)
}
