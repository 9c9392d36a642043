//! What "best" means: which value, in which direction, better by how much, and under which conditions.

mod constraint;
mod error;
mod goal;
pub mod min_delta;

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    expression::Expression,
    metrics::{Direction, Metrics, format_apart, format_value},
    verdict::{Judgement, Score, Verdict},
};

pub use constraint::{Comparison, Constraint};
pub use error::ObjectiveError;
pub use goal::Goal;
pub use min_delta::MinDelta;

/// What "best" means. Kept with the run, so that every process judges alike.
///
/// # The total order
///
/// Scores are ordered by [`compare_total`](Objective::compare_total), and by nothing else, everywhere:
///
/// 1. a finite value is better than NaN and the infinities, which are equal to each other;
/// 2. then the value, in the objective's direction, as numbers (-0.0 equals 0.0);
/// 3. then the tie-break: one that is there and finite is better than none; then its value, in its direction;
/// 4. what is equal in all of this is a tie, and the earlier stays.
///
/// # Becoming the best
///
/// [`judge`](Objective::judge) makes a new best of an evaluation that meets all constraints, with a finite value, when
/// there is no best yet, or when its value is better than the best's by more than `min_delta`, or when it is at least as
/// good and better by the tie-break. So without `min_delta` the best is the greatest in the total order. With one, small
/// improvements do not count as such and may be decided by the tie-break; but never is the best replaced by a lower score,
/// so a best cannot drift downwards.
///
/// ```
/// use keepbest_core::{Metrics, Objective};
///
/// let objective = Objective::new("val/accuracy")?
///     .with_min_delta("0.1%".parse()?)?
///     .with_tie_break("val/loss", None)?
///     .with_constraint("val/recall_macro >= 0.9".parse()?);
/// assert_eq!(
///     objective.to_string(),
///     "max val/accuracy by more than 0.1%, ties by min val/loss, with val/recall_macro >= 0.9"
/// );
///
/// let metrics = Metrics::from_iter([("val/accuracy", 0.91), ("val/loss", 0.3), ("val/recall_macro", 0.87)]);
/// let judgement = objective.judge(None, &metrics)?;
/// assert_eq!(judgement.verdict.reason(), "val/recall_macro >= 0.9 does not hold: val/recall_macro is 0.8700");
/// # Ok::<(), keepbest_core::ObjectiveError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    monitor: Expression,
    direction: Direction,
    #[serde(default)]
    min_delta: MinDelta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tie_break: Option<Goal>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<Constraint>,
}

impl Objective {
    /// To have the most, or the least, of an expression over metrics; the direction is that of the metrics in it, unless
    /// `max:` or `min:` stands before it.
    ///
    /// # Errors
    /// When the text is no expression, has no metric in it, or its direction does not follow from its metrics: then use
    /// [`with_direction`](Self::with_direction).
    pub fn new(monitor: &str) -> Result<Self, ObjectiveError> {
        Self::build(monitor, None)
    }

    /// The same with the direction given, which counts more than that of the metrics, and less than a `max:` or `min:`.
    ///
    /// # Errors
    /// When the text is no expression, or has no metric in it.
    pub fn with_direction(monitor: &str, direction: Direction) -> Result<Self, ObjectiveError> {
        Self::build(monitor, Some(direction))
    }

    /// The same with the direction given or not.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn build(monitor: &str, direction: Option<Direction>) -> Result<Self, ObjectiveError> {
        let Goal { monitor, direction } = Goal::read(monitor, direction, |expression| {
            ObjectiveError::UnknownDirection { expression }
        })?;
        Ok(Self {
            monitor,
            direction,
            min_delta: MinDelta::default(),
            tie_break: None,
            constraints: Vec::new(),
        })
    }

    /// Sets the least improvement that counts.
    ///
    /// # Errors
    /// [`ObjectiveError::MinDelta`] when it is negative or not finite.
    pub fn with_min_delta(mut self, min_delta: MinDelta) -> Result<Self, ObjectiveError> {
        self.min_delta = min_delta.validated()?;
        Ok(self)
    }

    /// Sets what decides between equal values: an expression like that of [`new`](Self::new), such as `val/loss` or
    /// `min:val/my_own`.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new), with [`ObjectiveError::UnknownGoalDirection`] for a direction that is not known.
    pub fn with_tie_break(
        mut self,
        monitor: &str,
        direction: Option<Direction>,
    ) -> Result<Self, ObjectiveError> {
        self.tie_break = Some(Goal::read(monitor, direction, |expression| {
            ObjectiveError::UnknownGoalDirection { expression }
        })?);
        Ok(self)
    }

    /// Adds a condition that the best has to meet.
    #[must_use]
    pub fn with_constraint(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// The value that is compared.
    #[must_use]
    pub fn monitor(&self) -> &Expression {
        &self.monitor
    }

    /// Whether more or less of it is better.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The least improvement that counts.
    #[must_use]
    pub fn min_delta(&self) -> MinDelta {
        self.min_delta
    }

    /// What decides between equal values.
    #[must_use]
    pub fn tie_break(&self) -> Option<&Goal> {
        self.tie_break.as_ref()
    }

    /// The conditions that the best has to meet.
    #[must_use]
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Checks that no two of a run's objectives monitor the same: their bests go by what is monitored.
    ///
    /// # Errors
    /// [`ObjectiveError::MonitoredTwice`].
    pub fn check_distinct<'a>(
        objectives: impl IntoIterator<Item = &'a Self>,
    ) -> Result<(), ObjectiveError> {
        let mut seen: Vec<&Expression> = Vec::new();
        for objective in objectives {
            if seen.contains(&&objective.monitor) {
                return Err(ObjectiveError::MonitoredTwice {
                    monitor: objective.monitor.clone(),
                });
            }
            seen.push(&objective.monitor);
        }
        Ok(())
    }

    /// The names of all metrics that judging needs, each once.
    #[must_use]
    pub fn metric_names(&self) -> Vec<&str> {
        let ties = self.tie_break.iter().map(|tie| &tie.monitor);
        let sides = self
            .constraints
            .iter()
            .flat_map(|constraint| [&constraint.left, &constraint.right]);
        let mut names: Vec<&str> = Vec::new();
        for name in std::iter::once(&self.monitor)
            .chain(ties)
            .chain(sides)
            .flat_map(Expression::metric_names)
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Judges an evaluation against the best so far.
    ///
    /// # Errors
    /// [`ObjectiveError::MissingMetric`] when a metric that the objective needs is not among `metrics`, also when
    /// another reason would have decided already: an objective that cannot be applied is found at the first evaluation.
    pub fn judge(
        &self,
        best: Option<&Score>,
        metrics: &Metrics,
    ) -> Result<Judgement, ObjectiveError> {
        let value = self.monitor.evaluate(metrics)?;
        let tie = match &self.tie_break {
            Some(tie_break) => {
                Some(tie_break.monitor.evaluate(metrics)?).filter(|tie| tie.is_finite())
            }
            None => None,
        };
        let mut violations = Vec::new();
        for constraint in &self.constraints {
            violations.extend(constraint.violation(metrics)?);
        }

        let rejected = |reason| Judgement {
            verdict: Verdict::Rejected { reason },
            score: None,
            value,
        };
        if !value.is_finite() {
            return Ok(rejected(format!(
                "{} is {}, which is never the best",
                self.monitor,
                format_value(value)
            )));
        }
        if !violations.is_empty() {
            return Ok(rejected(violations.join("; ")));
        }
        let score = Score { value, tie };
        Ok(Judgement {
            verdict: self.verdict(best, &score),
            score: Some(score),
            value,
        })
    }

    /// The verdict for a finite value that meets the constraints.
    fn verdict(&self, best: Option<&Score>, score: &Score) -> Verdict {
        let monitor = &self.monitor;
        let value = score.value;
        let Some(best) = best.filter(|best| best.value.is_finite()) else {
            return Verdict::Improved {
                reason: format!("{monitor} {}, the first", format_value(value)),
            };
        };
        let (shown, was) = format_apart(value, best.value);
        if self
            .min_delta
            .is_exceeded(self.direction, value, best.value)
        {
            return Verdict::Improved {
                reason: format!("{monitor} {shown}, was {was}"),
            };
        }
        let by_value = self.direction.compare(value, best.value);
        if by_value == Ordering::Less {
            let than = match self.direction {
                Direction::Maximise => "lower",
                Direction::Minimise => "higher",
            };
            return Verdict::NotImproved {
                reason: format!("{monitor} {shown} is {than} than the best {was}"),
            };
        }
        let ties = match by_value {
            Ordering::Equal => format!("{monitor} {shown} equals the best"),
            _ => format!(
                "{monitor} {shown} is not better than the best {was} by more than {}",
                self.min_delta
            ),
        };
        let Some(tie_break) = &self.tie_break else {
            return Verdict::NotImproved {
                reason: format!("{ties}, the earlier stays"),
            };
        };
        let tie_monitor = &tie_break.monitor;
        match compare_ties(tie_break, score.tie, best.tie) {
            Ordering::Greater => {
                let (now, was) = format_ties(score.tie, best.tie);
                Verdict::Improved {
                    reason: format!("{ties}, and {tie_monitor} decides: {now}, was {was}"),
                }
            }
            _ => {
                let (now, was) = format_ties(score.tie, best.tie);
                Verdict::NotImproved {
                    reason: format!(
                        "{ties}, and {tie_monitor} {now} is not better than {was}: the earlier stays"
                    ),
                }
            }
        }
    }

    /// The total order over scores (see [`Objective`]): `Greater` when `a` is better than `b`, `Equal` when they tie.
    #[must_use]
    pub fn compare_total(&self, a: &Score, b: &Score) -> Ordering {
        let ties = || match &self.tie_break {
            // A value that is not finite is worse than all, and has no tie-break.
            Some(tie_break) if a.value.is_finite() => compare_ties(tie_break, a.tie, b.tie),
            _ => Ordering::Equal,
        };
        self.direction.compare(a.value, b.value).then_with(ties)
    }
}

fn compare_ties(tie_break: &Goal, a: Option<f64>, b: Option<f64>) -> Ordering {
    tie_break
        .direction
        .compare(a.unwrap_or(f64::NAN), b.unwrap_or(f64::NAN))
}

fn format_ties(a: Option<f64>, b: Option<f64>) -> (String, String) {
    match (a, b) {
        (Some(a), Some(b)) => format_apart(a, b),
        (a, b) => {
            let shown =
                |tie: Option<f64>| tie.map_or_else(|| "not finite".to_owned(), format_value);
            (shown(a), shown(b))
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.monitor)?;
        if !self.min_delta.is_zero() {
            write!(f, " by more than {}", self.min_delta)?;
        }
        if let Some(tie) = &self.tie_break {
            write!(f, ", ties by {} {}", tie.direction, tie.monitor)?;
        }
        for (i, constraint) in self.constraints.iter().enumerate() {
            write!(f, "{} {constraint}", if i == 0 { ", with" } else { " and" })?;
        }
        Ok(())
    }
}
