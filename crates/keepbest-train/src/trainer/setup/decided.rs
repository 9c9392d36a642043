//! What is decided before images are read, which may take a while.

use std::path::Path;

use keepbest_model::{Model, SplitRecord, check_architecture};
use keepbest_nn::collective;

use crate::log::LogTo;
use crate::settings::{Config, DataDefaults};
use crate::settings::{Settings, SettingsError, TimeBudget};
use crate::trainer::budget::UNKNOWN_EPOCHS;
use crate::trainer::error::TrainError;
use crate::trainer::goals::Goals;
use crate::trainer::parent::{network_of, open_parent};

/// What is decided before images are read.
pub(super) struct Decided {
    /// The settings as given, with what follows from the model to start from.
    pub given: Settings,
    /// All settings, as far as they do not depend on the data.
    pub first: Config,
    /// The time that epochs are to be fitted into.
    pub budget: Option<TimeBudget>,
    /// The model to start from.
    pub parent: Option<Model>,
    pub goals: Goals,
    pub log: Vec<LogTo>,
    pub split: SplitRecord,
}

impl Decided {
    pub(super) fn of(given: &Settings, runs_dir: &Path) -> Result<Self, TrainError> {
        let mut given = given.clone();
        let budget = given.time_budget.take();
        if let (Some(budget), ranks @ 2..) = (budget, collective().ranks()) {
            return Err(TrainError::Settings(SettingsError::Conflict {
                message: format!(
                    "time-budget {budget} is measured by one process, and {ranks} train together"
                ),
                hint: Some("say how long with epochs".into()),
            }));
        }
        if let Some(budget) = budget {
            if let Some(epochs) = given.epochs {
                return Err(TrainError::Settings(SettingsError::Conflict {
                    message: format!("epochs {epochs} and time-budget {budget} both say how long"),
                    hint: None,
                }));
            }
            // Until it is known what fits.
            given.epochs = Some(UNKNOWN_EPOCHS);
        }
        let from = given.from.clone().flatten();
        let parent = from
            .map(|from| open_parent(&from, runs_dir, given.model.as_deref()))
            .transpose()?;
        if let Some(parent) = &parent {
            // The best of a run may change; the file that was meant does not.
            given.from = Some(Some(parent.path.display().to_string()));
            if given.model.is_none() {
                given.model = Some(network_of(parent)?);
            }
        }
        let first = Config::resolve(given.clone(), &DataDefaults::default())?;
        let goals = Goals::read(&first)?;
        let log = log_to(&first)?;
        check_architecture(&first.model)?;
        let split = SplitRecord {
            val_fraction: first.val_fraction,
            test_fraction: first.test_fraction,
            seed: first.seed,
        };
        Ok(Self {
            given,
            first,
            budget,
            parent,
            goals,
            log,
            split,
        })
    }
}

fn log_to(config: &Config) -> Result<Vec<LogTo>, TrainError> {
    let parsed = config.log.iter().map(|text| {
        text.parse().map_err(|expected| {
            TrainError::Settings(SettingsError::Conflict {
                message: format!("log {text:?}: it must be {expected}"),
                hint: None,
            })
        })
    });
    parsed.collect()
}
