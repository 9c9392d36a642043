//! Functions of single values, softmax and dropout.

use super::super::fold::axis;
use super::super::steps::{Step, decimal, step};
use super::super::view::{Axis, Order, View};
use super::{Call, Converter, shaped};

impl Converter<'_> {
    /// A function of each value.
    pub(super) fn pointwise(&mut self, call: &Call<'_>) -> Result<View, String> {
        let node = &call.node;
        let number = |key: &str, default: f32| node.float(key, default).map(decimal);
        let plain = |op: &'static str| {
            step(
                op,
                vec![],
                call.view(0)
                    .map(|x| x.size)
                    .unwrap_or(super::Size::new(1, 1, 1)),
            )
        };
        let layer = match node.op() {
            "Relu" => plain("relu"),
            "Sigmoid" => plain("sigmoid"),
            "Tanh" => plain("tanh"),
            "HardSwish" => plain("hardswish"),
            "Softplus" => plain("softplus"),
            "Mish" => plain("mish"),
            "Erf" => plain("erf"),
            "Exp" => plain("exp"),
            "Log" => plain("log"),
            "Sqrt" => plain("sqrt"),
            "Abs" => plain("abs"),
            "Swish" if number("alpha", 1.0)? == 1.0 => plain("silu"),
            "Neg" => plain("affine").set("scale", -1.0).set("shift", 0.0),
            "Reciprocal" => plain("pow").set("exponent", -1.0),
            "LeakyRelu" => plain("leaky_relu").set("slope", number("alpha", 0.01)?),
            "Elu" => plain("elu").set("alpha", number("alpha", 1.0)?),
            "Celu" => plain("celu").set("alpha", number("alpha", 1.0)?),
            "Selu" => self::selu(
                number("alpha", 1.673_263_2)?,
                number("gamma", 1.050_701)?,
                plain("selu"),
            )?,
            "Gelu" => match node.text("approximate", "none")? {
                "none" => plain("gelu"),
                "tanh" => plain("gelu").set("approximate", "tanh"),
                other => return Err(format!("approximate {other:?} is not known")),
            },
            "Clip" => clip(call, plain)?,
            "HardSigmoid" => {
                let (slope, shift) = (number("alpha", 0.2)?, number("beta", 0.5)?);
                let usual = (slope - 1.0 / 6.0).abs() < 1e-6 && shift == 0.5;
                if !usual {
                    let line = plain("affine").set("scale", slope).set("shift", shift);
                    let x = self.same(call.view(0)?, line);
                    return Ok(self.same(
                        &x,
                        step("clip", vec![], x.size).set("min", 0.0).set("max", 1.0),
                    ));
                }
                plain("hardsigmoid")
            }
            "PRelu" => return self.prelu(call),
            op => return Err(format!("there is no layer for {op}")),
        };
        let x = call.view(0)?.clone();
        Ok(self.same(&x, layer))
    }

    fn prelu(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let slope = call.constant(1)?;
        let c = x.size.channels;
        let weight = match slope.tensor.elements() {
            1 => shaped(slope, &[1])?,
            many if many == c => {
                // Before operator set 7 a vector was over the channels.
                if call.node.opset >= 7 {
                    self.per_channel(&x, &slope.tensor)?;
                }
                shaped(slope, &[c])?
            }
            many => return Err(format!("{many} slopes for {c} channels")),
        };
        let mut layer = step("prelu", vec![], x.size);
        if weight.elements() > 1 || c == 1 {
            layer = layer.set("channels", weight.elements());
        }
        layer.name = Some(self.names.layer(slope.origin.as_deref(), call.proto()));
        layer.params = vec![("weight", weight)];
        Ok(self.same(&x, layer))
    }

    /// Over the channels of each pixel.
    pub(super) fn softmax(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let rank = x.dims.len();
        // Before operator set 13 it was over all axes from one on.
        let old = call.node.opset < 13;
        let at = axis(call.node.int("axis", if old { 1 } else { -1 })?, rank)?;
        let over = if old { &x.dims[at..] } else { &x.dims[at..=at] };
        let of_channels = over
            .iter()
            .flatten()
            .all(|piece| piece.axis == Axis::Channel);
        let all: usize = over.iter().flatten().map(|piece| piece.size).product();
        let op = match call.node.op() {
            "Softmax" => "softmax",
            _ => "log_softmax",
        };
        if of_channels && all == x.size.channels {
            return Ok(self.same(&x, step(op, vec![], x.size)));
        }
        if x.is(Order::Vector) {
            let x = self.vector(&x);
            return Ok(self.same(&x, step(op, vec![], x.size)));
        }
        Err("it is over other axes than the channels of each pixel".to_owned())
    }

    /// Passes everything on in a trained network, and drops in training.
    pub(super) fn dropout(&mut self, call: &Call<'_>) -> Result<View, String> {
        let x = call.view(0)?.clone();
        let ratio = match call.number(1)? {
            Some(ratio) => ratio,
            None => call.node.float("ratio", 0.5)?,
        };
        if let Some(on) = call.number(2)?
            && on != 0.0
            && ratio != 0.0
        {
            return Err("it is in training mode".to_owned());
        }
        match ratio > 0.0 && ratio < 1.0 {
            true => Ok(self.same(&x, step("dropout", vec![], x.size).set("p", decimal(ratio)))),
            false => Ok(x),
        }
    }

    /// Floats of any width are one here.
    pub(super) fn cast(&mut self, call: &Call<'_>) -> Result<View, String> {
        match call.node.int("to", 1)? {
            1 | 10 | 11 | 16 => Ok(call.view(0)?.clone()),
            other => Err(format!(
                "it makes elements of type {other}, which are no floats"
            )),
        }
    }
}

fn selu(alpha: f64, gamma: f64, layer: Step) -> Result<Step, String> {
    let usual = (alpha - 1.673_263_242_354_377_2).abs() < 1e-5
        && (gamma - 1.050_700_987_355_480_5).abs() < 1e-5;
    match usual {
        true => Ok(layer),
        false => Err(format!(
            "alpha {alpha} and gamma {gamma} are not those of SELU"
        )),
    }
}

fn clip(call: &Call<'_>, plain: impl Fn(&'static str) -> Step) -> Result<Step, String> {
    let bound = |at: usize, key: &str| -> Result<Option<f32>, String> {
        match call.number(at)? {
            Some(value) => Ok(Some(value)),
            None if call.node.has(key) => call.node.float(key, 0.0).map(Some),
            None => Ok(None),
        }
    };
    // Writers put the largest floats where there is no bound.
    let min = bound(1, "min")?.filter(|&value| value > f32::MIN);
    let max = bound(2, "max")?.filter(|&value| value < f32::MAX);
    Ok(match (min, max) {
        (Some(0.0), Some(6.0)) => plain("relu6"),
        (Some(0.0), None) => plain("relu"),
        (min, max) => {
            let mut layer = plain("clip");
            for (key, value) in [("min", min), ("max", max)] {
                if let Some(value) = value {
                    layer = layer.set(key, decimal(value));
                }
            }
            layer
        }
    })
}
