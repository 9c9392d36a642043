//! A trained factor for each channel (Touvron et al., arXiv 2103.17239).

use super::lowering::{Current, LayerError, Lowering, Place};
use super::scale::ScaleOp;
use crate::params::{Role, Start};
use crate::spec::values;
use serde::{Deserialize, Serialize};

/// Settings of a layer scale. Its one parameter has the layer's own name, and comes before those of
/// the layers beside it, as a parameter of the block itself does in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What every factor starts with.
    pub init: f64,
    /// Whether the parameter is `[channels]`, as timm has it, rather than torchvision's `[channels, 1, 1]`.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub flat: bool,
    /// Whether the parameter is one number `[]` for all channels, as timm's networks without norms have it
    /// (`skipinit_gain`).
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub scalar: bool,
}

/// Declares the parameter, before the layers beside this one are seen.
pub(crate) fn announce(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerScale,
) -> Result<(), LayerError> {
    let start = Start::Constant(l.init as f32);
    lowering.param(place, "", &[], Role::Trained, start)?;
    Ok(())
}

/// Adds a layer scale, whose parameter has been announced, to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerScale,
    x: Current,
) -> Result<Current, LayerError> {
    if !l.init.is_finite() {
        return Err(place.error(format!("init must be finite, found {}", l.init)));
    }
    let shape = lowering.map(place, x)?;
    let sides = match (l.flat, l.scalar) {
        (false, false) => vec![shape.c, 1, 1],
        (true, false) => vec![shape.c],
        (false, true) => vec![],
        (true, true) => return Err(place.error("flat and scalar exclude each other".to_owned())),
    };
    let op = ScaleOp {
        name: place.op,
        channels: shape.c,
        weight: Some(lowering.layout.set_shape(&place.name, sides)),
        bias: None,
    };
    Ok(lowering.same_shape(place, op, x))
}
