//! Optimizers: their settings and defaults, the state that they keep, and PyTorch's form of both.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::pth::Tree;
use crate::pth::optimizer::{Group, OptimizerError};
use crate::setting::{SettingError, check_setting};

/// A kind of optimizer, by the name that users give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam (Kingma and Ba, 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW,
}

/// The settings that a kind of optimizer gets when nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct OptimizerDefaults {
    /// The highest learning rate of a run.
    pub learning_rate: f64,
    /// Whether the learning rate is smaller with smaller batches.
    pub rate_follows_batch: bool,
    /// Momentum, and whether it is Nesterov's; `None` for a kind without these settings.
    pub momentum: Option<(f64, bool)>,
    /// Weight decay, as the kind understands it.
    pub weight_decay: f64,
}

impl OptimizerKind {
    /// All kinds, in the order shown to users.
    pub const ALL: &'static [Self] = &[Self::Sgd, Self::Adam, Self::AdamW];

    /// The name that users give.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
            Self::AdamW => "adamw",
        }
    }

    /// The name of PyTorch's class.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Sgd => "SGD",
            Self::Adam => "Adam",
            Self::AdamW => "AdamW",
        }
    }

    /// The settings when nothing else is said.
    #[must_use]
    pub fn defaults(self) -> OptimizerDefaults {
        let adaptive = |weight_decay| OptimizerDefaults {
            learning_rate: 0.002,
            rate_follows_batch: false,
            momentum: None,
            weight_decay,
        };
        match self {
            Self::Sgd => OptimizerDefaults {
                learning_rate: 0.05,
                rate_follows_batch: true,
                momentum: Some((0.9, true)),
                weight_decay: 5e-4,
            },
            Self::Adam => adaptive(0.0),
            Self::AdamW => adaptive(adamw_weight_decay()),
        }
    }

    /// The optimizer with this weight decay and, for a kind that has it, momentum and whether it is Nesterov's; without, none.
    #[must_use]
    pub fn config(self, momentum: Option<(f64, bool)>, weight_decay: f64) -> OptimizerConfig {
        let (momentum, nesterov) = momentum.unwrap_or_default();
        match self {
            Self::Sgd => OptimizerConfig::Sgd {
                momentum,
                dampening: 0.0,
                nesterov,
                weight_decay,
            },
            Self::Adam | Self::AdamW => {
                let decoupled = self == Self::AdamW;
                OptimizerConfig::adam(decoupled, [beta1(), beta2()], eps(), weight_decay)
            }
        }
    }
}

impl fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An optimizer and its settings apart from the learning rate, which comes with each step. PyTorch's formulas, names and
/// meanings; this is also what files record as JSON.
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

    /// Adam, or AdamW where weight decay is decoupled.
    fn adam(decoupled: bool, [beta1, beta2]: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        match decoupled {
            false => OptimizerConfig::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            },
            true => OptimizerConfig::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            },
        }
    }

    /// The kind of optimizer.
    #[must_use]
    pub fn kind(&self) -> OptimizerKind {
        match self {
            OptimizerConfig::Sgd { .. } => OptimizerKind::Sgd,
            OptimizerConfig::Adam { .. } => OptimizerKind::Adam,
            OptimizerConfig::AdamW { .. } => OptimizerKind::AdamW,
        }
    }

    /// Names of the tensors that it keeps for each parameter, in order, as in PyTorch's `optimizer.state_dict()`.
    #[must_use]
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            OptimizerConfig::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            OptimizerConfig::Sgd { .. } => &["momentum_buffer"],
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => {
                &["exp_avg", "exp_avg_sq"]
            }
        }
    }

    /// Whether PyTorch counts its steps beside the tensors of a parameter.
    pub(crate) fn counts_steps(&self) -> bool {
        match self {
            OptimizerConfig::Sgd { .. } => false,
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => true,
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
                check_setting(
                    "momentum",
                    momentum,
                    unit(momentum),
                    "at least 0 and below 1",
                )?;
                check_setting(
                    "dampening",
                    dampening,
                    (0.0..=1.0).contains(&dampening),
                    "within 0 and 1",
                )?;
                check_setting(
                    "weight decay",
                    weight_decay,
                    not_negative(weight_decay),
                    "at least 0",
                )?;
                let fits = !nesterov || momentum > 0.0;
                check_setting("momentum", momentum, fits, "above 0 with nesterov")?;
                let fits = !nesterov || dampening == 0.0;
                check_setting("dampening", dampening, fits, "0 with nesterov")
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
                check_setting("beta1", beta1, unit(beta1), "at least 0 and below 1")?;
                check_setting("beta2", beta2, unit(beta2), "at least 0 and below 1")?;
                check_setting("eps", eps, not_negative(eps), "at least 0")?;
                check_setting(
                    "weight decay",
                    weight_decay,
                    not_negative(weight_decay),
                    "at least 0",
                )
            }
        }
    }
}

impl OptimizerConfig {
    /// The settings in a group of PyTorch's `optimizer.state_dict()`, with PyTorch's defaults for those that keepbest does not
    /// have.
    pub(crate) fn to_group(&self) -> Vec<(&'static str, Tree)> {
        match *self {
            OptimizerConfig::Sgd {
                momentum,
                dampening,
                nesterov,
                weight_decay,
            } => vec![
                ("momentum", Tree::Float(momentum)),
                ("dampening", Tree::Float(dampening)),
                ("weight_decay", Tree::Float(weight_decay)),
                ("nesterov", Tree::Bool(nesterov)),
                ("maximize", Tree::Bool(false)),
                ("foreach", Tree::None),
                ("differentiable", Tree::Bool(false)),
                ("fused", Tree::None),
            ],
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
            } => vec![
                (
                    "betas",
                    Tree::Tuple(vec![Tree::Float(beta1), Tree::Float(beta2)]),
                ),
                ("eps", Tree::Float(eps)),
                ("weight_decay", Tree::Float(weight_decay)),
                ("amsgrad", Tree::Bool(false)),
                ("maximize", Tree::Bool(false)),
                ("foreach", Tree::None),
                ("capturable", Tree::Bool(false)),
                ("differentiable", Tree::Bool(false)),
                ("fused", Tree::None),
                (
                    "decoupled_weight_decay",
                    Tree::Bool(matches!(self, OptimizerConfig::AdamW { .. })),
                ),
            ],
        }
    }

    /// The optimizer whose settings a group has; `None` when they are those of none that is known.
    ///
    /// # Errors
    /// When a setting has a value that is not supported, or it is not told which optimizer it is.
    pub(crate) fn from_group(group: Group<'_>) -> Result<Option<Self>, OptimizerError> {
        for setting in ["amsgrad", "maximize"] {
            group.refuse(setting)?;
        }
        if group.has(&["momentum", "dampening", "nesterov"]) {
            return Ok(Some(OptimizerConfig::Sgd {
                momentum: group.number("momentum")?,
                dampening: group.number("dampening")?,
                nesterov: group.flag("nesterov")?,
                weight_decay: group.number("weight_decay")?,
            }));
        }
        if !group.has(&["betas", "eps", "amsgrad"]) {
            return Ok(None);
        }
        let (beta1, beta2) = group.pair("betas")?;
        let eps = group.number("eps")?;
        let weight_decay = group.number("weight_decay")?;
        let decoupled = match group.switch("decoupled_weight_decay") {
            Some(decoupled) => decoupled,
            None if weight_decay == 0.0 => false,
            None => return Err(OptimizerError::AdamOrAdamW { weight_decay }),
        };
        let adam = Self::adam(decoupled, [beta1, beta2], eps, weight_decay);
        Ok(Some(adam))
    }
}
