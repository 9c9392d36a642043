//! Activation functions with settings: what the settings mean, and which of them there may be.

use super::lowering::{LayerError, Place, number};
use crate::spec::values;
use keepbest_kernels::Pointwise;
use serde::{Deserialize, Serialize};

/// Settings of a leaky ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeakyRelu {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Factor of what is negative.
    #[serde(default = "default_slope")]
    pub slope: f64,
}

fn default_slope() -> f64 {
    0.01
}

impl LeakyRelu {
    pub(crate) fn function(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let slope = number(place, "slope", self.slope)?;
        Ok(Pointwise::LeakyRelu { slope })
    }
}

/// Settings of an ELU or CELU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elu {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What very negative values become, times -1.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub alpha: f64,
}

impl Elu {
    /// `alpha * (e^x - 1)` below 0.
    pub(crate) fn elu(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let negative = number(place, "alpha", self.alpha)?;
        Ok(Pointwise::Elu {
            positive: 1.0,
            negative,
            inner: 1.0,
        })
    }

    /// `alpha * (e^(x / alpha) - 1)` below 0.
    pub(crate) fn celu(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let negative = positive(place, "alpha", self.alpha)?;
        Ok(Pointwise::Elu {
            positive: 1.0,
            negative,
            inner: (1.0 / self.alpha) as f32,
        })
    }
}

/// SELU (Klambauer et al., arXiv 1706.02515), with PyTorch's numbers.
pub(crate) const SELU: Pointwise = Pointwise::Elu {
    positive: 1.050_701,
    negative: 1.758_099_3,
    inner: 1.0,
};

/// Settings of a softplus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softplus {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Steepness.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub beta: f64,
}

impl Softplus {
    pub(crate) fn function(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let beta = positive(place, "beta", self.beta)?;
        Ok(Pointwise::Softplus { beta })
    }
}

/// Settings of a GELU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The form of the normal distribution function.
    #[serde(default, skip_serializing_if = "Approximate::is_none")]
    pub approximate: Approximate,
}

/// The form of the normal distribution function in a GELU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approximate {
    /// Exact.
    #[default]
    None,
    /// By a hyperbolic tangent.
    Tanh,
}

impl Approximate {
    fn is_none(&self) -> bool {
        *self == Approximate::None
    }
}

impl Gelu {
    pub(crate) fn function(&self, _: &Place) -> Result<Pointwise, LayerError> {
        Ok(match self.approximate {
            Approximate::None => Pointwise::Gelu,
            Approximate::Tanh => Pointwise::GeluTanh,
        })
    }
}

/// Settings of a clip. At least one of the limits must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Clip {
    pub(crate) fn function(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let limit = |what, value: Option<f64>, none| {
            value.map_or(Ok(none), |value| number(place, what, value))
        };
        let min = limit("min", self.min, f32::NEG_INFINITY)?;
        let max = limit("max", self.max, f32::INFINITY)?;
        match (self.min, self.max) {
            (None, None) => Err(place.error("needs min, max or both".to_owned())),
            (Some(a), Some(b)) if a > b => {
                Err(place.error(format!("min ({a}) must be at most max ({b})")))
            }
            _ => Ok(Pointwise::Clip { min, max }),
        }
    }
}

/// Settings of a power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pow {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The power.
    pub exponent: f64,
}

impl Pow {
    pub(crate) fn function(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let exponent = number(place, "exponent", self.exponent)?;
        // As PyTorch's, which are exact in the last place.
        Ok(match self.exponent {
            2.0 => Pointwise::Square,
            0.5 => Pointwise::Sqrt,
            _ => Pointwise::Pow { exponent },
        })
    }
}

/// Settings of an affine map by constants: `x * scale + shift`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Factor.
    #[serde(
        default = "values::one_f64",
        skip_serializing_if = "values::is_one_f64"
    )]
    pub scale: f64,
    /// What is added.
    #[serde(default, skip_serializing_if = "values::is_zero_f64")]
    pub shift: f64,
}

impl Affine {
    pub(crate) fn function(&self, place: &Place) -> Result<Pointwise, LayerError> {
        let scale = number(place, "scale", self.scale)?;
        let shift = number(place, "shift", self.shift)?;
        Ok(Pointwise::Affine { scale, shift })
    }
}

fn positive(place: &Place, what: &str, value: f64) -> Result<f32, LayerError> {
    let found = number(place, what, value)?;
    // Its inverse is needed too.
    if found.is_normal() && found > 0.0 {
        Ok(found)
    } else {
        Err(place.error(format!("{what} must be above 0, found {value}")))
    }
}
