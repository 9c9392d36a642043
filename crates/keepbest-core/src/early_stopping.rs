//! When to stop before the planned end, and why.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    metrics::{Direction, format_value, nonfinite},
    objective::{MinDelta, Objective},
    verdict::{Judgement, Verdict},
};

/// The rules. Each is off when it is `None`; divergence is on unless it is turned off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Stop after so many evaluations in a row without improvement. 0 means the same as 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// The least improvement that resets the patience. `None`: the objective's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_delta: Option<MinDelta>,
    /// Stop when the monitored value is this good or better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Stop after this time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<f64>,
    /// Stop when the training loss is no longer finite.
    pub divergence: bool,
}

impl Default for EarlyStoppingConfig {
    /// Divergence alone.
    fn default() -> Self {
        Self {
            patience: None,
            min_delta: None,
            target: None,
            max_seconds: None,
            divergence: true,
        }
    }
}

/// Why a run stopped before its planned end. Shown in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stop", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// Too many evaluations in a row without improvement.
    NoImprovement {
        /// The monitored expression.
        monitor: String,
        /// The number of evaluations.
        evaluations: u32,
        /// The least improvement that would have counted, in words, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_more_than: Option<String>,
        /// The best, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best: Option<BestSoFar>,
    },
    /// The value asked for was reached.
    TargetReached {
        /// The monitored expression.
        monitor: String,
        /// Whether more or less of it is better.
        direction: Direction,
        /// The value reached.
        #[serde(with = "nonfinite")]
        value: f64,
        /// The value asked for.
        #[serde(with = "nonfinite")]
        target: f64,
        /// The epoch it was reached in.
        epoch: u64,
    },
    /// The training loss is no longer finite.
    Diverged {
        /// The loss.
        #[serde(with = "nonfinite")]
        loss: f64,
        /// The optimizer step.
        step: u64,
    },
    /// The time is up.
    TimeUp {
        /// The time allowed, in seconds.
        #[serde(with = "nonfinite")]
        limit_seconds: f64,
        /// The time passed, in seconds.
        #[serde(with = "nonfinite")]
        elapsed_seconds: f64,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImprovement {
                monitor,
                evaluations,
                by_more_than,
                best,
            } => {
                write!(f, "no improvement of {monitor}")?;
                if let Some(delta) = by_more_than {
                    write!(f, " by more than {delta}")?;
                }
                write!(
                    f,
                    " for {evaluations} evaluation{}",
                    if *evaluations == 1 { "" } else { "s" }
                )?;
                match best {
                    Some(best) => write!(
                        f,
                        " (best {} at epoch {})",
                        format_value(best.value),
                        best.epoch
                    ),
                    None => f.write_str(" (none could be the best)"),
                }
            }
            Self::TargetReached {
                monitor,
                direction,
                value,
                target,
                epoch,
            } => {
                let comparison = match direction {
                    Direction::Maximise => ">=",
                    Direction::Minimise => "<=",
                };
                let value = format_value(*value);
                write!(
                    f,
                    "target reached: {monitor} {value} {comparison} {target} at epoch {epoch}"
                )
            }
            Self::Diverged { loss, step } => write!(
                f,
                "diverged: the loss is {} at step {step}",
                format_value(*loss)
            ),
            Self::TimeUp {
                limit_seconds,
                elapsed_seconds,
            } => {
                write!(f, "time is up: {elapsed_seconds:.0} s of {limit_seconds} s")
            }
        }
    }
}

/// The best as the stop message names it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestSoFar {
    /// The monitored value.
    #[serde(with = "nonfinite")]
    pub value: f64,
    /// The epoch it was measured in.
    pub epoch: u64,
}

/// The memory of early stopping between evaluations, stored with the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EarlyStoppingState {
    /// What the next value has to be better than to reset the patience.
    #[serde(with = "nonfinite::option", skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// Evaluations since the reference.
    pub waited: u32,
    /// The run's best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestSoFar>,
}

/// Decides when to stop. Fed by the training loop; has no clock, and does the same for the same input.
///
/// Patience counts every evaluation that does not better the reference by more than the minimum improvement: worse
/// ones, ties (also those that a tie-break turns into a new best), NaN and infinities, and evaluations that a constraint
/// rejects. Such evaluations count before there is a first best, too.
///
/// ```
/// use keepbest_core::{EarlyStopping, EarlyStoppingConfig, Metrics, Objective};
///
/// let objective = Objective::new("val/accuracy")?;
/// let mut stopping = EarlyStopping::new(EarlyStoppingConfig { patience: Some(2), ..Default::default() });
/// let mut best = None;
/// let mut stop = None;
/// for (epoch, accuracy) in [(1, 0.8), (2, 0.7), (3, f64::NAN), (4, 0.9)] {
///     let judgement = objective.judge(best.as_ref(), &Metrics::from_iter([("val/accuracy", accuracy)]))?;
///     if judgement.verdict.is_improved() {
///         best = judgement.score;
///     }
///     stop = stopping.observe(&objective, &judgement, epoch);
///     if stop.is_some() {
///         break;
///     }
/// }
/// let words = "no improvement of val/accuracy for 2 evaluations (best 0.8000 at epoch 1)";
/// assert_eq!(stop.unwrap().to_string(), words);
/// # Ok::<(), keepbest_core::ObjectiveError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    state: EarlyStoppingState,
}

impl EarlyStopping {
    /// At the start of a run.
    #[must_use]
    pub fn new(config: EarlyStoppingConfig) -> Self {
        Self::resume(config, EarlyStoppingState::default())
    }

    /// In the middle of a run.
    #[must_use]
    pub fn resume(config: EarlyStoppingConfig, state: EarlyStoppingState) -> Self {
        Self { config, state }
    }

    /// The rules.
    #[must_use]
    pub fn config(&self) -> &EarlyStoppingConfig {
        &self.config
    }

    /// What to store for [`resume`](Self::resume).
    #[must_use]
    pub fn state(&self) -> &EarlyStoppingState {
        &self.state
    }

    /// Takes in an evaluation, judged by `objective`: target, then patience.
    pub fn observe(
        &mut self,
        objective: &Objective,
        judgement: &Judgement,
        epoch: u64,
    ) -> Option<StopReason> {
        let direction = objective.direction();
        let min_delta = self.config.min_delta.unwrap_or(objective.min_delta());
        // A rejected evaluation has no score, and so counts as no improvement.
        let value = judgement
            .score
            .map(|score| score.value)
            .filter(|value| value.is_finite());

        if let (Some(value), Verdict::Improved { .. }) = (value, &judgement.verdict) {
            self.state.best = Some(BestSoFar { value, epoch });
        }
        match (value, self.state.reference) {
            (Some(value), None) => self.restart(value),
            (Some(value), Some(reference))
                if min_delta.is_exceeded(direction, value, reference) =>
            {
                self.restart(value)
            }
            _ => self.state.waited = self.state.waited.saturating_add(1),
        }

        if let (Some(value), Some(target)) = (value, self.config.target)
            && direction.gain(value, target) >= 0.0
        {
            let monitor = objective.monitor().to_string();
            return Some(StopReason::TargetReached {
                monitor,
                direction,
                value,
                target,
                epoch,
            });
        }
        let patience = self.config.patience?.max(1);
        (self.state.waited >= patience).then(|| StopReason::NoImprovement {
            monitor: objective.monitor().to_string(),
            evaluations: self.state.waited,
            by_more_than: (!min_delta.is_zero()).then(|| min_delta.to_string()),
            best: self.state.best,
        })
    }

    fn restart(&mut self, reference: f64) {
        self.state.reference = Some(reference);
        self.state.waited = 0;
    }

    /// Takes in the training loss of a step.
    #[must_use]
    pub fn observe_loss(&self, step: u64, loss: f64) -> Option<StopReason> {
        (self.config.divergence && !loss.is_finite()).then_some(StopReason::Diverged { loss, step })
    }

    /// Takes in the time since the start of the run, as the caller counts it.
    #[must_use]
    pub fn observe_elapsed(&self, elapsed: Duration) -> Option<StopReason> {
        let limit_seconds = self.config.max_seconds?;
        let elapsed_seconds = elapsed.as_secs_f64();
        (elapsed_seconds >= limit_seconds).then_some(StopReason::TimeUp {
            limit_seconds,
            elapsed_seconds,
        })
    }
}
