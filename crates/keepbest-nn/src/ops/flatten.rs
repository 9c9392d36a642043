//! `[channels, height, width]` to one vector in that order. Costs nothing: the layer after it reads the map in that order.

use super::lowering::{Current, LayerError, Lowering, Place};
use crate::spec::values::Unnamed;

/// Makes a vector of what comes.
pub(crate) fn lower(
    _: &mut Lowering,
    _: &Place,
    _: &Unnamed,
    x: Current,
) -> Result<Current, LayerError> {
    Ok(Current { flat: true, ..x })
}
