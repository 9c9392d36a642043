//! Optimizers, with PyTorch's formulas and names for their state.

use serde::{Deserialize, Serialize};

/// Which optimizer, and its settings. The learning rate comes with each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent, `torch.optim.SGD`.
    Sgd {
        /// Share of the previous update in the next, in `[0, 1)`.
        #[serde(default)]
        momentum: f64,
        /// Share of the gradient that momentum leaves out.
        #[serde(default)]
        dampening: f64,
        /// Nesterov's momentum; needs momentum above 0 and no dampening.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, arXiv 1412.6980), `torch.optim.Adam`.
    Adam {
        /// Decay of the mean of the gradient.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of its square.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second mean.
        #[serde(default = "eps")]
        eps: f64,
        /// L2 penalty, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), `torch.optim.AdamW`.
    AdamW {
        /// Decay of the mean of the gradient.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of its square.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second mean.
        #[serde(default = "eps")]
        eps: f64,
        /// Share of the weights taken off at each step, times the learning rate.
        #[serde(default = "adamw_weight_decay")]
        weight_decay: f64,
    },
}

fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}
fn eps() -> f64 {
    1e-8
}
fn adamw_weight_decay() -> f64 {
    0.01
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{setting} must be {expected}, found {found}")]
#[non_exhaustive]
pub struct SettingError {
    /// Which setting.
    pub setting: &'static str,
    /// What it may be.
    pub expected: &'static str,
    /// What it is.
    pub found: f64,
}

/// `found` when it satisfies `holds`, an error that names it otherwise. NaN satisfies nothing.
pub(crate) fn check(
    setting: &'static str,
    found: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), SettingError> {
    if holds {
        Ok(())
    } else {
        Err(SettingError {
            setting,
            expected,
            found,
        })
    }
}

impl OptimizerConfig {
    /// SGD with the given momentum and weight decay.
    pub fn sgd(momentum: f64, weight_decay: f64) -> Self {
        OptimizerConfig::Sgd {
            momentum,
            dampening: 0.0,
            nesterov: false,
            weight_decay,
        }
    }

    /// Names of the state arenas, as in PyTorch's `optimizer.state_dict()`.
    pub(crate) fn slots(&self) -> &'static [&'static str] {
        match self {
            OptimizerConfig::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            OptimizerConfig::Sgd { .. } => &["momentum_buffer"],
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => {
                &["exp_avg", "exp_avg_sq"]
            }
        }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`SettingError`] naming the first setting that is outside, NaN included.
    pub fn validate(&self) -> Result<(), SettingError> {
        let unit = |v: f64| (0.0..1.0).contains(&v);
        let not_negative = |v: f64| v >= 0.0 && v.is_finite();
        match *self {
            OptimizerConfig::Sgd {
                momentum,
                dampening,
                nesterov,
                weight_decay,
            } => {
                check(
                    "momentum",
                    momentum,
                    unit(momentum),
                    "at least 0 and below 1",
                )?;
                check(
                    "dampening",
                    dampening,
                    (0.0..=1.0).contains(&dampening),
                    "within 0 and 1",
                )?;
                check(
                    "weight decay",
                    weight_decay,
                    not_negative(weight_decay),
                    "at least 0",
                )?;
                let fits = !nesterov || momentum > 0.0;
                check("momentum", momentum, fits, "above 0 with nesterov")?;
                let fits = !nesterov || dampening == 0.0;
                check("dampening", dampening, fits, "0 with nesterov")
            }
            OptimizerConfig::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            }
            | OptimizerConfig::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            } => {
                check("beta1", beta1, unit(beta1), "at least 0 and below 1")?;
                check("beta2", beta2, unit(beta2), "at least 0 and below 1")?;
                check("eps", eps, not_negative(eps), "at least 0")?;
                check(
                    "weight decay",
                    weight_decay,
                    not_negative(weight_decay),
                    "at least 0",
                )
            }
        }
    }
}
