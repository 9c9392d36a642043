//! Sums, products and the like: of two tensors that depend on the image, or of one and a constant.

use super::super::fold::floats;
use super::super::idioms::{BIASED, VECTOR};
use super::super::steps::{decimal, step};
use super::super::view::{Axis, Order, Size, View};
use super::{Call, Constant, Converter, Value, tensor};
use keepbest_formats::Tensor;

/// How a constant goes over a tensor.
pub(super) enum Spread {
    /// One number everywhere.
    One(f32),
    /// A number a channel.
    Channels(Vec<f32>),
}

impl Converter<'_> {
    pub(super) fn arithmetic(&mut self, call: &Call<'_>) -> Result<View, String> {
        let op = call.node.op();
        let two = call.inputs.len() == 2;
        if call.inputs.len() == 1 {
            return Ok(call.view(0)?.clone());
        }
        if two && let Some(Value::Constant(_)) = call.inputs[0] {
            return self.constant_first(call);
        }
        if two && let Some(Some(Value::Constant(constant))) = call.inputs.get(1) {
            let constant = constant.clone();
            let x = call.view(0)?.clone();
            return self.with_constant(call, &x, op, &constant);
        }
        let many = call.inputs.len();
        let mut views = Vec::with_capacity(many);
        for at in 0..many {
            views.push(call.view(at)?.clone());
        }
        let name = match op {
            "Add" | "Sum" | "Mean" => "add",
            "Sub" => "sub",
            "Mul" => "mul",
            "Div" => "div",
            "Max" => "maximum",
            _ => "minimum",
        };
        let mut result = views[0].clone();
        for other in &views[1..] {
            result = self.together(name, &result, other)?;
        }
        if op == "Mean" {
            let mean = step("affine", vec![], result.size)
                .set("scale", 1.0 / many as f64)
                .set("shift", 0.0);
            result = self.same(&result, mean);
        }
        Ok(result)
    }

    /// A layer of two values that are of one size, or one of which is a pixel, a channel or a number.
    fn together(&mut self, op: &'static str, a: &View, b: &View) -> Result<View, String> {
        if a.step == b.step && a.dims == b.dims {
            return match op {
                "mul" => Ok(self.same(a, step("pow", vec![], a.size).set("exponent", 2.0))),
                "add" => Ok(self.same(
                    a,
                    step("affine", vec![], a.size)
                        .set("scale", 2.0)
                        .set("shift", 0.0),
                )),
                "maximum" | "minimum" => Ok(a.clone()),
                _ => Err("both inputs are the same value".to_owned()),
            };
        }
        let (a, b) = self.alike(a, b)?;
        let order = Order::ALL_OF
            .into_iter()
            .find(|&order| a.is(order) && b.is(order));
        let side = |a: usize, b: usize| match (a, b) {
            (a, b) if a == b => Some(a),
            (1, other) | (other, 1) => Some(other),
            _ => None,
        };
        let size = (|| {
            Some(Size::new(
                side(a.size.channels, b.size.channels)?,
                side(a.size.rows, b.size.rows)?,
                side(a.size.columns, b.size.columns)?,
            ))
        })();
        let refused = || {
            format!(
                "its inputs of {:?} and {:?} do not go together",
                a.shape(),
                b.shape()
            )
        };
        let size = size.ok_or_else(refused)?;
        let mut layer = step(op, vec![a.step, b.step], size);
        layer.flat = self.steps.0[a.step].flat;
        match order {
            Some(order) => Ok(self.sized(layer, order)),
            None if a.size == b.size && a.dims == b.dims => {
                let step = self.steps.add(layer);
                Ok(View { step, ..a })
            }
            None => Err(refused()),
        }
    }

    /// Two values of one kind: both maps or both vectors, shuffled channels put into order.
    fn alike(&mut self, a: &View, b: &View) -> Result<(View, View), String> {
        let mut both = [a.clone(), b.clone()];
        for view in &mut both {
            if view.shuffled().is_some() {
                *view = self.map(view)?.0;
            }
        }
        let [a, b] = both;
        let flat = |view: &View| self.steps.0[view.step].flat;
        match (flat(&a), flat(&b)) {
            (true, false) if b.is(Order::Vector) => Ok((a, self.vector(&b))),
            (false, true) if a.is(Order::Vector) => Ok((self.vector(&a), b)),
            (x, y) if x == y => Ok((a, b)),
            _ => Err("one of its inputs is a vector and the other a map".to_owned()),
        }
    }

    /// Whether a constant is one number, or one a channel.
    pub(super) fn per_channel(&self, x: &View, constant: &Tensor) -> Result<Spread, String> {
        let values = floats(constant)?;
        let refused = || {
            format!(
                "a constant of {:?} goes over an input of {:?}",
                constant.shape(),
                x.shape()
            )
        };
        let first = *values.first().ok_or_else(refused)?;
        let channels = x.size.channels;
        let shape = constant.shape();
        let missing = x.dims.len().checked_sub(shape.len()).ok_or_else(refused)?;
        let mut by_channel = false;
        let mut else_where = false;
        for (at, &side) in shape.iter().enumerate() {
            if side == 1 {
                continue;
            }
            let dim = &x.dims[missing + at];
            match dim.as_slice() {
                [piece]
                    if piece.axis == Axis::Channel
                        && piece.size == channels
                        && side == channels =>
                {
                    by_channel = true
                }
                _ => else_where = true,
            }
        }
        if values
            .iter()
            .all(|&value| value.to_bits() == first.to_bits())
            && (else_where || !by_channel)
        {
            return Ok(Spread::One(first));
        }
        match else_where {
            true => Err(refused()),
            false => Ok(Spread::Channels(values)),
        }
    }

    /// `constant op x`.
    fn constant_first(&mut self, call: &Call<'_>) -> Result<View, String> {
        let constant = call.constant(0)?.clone();
        let x = call.view(1)?.clone();
        match call.node.op() {
            "Sub" => {
                let minus = step("affine", vec![], x.size)
                    .set("scale", -1.0)
                    .set("shift", 0.0);
                let minus = self.same(&x, minus);
                self.spread(call, &minus, "Add", &constant)
            }
            "Div" => {
                let inverse = self.same(&x, step("pow", vec![], x.size).set("exponent", -1.0));
                self.spread(call, &inverse, "Mul", &constant)
            }
            op => self.with_constant(call, &x, op, &constant),
        }
    }

    /// `x op constant`.
    fn with_constant(
        &mut self,
        call: &Call<'_>,
        x: &View,
        op: &str,
        constant: &Constant,
    ) -> Result<View, String> {
        let opposite = |change: fn(f32) -> f32| -> Result<Constant, String> {
            let values: Vec<f32> = floats(&constant.tensor)?.into_iter().map(change).collect();
            Ok(Constant {
                tensor: tensor(constant.tensor.shape(), &values)?,
                origin: constant.origin.clone(),
            })
        };
        match op {
            "Sub" => self.spread(call, x, "Add", &opposite(|value| -value)?),
            "Div" => self.spread(call, x, "Mul", &opposite(|value| 1.0 / value)?),
            _ => self.spread(call, x, op, constant),
        }
    }

    /// A constant where operator sets before 7 have it: its first axis over the one that is named.
    fn placed(call: &Call<'_>, x: &View, constant: &Constant) -> Result<Tensor, String> {
        let own = &constant.tensor;
        if call.node.opset >= 7 || !call.node.has("axis") {
            return Ok(own.clone());
        }
        let first = super::super::fold::axis(call.node.int("axis", 0)?, x.dims.len())?;
        let mut shape = own.shape().to_vec();
        shape.resize(x.dims.len() - first, 1);
        Tensor::new(own.dtype(), shape, own.bytes().clone()).map_err(|error| error.to_string())
    }

    /// Adds or multiplies a constant: a number, or a trained factor or shift of each channel.
    fn spread(
        &mut self,
        call: &Call<'_>,
        x: &View,
        op: &str,
        constant: &Constant,
    ) -> Result<View, String> {
        let values = match self.per_channel(x, &Self::placed(call, x, constant)?)? {
            // One channel has one bias: which it is shows by the layer before.
            Spread::One(value) if x.size.channels == 1 && self.lacks_bias(x) && op == "Add" => {
                vec![value]
            }
            Spread::One(value) => return self.with_number(x, op, value),
            Spread::Channels(values) => values,
        };
        let part = match op {
            "Add" | "Sum" => "bias",
            "Mul" => "weight",
            op => return Err(format!("{op} with a constant a channel is not known")),
        };
        let mut layer = step("scale2d", vec![], x.size);
        layer.name = Some(
            self.names
                .parameter(constant.origin.as_deref(), call.proto()),
        );
        layer.params = vec![(part, tensor(&[values.len()], &values)?)];
        if constant.tensor.shape().len() == 1 {
            layer = layer.set(VECTOR, true);
        }
        Ok(self.same(x, layer))
    }

    fn lacks_bias(&self, x: &View) -> bool {
        let before = &self.steps.0[x.step];
        BIASED.contains(&before.op) && before.param("bias").is_none()
    }

    fn with_number(&mut self, x: &View, op: &str, value: f32) -> Result<View, String> {
        let layer = |op: &'static str| step(op, vec![], x.size);
        let layer = match op {
            "Add" | "Sum" => layer("affine")
                .set("scale", 1.0)
                .set("shift", decimal(value)),
            "Mul" => layer("affine")
                .set("scale", decimal(value))
                .set("shift", 0.0),
            "Max" if value == 0.0 => layer("relu"),
            "Max" => layer("clip").set("min", decimal(value)),
            "Min" => layer("clip").set("max", decimal(value)),
            op => return Err(format!("{op} with a constant is not known")),
        };
        Ok(self.same(x, layer))
    }

    /// A power of a constant exponent.
    pub(super) fn pow(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let exponent = call.number(1)?.ok_or("its exponent is missing")?;
        let layer = match exponent {
            1.0 => return Ok(x),
            0.5 => step("sqrt", vec![], x.size),
            exponent => step("pow", vec![], x.size).set("exponent", decimal(exponent)),
        };
        Ok(self.same(&x, layer))
    }
}
