//! The schedule that waits for a metric to stop improving.

use keepbest_formats::{SettingError, check_setting};
use serde::{Deserialize, Serialize};

/// Settings of `ReduceLROnPlateau`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// Whether the metric should fall or rise.
    pub mode: Mode,
    /// Factor of each reduction, in `(0, 1)`.
    #[serde(default = "factor")]
    pub factor: f64,
    /// Observations without improvement that are let pass.
    #[serde(default = "patience")]
    pub patience: u32,
    /// Smallest change that counts as an improvement.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Whether `threshold` is a share of the best value or a difference.
    #[serde(default)]
    pub threshold_mode: ThresholdMode,
    /// Observations after a reduction during which nothing is counted.
    #[serde(default)]
    pub cooldown: u32,
    /// The rate is never reduced below this.
    #[serde(default)]
    pub min_lr: f64,
    /// A reduction smaller than this is left out.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn factor() -> f64 {
    0.1
}
fn patience() -> u32 {
    10
}
fn threshold() -> f64 {
    1e-4
}
fn eps() -> f64 {
    1e-8
}

/// Which way a metric should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Lower is better.
    Min,
    /// Higher is better.
    Max,
}

/// The meaning of [`Plateau::threshold`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdMode {
    /// A share of the best value.
    #[default]
    Rel,
    /// A difference.
    Abs,
}

impl Plateau {
    /// PyTorch's defaults for a metric that should go the way `mode` says.
    pub fn new(mode: Mode) -> Self {
        Plateau {
            mode,
            factor: factor(),
            patience: patience(),
            threshold: threshold(),
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: eps(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), SettingError> {
        let holds = self.factor > 0.0 && self.factor < 1.0;
        check_setting("plateau factor", self.factor, holds, "above 0 and below 1")?;
        let not_negative = |v: f64| v >= 0.0 && v.is_finite();
        check_setting(
            "plateau threshold",
            self.threshold,
            not_negative(self.threshold),
            "at least 0",
        )?;
        check_setting(
            "plateau min_lr",
            self.min_lr,
            not_negative(self.min_lr),
            "at least 0",
        )?;
        check_setting(
            "plateau eps",
            self.eps,
            not_negative(self.eps),
            "at least 0",
        )
    }
}

/// What a plateau schedule remembers; part of the resume point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauState {
    /// Product of the reductions so far, as a factor on the base rate.
    pub factor: f64,
    /// Best metric so far; none before the first observation that is a number.
    pub best: Option<f64>,
    /// Observations since the last improvement.
    pub bad: u32,
    /// Observations of the cooldown that are left.
    pub cooldown: u32,
}

impl Default for PlateauState {
    fn default() -> Self {
        PlateauState {
            factor: 1.0,
            best: None,
            bad: 0,
            cooldown: 0,
        }
    }
}

impl PlateauState {
    /// Takes in a metric after an evaluation. NaN is no improvement, as in PyTorch.
    pub fn observe(&mut self, plateau: &Plateau, base: f64, metric: f64) {
        if plateau.is_better(metric, self.best) {
            self.best = Some(metric);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.bad = 0;
        }
        if self.bad > plateau.patience {
            let old = base * self.factor;
            let new = (old * plateau.factor).max(plateau.min_lr);
            if old - new > plateau.eps {
                self.factor = new / base;
            }
            self.cooldown = plateau.cooldown;
            self.bad = 0;
        }
    }
}

impl Plateau {
    fn is_better(&self, metric: f64, best: Option<f64>) -> bool {
        // An infinite best would stand in JSON as nothing, and says the same as no best: PyTorch starts there.
        let Some(best) = best else {
            return metric.is_finite();
        };
        match (self.mode, self.threshold_mode) {
            (Mode::Min, ThresholdMode::Rel) => metric < best * (1.0 - self.threshold),
            (Mode::Min, ThresholdMode::Abs) => metric < best - self.threshold,
            (Mode::Max, ThresholdMode::Rel) => metric > best * (1.0 + self.threshold),
            (Mode::Max, ThresholdMode::Abs) => metric > best + self.threshold,
        }
    }
}
