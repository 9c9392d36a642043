//! What a run goes by: what best means, what is kept besides, and which metrics that takes.

use std::collections::BTreeSet;

use keepbest_core::retention::Policy;
use keepbest_core::{
    ClassificationAccumulator, History, Metrics, Objective, ObjectiveError, Pareto,
};
use keepbest_model::Costs;

use keepbest_data::{Dataset as _, Subset};

use super::error::TrainError;
use crate::noise::Smoothing;
use crate::settings::{Config, Mode, SettingsError, Smooth};

/// More classes than any metric needs to be there, for checks before the data is read.
const MANY_CLASSES: usize = 20;

/// What a run goes by.
pub(super) struct Goals {
    /// What best means.
    pub objective: Objective,
    /// What a best is kept of beside that.
    pub others: Vec<Objective>,
    /// The smoothing of what decides.
    pub smoothing: Option<Smoothing>,
    /// The retention rules, the front first.
    pub retention: Vec<Policy>,
}

impl Goals {
    /// Reads them from the settings, and checks that every metric they need is one that evaluations have; before the data is read.
    pub(super) fn read(config: &Config) -> Result<Self, TrainError> {
        let (objective, smoothing) = read_objective(config).map_err(or_mistyped)?;
        let goals = Self {
            others: others(config, &objective)?,
            objective,
            smoothing,
            retention: retention(config)?,
        };
        goals.check(measurable(MANY_CLASSES)?)?;
        Ok(goals)
    }

    /// Checks before the first step that every metric the objectives need will be there, and that `val` has the classes it takes: a
    /// metric that is NaN for a perfect model never decides anything.
    pub(super) fn check_metrics(&self, val: &Subset) -> Result<(), TrainError> {
        let classes = val.classes();
        let present: BTreeSet<u32> = val.labels().into_iter().collect();
        let metrics = of_a_perfect_model(classes.len(), &present)?;
        let undefined = self
            .named()
            .find(|name| metrics.get(name).is_some_and(f64::is_nan));
        if let Some(metric) = undefined {
            let lacking = (0u32..)
                .zip(classes)
                .filter(|(label, _)| !present.contains(label));
            return Err(TrainError::Undefined {
                metric: metric.to_owned(),
                lacking: lacking.map(|(_, class)| class.clone()).collect(),
            });
        }
        self.check(metrics)
    }

    /// The names of all metrics that something goes by, with those that are smoothed.
    pub(super) fn metric_names(&self) -> Vec<String> {
        let smoothed = self.smoothing.iter().flat_map(Smoothing::metric_names);
        self.named().chain(smoothed).map(Into::into).collect()
    }

    fn objectives(&self) -> impl Iterator<Item = &Objective> {
        std::iter::once(&self.objective).chain(&self.others)
    }

    fn fronts(&self) -> impl Iterator<Item = &Pareto> {
        self.retention.iter().filter_map(|policy| match policy {
            Policy::Pareto(pareto) => Some(pareto),
            _ => None,
        })
    }

    fn named(&self) -> impl Iterator<Item = &str> {
        let objectives = self.objectives().flat_map(Objective::metric_names);
        objectives.chain(self.fronts().flat_map(Pareto::metric_names))
    }

    fn check(&self, mut metrics: Metrics) -> Result<(), TrainError> {
        if let Some(smoothing) = &self.smoothing {
            smoothing
                .add(&mut metrics, &History::new())
                .map_err(ObjectiveError::from)?;
        }
        for objective in self.objectives() {
            objective.judge(None, &metrics)?;
        }
        for pareto in self.fronts() {
            pareto.point(&metrics).map_err(ObjectiveError::from)?;
        }
        Ok(())
    }
}

/// A metric that does not exist rather than one of which it is not known what is better.
fn or_mistyped(error: ObjectiveError) -> ObjectiveError {
    match &error {
        ObjectiveError::UnknownDirection { expression }
        | ObjectiveError::UnknownGoalDirection { expression } => {
            let known = measurable(MANY_CLASSES);
            let missing = known
                .ok()
                .and_then(|known| expression.evaluate(&known).err());
            missing.map_or(error, ObjectiveError::from)
        }
        _ => error,
    }
}

fn read_objective(config: &Config) -> Result<(Objective, Option<Smoothing>), ObjectiveError> {
    let direction = match config.mode {
        Mode::Auto => None,
        Mode::Max => Some(keepbest_core::Direction::Maximise),
        Mode::Min => Some(keepbest_core::Direction::Minimise),
    };
    let mut objective = Objective::build(&config.monitor.first, direction)?;
    let smoothing = match config.smooth {
        Smooth::None => None,
        Smooth::Ema(factor) => Some(Smoothing::new(objective.monitor().clone(), factor)),
    };
    if let Some(smoothing) = &smoothing {
        objective = Objective::with_direction(smoothing.name(), objective.direction())?;
    }
    let min_delta = config.min_delta.parse()?;
    objective = objective.with_min_delta(min_delta)?;
    if let Some(tie_break) = &config.tie_break {
        objective = objective.with_tie_break(tie_break, None)?;
    }
    Ok((constrained(objective, config)?, smoothing))
}

/// What a best is kept of beside that. Every best must fulfil the constraints.
fn others(config: &Config, first: &Objective) -> Result<Vec<Objective>, TrainError> {
    let mut others = Vec::new();
    for monitor in &config.monitor.others {
        let objective = Objective::new(monitor).map_err(|error| match error {
            // `--mode` is the first one's.
            ObjectiveError::UnknownDirection { expression } => {
                or_mistyped(ObjectiveError::UnknownGoalDirection { expression })
            }
            error => error,
        })?;
        others.push(constrained(objective, config)?);
    }
    Objective::check_distinct(std::iter::once(first).chain(&others))?;
    Ok(others)
}

fn constrained(mut objective: Objective, config: &Config) -> Result<Objective, ObjectiveError> {
    for constraint in &config.constraint {
        objective = objective.with_constraint(constraint.parse()?);
    }
    Ok(objective)
}

/// Parses the retention rules, the front first.
fn retention(config: &Config) -> Result<Vec<Policy>, TrainError> {
    let pareto = config.pareto.iter().map(|metrics| {
        let pareto = metrics.parse::<Pareto>().map_err(or_mistyped)?;
        Ok::<_, TrainError>(Policy::Pareto(pareto))
    });
    let rules = config.keep.iter().map(|rule| {
        rule.parse::<Policy>().map_err(|error| {
            let message = format!("keep {rule:?}: {error}");
            TrainError::Settings(SettingsError::Conflict {
                message,
                hint: None,
            })
        })
    });
    pareto.chain(rules).collect()
}

/// Every metric that an evaluation of so many classes has, with some value.
fn measurable(classes: usize) -> Result<Metrics, TrainError> {
    of_a_perfect_model(classes, &(0..classes as u32).collect())
}

/// The metrics of a model that errs nowhere, on images of the labels that are `present`.
fn of_a_perfect_model(classes: usize, present: &BTreeSet<u32>) -> Result<Metrics, TrainError> {
    let mut accumulator = ClassificationAccumulator::new(classes);
    let mut measure = || {
        for &label in present {
            let mut row = vec![0.0; classes];
            row[label as usize] = 1.0;
            accumulator.update(&row, &[label])?;
        }
        accumulator.finish()
    };
    let mut metrics: Metrics = match measure() {
        Ok(report) => report.metrics("val"),
        Err(error) => return Err(keepbest_model::EvaluateError::Metrics(error).into()),
    };
    metrics.insert("val/loss", 0.0);
    metrics.insert("train/loss", 0.0);
    metrics.insert("train/accuracy", 0.0);
    metrics.extend(Costs::NAMES.map(|name| (name, 0.0)));
    Ok(metrics)
}
