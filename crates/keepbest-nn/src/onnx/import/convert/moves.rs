//! What moves, joins and parts data.

use super::super::fold::{axis, floats, ints, reshaped};
use super::super::steps::{decimal, pair, step};
use super::super::view::{Axis, Order, Size, View};
use super::{Call, Converter};

/// The axes of an order, after the images.
fn axes(order: Order) -> Result<&'static [Axis], String> {
    match order {
        Order::ChannelsFirst => Ok(&[Axis::Channel, Axis::Row, Axis::Column]),
        Order::ChannelsLast => Ok(&[Axis::Row, Axis::Column, Axis::Channel]),
        Order::Signal => Ok(&[Axis::Channel, Axis::Column]),
        Order::Vector => Ok(&[Axis::Channel]),
        _ => Err("the axes of its input have been moved about".to_owned()),
    }
}

impl Converter<'_> {
    /// A tensor of the same elements in another shape or order.
    pub(super) fn moved(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?;
        for at in 1..call.inputs.len() {
            call.optional(at)?;
        }
        let shape = x.shape();
        let rank = shape.len();
        let (node, constants) = (&call.node, &call.constants);
        let made = match node.op() {
            "Reshape" => {
                let wanted = node.wanted_shape(constants)?;
                let keep = node.int("allowzero", 0)? == 1;
                x.reshape(&reshaped(&shape, &wanted, keep)?)
            }
            "Flatten" => {
                let at = node.int("axis", 1)?;
                let at = if at == rank as i64 {
                    rank
                } else {
                    axis(at, rank)?
                };
                let (outer, inner) = shape.split_at(at);
                x.reshape(&[outer.iter().product(), inner.iter().product()])
            }
            "Transpose" => x.transpose(&node.permutation(rank)?),
            "Squeeze" => {
                let given = node.axes(constants, 1, rank)?;
                let single = |at: &usize| shape[*at] == 1 && x.dims[*at].is_empty();
                x.squeeze(&given.unwrap_or_else(|| (0..rank).filter(single).collect()))
            }
            "Unsqueeze" => {
                let given = node.given_axes(constants, 1)?.unwrap_or_default();
                let rank = rank + given.len();
                let at: Result<Vec<usize>, String> =
                    given.iter().map(|&at| axis(at, rank)).collect();
                x.unsqueeze(&at?)
            }
            _ => {
                let wanted = ints(&call.constant(1)?.tensor)?;
                let same = wanted.len() <= rank
                    && wanted
                        .iter()
                        .rev()
                        .zip(shape.iter().rev())
                        .all(|(&wanted, &own)| wanted == 1 || wanted == own as i64);
                same.then(|| x.clone())
            }
        };
        let made = made.ok_or_else(|| {
            format!("{shape:?} cannot be moved so: the axes of the images are parted or lost")
        })?;
        // What was a vector, or a row of numbers, becomes a map where it is given the shape of one.
        let row = self.steps.0[x.step].flat || x.size.channels * x.size.rows == 1;
        let (size, order) = match made.shape()[..] {
            [_, channels, rows, columns] => {
                (Size::new(channels, rows, columns), Order::ChannelsFirst)
            }
            [_, channels, length] => (Size::new(channels, 1, length), Order::Signal),
            _ => return Ok(made),
        };
        let plain = made.in_order() && !made.is(order) && x.is(Order::Vector);
        match plain && row {
            true => Ok(self.unflattened(&x.clone(), size, order)),
            false => Ok(made),
        }
    }

    /// The value in an order whose channels can be joined or parted, and the position of each axis.
    fn ordered(&mut self, x: &View) -> Result<(View, Order), String> {
        if x.shuffled().is_some() {
            return self.map(x);
        }
        match x.order() {
            Some(Order::Vector) if !x.size.one_pixel() => Ok((self.vector(x), Order::Vector)),
            Some(order) => Ok((x.clone(), order)),
            None => Err("the axes of its input have been moved about".to_owned()),
        }
    }

    /// Channels one after the other.
    pub(super) fn concat(&mut self, call: &Call<'_>) -> Result<View, String> {
        let mut views = Vec::with_capacity(call.inputs.len());
        for at in 0..call.inputs.len() {
            views.push(self.ordered(call.view(at)?)?.0);
        }
        if views.iter().any(|view| self.steps.0[view.step].flat) {
            views = views.iter().map(|view| self.vector(view)).collect();
        }
        let [first, ..] = views.as_slice() else {
            return Err("nothing is joined".to_owned());
        };
        if views.len() == 1 {
            return Ok(first.clone());
        }
        let order = Order::ALL_OF
            .into_iter()
            .find(|&order| views.iter().all(|view| view.is(order)))
            .ok_or("its inputs lie in different orders")?;
        let at = axis(call.node.int("axis", 1)?, first.dims.len())?;
        if at == 0 || axes(order)?.get(at - 1) != Some(&Axis::Channel) {
            return Err("it joins along another axis than the channels".to_owned());
        }
        let (rows, columns) = (first.size.rows, first.size.columns);
        if views
            .iter()
            .any(|view| (view.size.rows, view.size.columns) != (rows, columns))
        {
            return Err("its inputs are of different sizes".to_owned());
        }
        let flat = self.steps.0[first.step].flat;
        let mut from: Vec<usize> = views.iter().map(|view| view.step).collect();
        let whole = from.clone();
        let channels = views.iter().map(|view| view.size.channels).sum();
        // Dense blocks join all that was before again and again: each goes on from the last.
        let longest = self
            .joined
            .iter()
            .filter(|(own, _)| from.starts_with(own) && own.len() < from.len());
        if let Some((own, made)) = longest.max_by_key(|(own, _)| own.len()) {
            from.splice(..own.len(), [*made]);
        }
        let mut layer = step("concat", from, Size::new(channels, rows, columns));
        layer.flat = flat;
        let made = self.sized(layer, order);
        self.joined.push((whole, made.step));
        Ok(made)
    }

    pub(super) fn split(&mut self, call: &Call<'_>) -> Result<Vec<View>, String> {
        let (x, order) = self.ordered(call.view(0)?)?;
        call.optional(1)?;
        let at = axis(call.node.int("axis", 0)?, x.dims.len())?;
        let shape = x.shape();
        let mut start = 0;
        let mut parts = Vec::new();
        for length in call.node.split_lengths(&call.constants, shape[at])? {
            let mut slices: Vec<(usize, usize)> = shape.iter().map(|&side| (0, side)).collect();
            slices[at] = (start, start + length);
            parts.push(self.part(&x, order, &slices)?);
            start += length;
        }
        Ok(parts)
    }

    pub(super) fn slice(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (x, order) = self.ordered(call.view(0)?)?;
        for at in 1..call.inputs.len() {
            call.optional(at)?;
        }
        let slices = call.node.slices(&call.constants, &x.shape())?;
        let parts: Result<Vec<(usize, usize)>, String> = slices
            .into_iter()
            .map(|(start, step, many)| match step == 1 || many <= 1 {
                true => Ok((start, start + many)),
                false => Err(format!("it takes every {step}th element")),
            })
            .collect();
        self.part(&x, order, &parts?)
    }

    /// A part of the channels, rows and columns: from and to along each axis of the view.
    fn part(&mut self, x: &View, order: Order, parts: &[(usize, usize)]) -> Result<View, String> {
        let axes = axes(order)?;
        let mut ranges = [(0, x.size.channels), (0, x.size.rows), (0, x.size.columns)];
        if parts[0] != (0, x.batch()) {
            return Err("it takes some of the images".to_owned());
        }
        for (axis, part) in axes.iter().zip(&parts[1..]) {
            if part.0 >= part.1 {
                return Err("nothing is left".to_owned());
            }
            match axis {
                Axis::Channel => ranges[0] = *part,
                Axis::Row => ranges[1] = *part,
                _ => ranges[2] = *part,
            }
        }
        let [channels, rows, columns] = ranges;
        let mut x = x.clone();
        if channels != (0, x.size.channels) {
            let size = Size::new(channels.1 - channels.0, x.size.rows, x.size.columns);
            let mut layer = step("channel_slice", vec![x.step], size)
                .set("start", channels.0)
                .set("end", channels.1);
            layer.flat = self.steps.0[x.step].flat;
            x = self.sized(layer, order);
        }
        if (rows, columns) != ((0, x.size.rows), (0, x.size.columns)) {
            let size = Size::new(x.size.channels, rows.1 - rows.0, columns.1 - columns.0);
            let layer = step("crop", vec![x.step], size)
                .set("top", rows.0)
                .set("bottom", x.size.rows - rows.1)
                .set("left", columns.0)
                .set("right", x.size.columns - columns.1);
            x = self.sized(layer, order);
        }
        Ok(x)
    }

    /// Pixels around a map; negative numbers cut it.
    pub(super) fn pad(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (x, order) = self.ordered(call.view(0)?)?;
        let rank = x.dims.len();
        let given = match (call.optional(1)?, call.node.ints("pads")?) {
            (Some(pads), _) => ints(&pads.tensor)?,
            (None, Some(pads)) => pads.to_vec(),
            (None, None) => return Err("its padding is not said".to_owned()),
        };
        let along = match call.optional(3)? {
            Some(axes) => ints(&axes.tensor)?
                .iter()
                .map(|&at| axis(at, rank))
                .collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        if given.len() != 2 * along.len() {
            return Err(format!(
                "{} numbers of padding for {} axes",
                given.len(),
                along.len()
            ));
        }
        let mut around = [[0i64; 2]; 2];
        let axes = axes(order)?;
        for (position, &at) in along.iter().enumerate() {
            let both = [given[position], given[position + along.len()]];
            if both == [0, 0] {
                continue;
            }
            match at.checked_sub(1).and_then(|at| axes.get(at)) {
                Some(Axis::Row) => around[0] = both,
                Some(Axis::Column) => around[1] = both,
                _ => return Err("it pads another axis than rows and columns".to_owned()),
            }
        }
        let value = match call.number(2)? {
            Some(value) => value,
            None => call.node.float("value", 0.0)?,
        };
        let mode = call.node.text("mode", "constant")?;
        if !matches!(mode, "constant" | "reflect" | "edge") {
            return Err(format!("mode {mode:?} is not known"));
        }
        let mut parts = vec![(0, x.batch())];
        let mut more = [[0usize; 2]; 2];
        for (position, own) in axes.iter().enumerate() {
            let side = x.shape()[position + 1];
            let at = match own {
                Axis::Row => 0,
                Axis::Column => 1,
                _ => {
                    parts.push((0, side));
                    continue;
                }
            };
            let cut =
                |value: i64| usize::try_from(value.min(0).unsigned_abs()).unwrap_or(usize::MAX);
            let [before, after] = around[at];
            parts.push((cut(before), side.saturating_sub(cut(after))));
            more[at] = [before, after].map(|value| usize::try_from(value).unwrap_or_default());
        }
        let x = self.part(&x, order, &parts)?;
        let [[top, bottom], [left, right]] = more;
        if more == [[0; 2]; 2] {
            return Ok(x);
        }
        let grown = |side: usize, a: usize, b: usize| {
            side.checked_add(a)
                .and_then(|side| side.checked_add(b))
                .filter(|&side| side < 1 << 24)
        };
        let (Some(rows), Some(columns)) = (
            grown(x.size.rows, top, bottom),
            grown(x.size.columns, left, right),
        ) else {
            return Err("its padding is larger than any map".to_owned());
        };
        let mut layer = step(
            "pad2d",
            vec![x.step],
            Size::new(x.size.channels, rows, columns),
        )
        .set("top", top)
        .set("bottom", bottom)
        .set("left", left)
        .set("right", right)
        .set("mode", mode);
        if mode == "constant" {
            layer = layer.set("value", decimal(value));
        }
        Ok(self.sized(layer, order))
    }

    /// `Resize` and its forerunner `Upsample`.
    pub(super) fn resize(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (x, order) = self.ordered(call.view(0)?)?;
        let axes = axes(order)?;
        if order == Order::Vector {
            return Err("it resizes what is no map".to_owned());
        }
        let old = call.node.op() == "Upsample" || call.node.opset < 11;
        let (scales_at, sizes_at) = if old { (1, usize::MAX) } else { (2, 3) };
        let rank = x.dims.len();
        let along: Vec<usize> = match call.node.ints("axes")? {
            Some(axes) => axes
                .iter()
                .map(|&at| axis(at, rank))
                .collect::<Result<_, _>>()?,
            None => (0..rank).collect(),
        };
        let scales = match (call.optional(scales_at)?, call.node.floats("scales")?) {
            (Some(scales), _) if scales.tensor.elements() > 0 => Some(floats(&scales.tensor)?),
            (_, Some(scales)) => Some(scales.to_vec()),
            _ => None,
        };
        let sizes = match call.optional(sizes_at)? {
            Some(sizes) if sizes.tensor.elements() > 0 => Some(ints(&sizes.tensor)?),
            _ => None,
        };
        let shape = x.shape();
        let mut sides = [x.size.rows, x.size.columns];
        let mut factors = [1.0f32; 2];
        for (position, &at) in along.iter().enumerate() {
            let side = shape[at];
            let (wanted, factor) = match (&sizes, &scales) {
                (Some(sizes), _) => {
                    let wanted = sizes.get(position).copied().unwrap_or_default();
                    (wanted as f64, wanted as f32 / side as f32)
                }
                (None, Some(scales)) => {
                    let scale = scales.get(position).copied().unwrap_or_default();
                    (libm::floor(side as f64 * f64::from(scale)), scale)
                }
                (None, None) => {
                    return Err("neither its scales nor its sizes are constants".to_owned());
                }
            };
            if !(1.0..=65_536.0).contains(&wanted) {
                return Err(format!("a side of {side} becomes one of {wanted}"));
            }
            match at.checked_sub(1).and_then(|at| axes.get(at)) {
                Some(Axis::Row) => (sides[0], factors[0]) = (wanted as usize, factor),
                Some(Axis::Column) => (sides[1], factors[1]) = (wanted as usize, factor),
                _ if wanted as usize == side => {}
                _ => return Err("it resizes another axis than rows and columns".to_owned()),
            }
        }
        let mut layer = step(
            "upsample",
            vec![x.step],
            Size::new(x.size.channels, sides[0], sides[1]),
        );
        layer = match call.node.text("mode", "nearest")? {
            "nearest" => {
                nearest(call, old, factors)?;
                layer.set("mode", "nearest")
            }
            "linear" | "bilinear" => {
                if call.node.int("antialias", 0)? != 0 {
                    return Err("it is antialiased".to_owned());
                }
                let default = if old { "asymmetric" } else { "half_pixel" };
                let corners = match call.node.text("coordinate_transformation_mode", default)? {
                    "align_corners" => true,
                    "half_pixel" | "pytorch_half_pixel" => false,
                    other => return Err(format!("linear with coordinates {other:?} is not known")),
                };
                layer.set("mode", "bilinear").set("align_corners", corners)
            }
            other => return Err(format!("mode {other:?} is not known")),
        };
        layer = match factors
            .iter()
            .all(|factor| factor.fract() == 0.0 && *factor >= 1.0)
        {
            true => layer.set("scale", pair(factors.map(|factor| factor as usize))),
            false => layer.set("size", pair(sides)),
        };
        Ok(self.sized(layer, order))
    }
}

/// Whether each pixel is that which PyTorch takes: by whole factors all rules that are in use agree.
fn nearest(call: &Call<'_>, old: bool, factors: [f32; 2]) -> Result<(), String> {
    let whole = factors.iter().all(|factor| factor.fract() == 0.0);
    let coordinates = call.node.text(
        "coordinate_transformation_mode",
        if old { "asymmetric" } else { "half_pixel" },
    )?;
    let rounding = call.node.text(
        "nearest_mode",
        if old { "floor" } else { "round_prefer_floor" },
    )?;
    match (coordinates, rounding) {
        ("asymmetric", "floor") => Ok(()),
        ("half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil")
            if whole =>
        {
            Ok(())
        }
        _ => Err(format!(
            "nearest with coordinates {coordinates:?} and rounding {rounding:?} is not known"
        )),
    }
}
