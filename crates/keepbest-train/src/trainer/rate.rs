//! The learning rate of each step.

use keepbest_core::Direction;
use keepbest_nn::schedule::{
    Anneal, Curve, Mode, Plateau, PlateauState, Schedule, ThresholdMode, WarmUp,
};

use crate::settings::{Config, ScheduleKind};

/// A run's learning rates: a pure function of the step, and of what a plateau has seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rates {
    base: f64,
    schedule: Schedule,
}

impl Rates {
    /// The rates of a run of `epochs` epochs of `batches` steps. `direction` is that of the monitored metric.
    pub(super) fn new(config: &Config, epochs: u64, batches: u64, direction: Direction) -> Self {
        let steps = epochs * batches;
        let in_steps = |epochs: f64| (epochs * batches as f64).round() as u64;
        let warm_up = in_steps(config.warmup).min(steps);
        let gamma = config.lr_gamma.unwrap_or(0.1);
        let curve = match config.schedule {
            // Its warm-up is part of the curve. The top is its last step, and a rise of one step is none.
            ScheduleKind::OneCycle => Curve::OneCycle {
                steps,
                pct_start: if warm_up > 1 {
                    warm_up as f64 / steps as f64
                } else {
                    0.0
                },
                anneal: Anneal::Cosine,
                div_factor: 25.0,
                final_div_factor: 1e4,
            },
            ScheduleKind::Cosine => Curve::Cosine {
                steps: steps - warm_up,
                eta_min: 0.0,
            },
            ScheduleKind::Step => Curve::Step {
                step_size: in_steps(config.lr_step.unwrap_or(1.0)).max(1),
                gamma,
            },
            ScheduleKind::Plateau => Curve::Plateau(Plateau {
                factor: gamma,
                patience: config.lr_patience.unwrap_or(0),
                threshold: 0.0,
                threshold_mode: ThresholdMode::Abs,
                ..Plateau::new(match direction {
                    Direction::Maximise => Mode::Max,
                    Direction::Minimise => Mode::Min,
                })
            }),
            ScheduleKind::Constant => Curve::Constant,
        };
        let warm_up = (warm_up > 0 && config.schedule != ScheduleKind::OneCycle).then(|| WarmUp {
            steps: warm_up,
            start_factor: 1.0 / warm_up as f64,
        });
        Self {
            base: config.lr,
            schedule: Schedule { curve, warm_up },
        }
    }

    /// The rate of the step after `step` steps.
    pub(super) fn at(&self, step: u64, plateau: Option<&PlateauState>) -> f64 {
        let factor = plateau.map_or(1.0, |plateau| plateau.factor);
        factor * self.schedule.learning_rate(self.base, step)
    }

    /// Takes in the monitored value after an evaluation.
    pub(super) fn observe(&self, value: f64, plateau: &mut Option<PlateauState>) {
        if let Curve::Plateau(rules) = &self.schedule.curve {
            plateau
                .get_or_insert_default()
                .observe(rules, self.base, value);
        }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub(super) fn validate(&self) -> Result<(), keepbest_nn::SettingError> {
        self.schedule.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DataDefaults, Settings};

    fn rates(text: &str) -> Rates {
        let given = Settings::from_toml(&format!("epochs = 4\nlr = 1.0\n{text}")).unwrap();
        let config = Config::resolve(given, &DataDefaults::default()).unwrap();
        let rates = Rates::new(&config, 4, 10, Direction::Maximise);
        rates.validate().unwrap();
        rates
    }

    #[test]
    fn one_cycle_rises_to_the_end_of_its_warm_up_and_falls_to_nothing() {
        let rates = rates("warmup = 1.0");
        assert!((rates.at(0, None) - 0.04).abs() < 1e-12);
        assert_eq!(rates.at(9, None), 1.0);
        assert!(rates.at(39, None) < 1e-4);
    }

    #[test]
    fn every_length_of_warm_up_gives_rates() {
        for warm_up in 0..=40 {
            for schedule in ["one-cycle", "cosine", "constant", "step"] {
                let epochs = f64::from(warm_up) / 10.0;
                let rates = rates(&format!("schedule = \"{schedule}\"\nwarmup = {epochs}"));
                for step in 0..45 {
                    let rate = rates.at(step, None);
                    assert!(
                        (0.0..=1.0).contains(&rate),
                        "{schedule} {warm_up} {step}: {rate}"
                    );
                }
            }
        }
    }

    #[test]
    fn warm_up_rises_in_a_line_before_the_curve() {
        let rates = rates("schedule = \"cosine\"\nwarmup = 0.5");
        let close = |step, expected: f64| {
            let found = rates.at(step, None);
            assert!((found - expected).abs() < 1e-12, "{step}: {found}");
        };
        close(0, 0.2);
        close(5, 1.0);
        close(40, 0.0);
    }

    #[test]
    fn steps_and_constant() {
        let steps = rates("schedule = \"step\"\nlr-step = 2\nlr-gamma = 0.5");
        assert_eq!(
            [0, 19, 20, 39].map(|step| steps.at(step, None)),
            [1.0, 1.0, 0.5, 0.5]
        );
        assert_eq!(rates("schedule = \"constant\"").at(1_000, None), 1.0);
    }

    #[test]
    fn a_plateau_drops_after_its_patience() {
        let rates = rates("schedule = \"plateau\"\nlr-gamma = 0.5\nlr-patience = 1");
        let mut state = None;
        for (value, factor) in [(0.5, 1.0), (0.5, 1.0), (0.4, 0.5), (0.6, 0.5)] {
            rates.observe(value, &mut state);
            assert_eq!(rates.at(7, state.as_ref()), factor, "{value}");
        }
        let mut nothing = None;
        super::tests::rates("").observe(0.5, &mut nothing);
        assert!(nothing.is_none());
    }
}
