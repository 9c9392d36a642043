//! Learning-rate schedules, equal to PyTorch's `torch.optim.lr_scheduler`, counted in optimizer steps.
//!
//! All but the plateau are pure functions of the step, so resuming needs nothing. The plateau reacts to a
//! metric and carries its state.

mod plateau;

pub use plateau::{Mode, Plateau, PlateauState, ThresholdMode};

use keepbest_formats::{SettingError, check_setting};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A schedule: an optional warm-up, then the main curve.
///
/// ```
/// use keepbest_nn::schedule::{Curve, Schedule, WarmUp};
/// let schedule = Schedule {
///     curve: Curve::Cosine { steps: 90, eta_min: 0.0 },
///     warm_up: Some(WarmUp { steps: 10, start_factor: 0.1 }),
/// };
/// assert!((schedule.learning_rate(0.5, 0) - 0.05).abs() < 1e-12);
/// assert_eq!(schedule.learning_rate(0.5, 10), 0.5);
/// assert!(schedule.learning_rate(0.5, 100).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The main curve; its first step is the one after the warm-up.
    #[serde(flatten)]
    pub curve: Curve,
    /// Linear warm-up before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
}

/// Linear warm-up (`LinearLR`): from `start_factor` times the base rate to the base rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Length in steps.
    pub steps: u64,
    /// Factor at the first step, in `(0, 1]`.
    pub start_factor: f64,
}

/// The main part of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Curve {
    /// The base rate throughout.
    Constant,
    /// Times `gamma` every `step_size` steps (`StepLR`).
    Step {
        /// Steps between two falls.
        step_size: u64,
        /// Factor of each fall.
        gamma: f64,
    },
    /// Half a cosine from the base rate to `eta_min` over `steps` (`CosineAnnealingLR`; Loshchilov and
    /// Hutter, arXiv 1608.03983); `eta_min` afterwards.
    Cosine {
        /// Length in steps.
        steps: u64,
        /// Rate at the end.
        #[serde(default)]
        eta_min: f64,
    },
    /// Up to the base rate and down to almost nothing over `steps` (`OneCycleLR`; Smith and Topin,
    /// arXiv 1708.07120).
    OneCycle {
        /// Length in steps.
        steps: u64,
        /// Share of the steps spent rising.
        pct_start: f64,
        /// Shape of both parts.
        anneal: Anneal,
        /// Base rate divided by the first rate.
        div_factor: f64,
        /// First rate divided by the last rate.
        final_div_factor: f64,
    },
    /// Times a factor whenever a metric stops improving (`ReduceLROnPlateau`).
    Plateau(Plateau),
}

/// Shape of a change of rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

impl Curve {
    /// PyTorch's one-cycle defaults over `steps` steps.
    pub fn one_cycle(steps: u64) -> Self {
        Curve::OneCycle {
            steps,
            pct_start: 0.3,
            anneal: Anneal::Cosine,
            div_factor: 25.0,
            final_div_factor: 1e4,
        }
    }
}

impl Schedule {
    /// A schedule without warm-up.
    pub fn new(curve: Curve) -> Self {
        Schedule {
            curve,
            warm_up: None,
        }
    }

    /// The rate of step `step` (counted from 0) for the base rate `base`. For a plateau this is the base
    /// rate: multiply by [`PlateauState::factor`].
    pub fn learning_rate(&self, base: f64, step: u64) -> f64 {
        let Some(warm_up) = self.warm_up else {
            return self.curve.learning_rate(base, step);
        };
        if step < warm_up.steps {
            let part = step as f64 / warm_up.steps as f64;
            base * (warm_up.start_factor + (1.0 - warm_up.start_factor) * part)
        } else {
            self.curve.learning_rate(base, step - warm_up.steps)
        }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`SettingError`] naming the first setting that is outside, NaN included.
    pub fn validate(&self) -> Result<(), SettingError> {
        let above_zero = |v: f64| v > 0.0 && v.is_finite();
        if let Some(WarmUp { start_factor, .. }) = self.warm_up {
            let holds = start_factor > 0.0 && start_factor <= 1.0;
            check_setting(
                "warm-up start factor",
                start_factor,
                holds,
                "above 0 and at most 1",
            )?;
        }
        match &self.curve {
            Curve::Constant => Ok(()),
            Curve::Step { step_size, gamma } => {
                check_setting("step size", *step_size as f64, *step_size > 0, "at least 1")?;
                check_setting("gamma", *gamma, above_zero(*gamma), "above 0")
            }
            Curve::Cosine { steps: _, eta_min } => check_setting(
                "eta_min",
                *eta_min,
                *eta_min >= 0.0 && eta_min.is_finite(),
                "at least 0",
            ),
            Curve::OneCycle {
                pct_start,
                div_factor,
                final_div_factor,
                ..
            } => {
                let holds = (0.0..=1.0).contains(pct_start);
                check_setting("pct_start", *pct_start, holds, "within 0 and 1")?;
                check_setting(
                    "div_factor",
                    *div_factor,
                    above_zero(*div_factor),
                    "above 0",
                )?;
                check_setting(
                    "final_div_factor",
                    *final_div_factor,
                    above_zero(*final_div_factor),
                    "above 0",
                )
            }
            Curve::Plateau(plateau) => plateau.validate(),
        }
    }
}

impl Curve {
    fn learning_rate(&self, base: f64, step: u64) -> f64 {
        match *self {
            Curve::Constant | Curve::Plateau(_) => base,
            Curve::Step { step_size, gamma } => {
                base * libm::pow(gamma, (step / step_size.max(1)) as f64)
            }
            Curve::Cosine { steps, eta_min } => {
                let part = if steps == 0 {
                    1.0
                } else {
                    (step as f64 / steps as f64).min(1.0)
                };
                between(base, eta_min, part, Anneal::Cosine)
            }
            Curve::OneCycle {
                steps,
                pct_start,
                anneal,
                div_factor,
                final_div_factor,
            } => {
                let first = base / div_factor;
                let last = first / final_div_factor;
                // PyTorch's phases end at these (fractional) steps.
                let top = pct_start * steps as f64 - 1.0;
                let end = steps as f64 - 1.0;
                let step = (step as f64).min(end);
                if step <= top {
                    between(first, base, step / top, anneal)
                } else if end > top {
                    between(base, last, (step - top) / (end - top), anneal)
                } else {
                    last
                }
            }
        }
    }
}

/// From `start` to `end`; `part` runs from 0 to 1.
fn between(start: f64, end: f64, part: f64, anneal: Anneal) -> f64 {
    match anneal {
        Anneal::Cosine => end + (start - end) / 2.0 * (1.0 + libm::cos(PI * part)),
        Anneal::Linear => start + (end - start) * part,
    }
}
