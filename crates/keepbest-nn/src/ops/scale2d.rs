//! Trained factors and summands: one of each a channel, or one for all.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, number};
use super::scale::ScaleOp;
use crate::params::{Role, Start};
use crate::spec::values;
use serde::{Deserialize, Serialize};

/// Settings of an affine map of each channel: parameters `weight` and `bias`, `[channels]` each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether there are factors.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub weight: bool,
    /// Whether something is added.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub bias: bool,
}

/// Settings of an affine map with two trained numbers: parameters `scale` and `bias`, `[1]` each, as timm's `StarReLU` has
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalarAffine {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether there is a factor.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub scale: bool,
    /// Whether something is added.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub bias: bool,
    /// What the factor starts with.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub scale_init: f64,
    /// What is added at the start.
    #[serde(default, skip_serializing_if = "values::is_zero_f64")]
    pub bias_init: f64,
}

/// Adds an affine map of each channel to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &Scale2d,
    x: Current,
) -> Result<Current, LayerError> {
    let x = flatten::with_channels(lowering, place, x);
    let channels = lowering.shape(x).c;
    let parts = [("weight", l.weight, 1.0), ("bias", l.bias, 0.0)];
    add(lowering, place, x, parts, channels)
}

/// Adds an affine map with two trained numbers to the network.
pub(crate) fn lower_scalar(
    lowering: &mut Lowering,
    place: &Place,
    l: &ScalarAffine,
    x: Current,
) -> Result<Current, LayerError> {
    let scale = number(place, "scale_init", l.scale_init)?;
    let bias = number(place, "bias_init", l.bias_init)?;
    let parts = [("scale", l.scale, scale), ("bias", l.bias, bias)];
    add(lowering, place, x, parts, 1)
}

/// Adds a factor and a summand of `len` values each: their names, whether they are there, and what they start with.
fn add(
    lowering: &mut Lowering,
    place: &Place,
    x: Current,
    [weight, bias]: [(&str, bool, f32); 2],
    len: usize,
) -> Result<Current, LayerError> {
    if !weight.1 && !bias.1 {
        let (a, b) = (weight.0, bias.0);
        return Err(place.error(format!("needs {a}, {b} or both")));
    }
    let mut param = |(part, there, start): (&str, bool, f32)| {
        let start = Start::Constant(start);
        let add = |()| lowering.param(place, part, &[len], Role::Trained, start);
        there.then_some(()).map(add).transpose()
    };
    let (weight, bias) = (param(weight)?, param(bias)?);
    let op = ScaleOp {
        name: place.op,
        channels: lowering.shape(x).c,
        weight,
        bias,
    };
    Ok(lowering.same_shape(place, op, x))
}
