//! Normalisations.

use super::super::fold::floats;
use super::super::steps::{decimal, step};
use super::super::view::{Axis, Order, Size, View};
use super::{Call, Constant, Converter, shaped, tensor};

/// Factors and shifts of a norm are one a channel.
fn channels(constant: &Constant, channels: usize) -> Result<Vec<f32>, String> {
    let values = floats(&constant.tensor)?;
    match values.len() == channels {
        true => Ok(values),
        false => Err(format!("{} numbers for {channels} channels", values.len())),
    }
}

impl Converter<'_> {
    pub(super) fn batch_norm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        if call.node.int("training_mode", 0)? != 0 {
            return Err("it is in training mode".to_owned());
        }
        if call.node.int("spatial", 1)? == 0 {
            return Err("it has statistics of every pixel".to_owned());
        }
        let one_pixel = x.is(Order::Vector) && x.size.one_pixel();
        let (x, restore) = match one_pixel || x.is(Order::PixelsLast) {
            true => (x.clone(), None),
            false => {
                let (map, order) = self.map(&x)?;
                (map, Some(order))
            }
        };
        let c = x.size.channels;
        // ONNX's momentum is the share of the old statistics.
        let momentum = 1.0 - f64::from(call.node.float("momentum", 0.9)?);
        let momentum = (momentum * 1e6).round() / 1e6;
        let mut layer = step("batch_norm2d", vec![x.step], x.size)
            .set("eps", decimal(call.node.float("epsilon", 1e-5)?))
            .set("momentum", momentum);
        let weight = call.constant(1)?;
        layer.name = Some(self.names.layer(weight.origin.as_deref(), call.proto()));
        for (at, part) in [
            (1, "weight"),
            (2, "bias"),
            (3, "running_mean"),
            (4, "running_var"),
        ] {
            layer.params.push((part, shaped(call.constant(at)?, &[c])?));
        }
        match restore {
            Some(order) => Ok(self.sized(layer, order)),
            None => Ok(self.same(&x, layer)),
        }
    }

    /// `InstanceNormalization`, also over groups of channels, as PyTorch writes its group norm.
    pub(super) fn instance_norm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let eps = decimal(call.node.float("epsilon", 1e-5)?);
        let (weight, bias) = (call.constant(1)?, call.constant(2)?);
        if let Some(groups) = grouped(&x) {
            let (weight, bias) = (channels(weight, groups)?, channels(bias, groups)?);
            let each = x.size.channels / groups;
            let spread = |values: Vec<f32>| -> Vec<f32> {
                values
                    .into_iter()
                    .flat_map(|value| std::iter::repeat_n(value, each))
                    .collect()
            };
            return self.grouped_norm(call, &x, (groups, eps), (spread(weight), spread(bias)));
        }
        let (x, order) = self.map(&x)?;
        let c = x.size.channels;
        let mut layer = step("instance_norm2d", vec![x.step], x.size).set("eps", eps);
        let (values, shift) = (channels(weight, c)?, channels(bias, c)?);
        if values.iter().any(|&v| v != 1.0) || shift.iter().any(|&v| v != 0.0) {
            layer = layer.set("affine", true);
            layer.params = vec![
                ("weight", shaped(weight, &[c])?),
                ("bias", shaped(bias, &[c])?),
            ];
        }
        layer.name = Some(self.names.layer(weight.origin.as_deref(), call.proto()));
        Ok(self.sized(layer, order))
    }

    fn grouped_norm(
        &mut self,
        call: &Call<'_>,
        x: &View,
        (groups, eps): (usize, f64),
        (weight, bias): (Vec<f32>, Vec<f32>),
    ) -> Result<View, String> {
        let c = x.size.channels;
        let mut layer = step("group_norm", vec![x.step], x.size)
            .set("groups", groups)
            .set("eps", eps);
        let origin = call.optional(1)?.and_then(|weight| weight.origin.clone());
        layer.name = Some(self.names.layer(origin.as_deref(), call.proto()));
        layer.params = vec![
            ("weight", tensor(&[c], &weight)?),
            ("bias", tensor(&[c], &bias)?),
        ];
        Ok(self.same(x, layer))
    }

    /// Operator set 18 has a factor a group, 21 one a channel.
    pub(super) fn group_norm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (x, _) = self.map(call.view(0)?)?;
        let c = x.size.channels;
        let groups = call.node.int("num_groups", 0)?;
        let groups = usize::try_from(groups)
            .ok()
            .filter(|&g| g > 0 && c.is_multiple_of(g));
        let groups = groups.ok_or_else(|| format!("{c} channels are no multiple of its groups"))?;
        let spread = |constant: &Constant| -> Result<Vec<f32>, String> {
            let values = floats(&constant.tensor)?;
            match values.len() {
                many if many == c => Ok(values),
                many if many == groups => Ok(values
                    .into_iter()
                    .flat_map(|v| std::iter::repeat_n(v, c / groups))
                    .collect()),
                many => Err(format!("{many} numbers for {c} channels")),
            }
        };
        let both = (spread(call.constant(1)?)?, spread(call.constant(2)?)?);
        let eps = decimal(call.node.float("epsilon", 1e-5)?);
        self.grouped_norm(call, &x, (groups, eps), both)
    }

    /// Over the channels of each pixel, wherever the axis of channels lies.
    pub(super) fn layer_norm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let rank = x.dims.len();
        let first = super::super::fold::axis(call.node.int("axis", -1)?, rank)?;
        let over = x.dims[first..].iter().flatten();
        let c = x.size.channels;
        let of_channels = over.clone().all(|piece| piece.axis == Axis::Channel)
            && over.map(|p| p.size).product::<usize>() == c;
        if !of_channels && first == 1 && x.in_order() {
            return self.whole_norm(call, &x);
        }
        if !of_channels {
            return Err("it is over more than the channels of each pixel, and not all".to_owned());
        }
        let eps = decimal(call.node.float("epsilon", 1e-5)?);
        let weight = call.constant(1)?;
        let name = self.names.layer(weight.origin.as_deref(), call.proto());
        let bias = match call.optional(2)? {
            Some(bias) => shaped(bias, &[c])?,
            None => tensor(&[c], &vec![0.0; c])?,
        };
        let flat = self.steps.0[x.step].flat;
        let op = if flat { "layer_norm" } else { "layer_norm2d" };
        let mut layer = step(op, vec![x.step], x.size).set("eps", eps);
        layer.name = Some(name);
        layer.params = vec![("weight", shaped(weight, &[c])?), ("bias", bias)];
        Ok(self.same(&x, layer))
    }

    /// Over all values of an image, as a vector.
    fn whole_norm(&mut self, call: &Call<'_>, x: &View) -> Result<View, String> {
        let vector = self.vector(x);
        let features = vector.size.channels;
        let weight = call.constant(1)?;
        let bias = match call.optional(2)? {
            Some(bias) => shaped(bias, &[features])?,
            None => tensor(&[features], &vec![0.0; features])?,
        };
        let eps = decimal(call.node.float("epsilon", 1e-5)?);
        let mut layer = step("layer_norm", vec![], vector.size).set("eps", eps);
        layer.name = Some(self.names.layer(weight.origin.as_deref(), call.proto()));
        layer.params = vec![("weight", shaped(weight, &[features])?), ("bias", bias)];
        let made = self.same(&vector, layer);
        match x.order() {
            Some(order) if !self.steps.0[x.step].flat => Ok(self.unflattened(&made, x.size, order)),
            _ => Ok(made),
        }
    }

    pub(super) fn local_response_norm(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (x, order) = self.map(call.view(0)?)?;
        let layer = step("local_response_norm", vec![x.step], x.size)
            .set("size", call.node.int("size", 0)?)
            .set("alpha", decimal(call.node.float("alpha", 1e-4)?))
            .set("beta", decimal(call.node.float("beta", 0.75)?))
            .set("k", decimal(call.node.float("bias", 1.0)?));
        Ok(self.sized(layer, order))
    }
}

/// Groups of a view `[n, groups, values of a group]`.
fn grouped(x: &View) -> Option<usize> {
    let [_, groups, rest] = x.dims.as_slice() else {
        return None;
    };
    let Size { channels, .. } = x.size;
    let count = match groups.as_slice() {
        [] => 1,
        [piece] if piece.axis == Axis::Channel && piece.size * piece.stride == channels => {
            piece.size
        }
        _ => return None,
    };
    let values: usize = rest.iter().map(|piece| piece.size).product();
    // A signal has this shape too, and is one where each channel is a group of its own and a row.
    let whole = count * values == x.size.values()
        && x.reshape(&[x.batch(), x.size.values()])?.is(Order::Vector);
    (whole && !(count == channels && x.is(Order::Signal))).then_some(count)
}
