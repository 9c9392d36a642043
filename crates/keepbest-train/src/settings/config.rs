//! A run's settings with every one decided, as `run.toml` in the run's directory records them.

use super::{Config, DataDefaults, SaveKind, Settings, SettingsError, to_toml};
use keepbest_core::suggest::nearest;
use keepbest_core::text::with_causes;
use keepbest_nn::{CPU, DEVICES, EngineError, devices};

impl Config {
    /// Decides every setting that is not given. `name` and `runs-dir` say where a run is, not what: they are left out.
    ///
    /// # Errors
    /// [`SettingsError`] for values out of range, unknown names, and settings that do not go together.
    pub fn resolve(given: Settings, data: &DataDefaults) -> Result<Self, SettingsError> {
        given.check()?;
        let given = with_recipe(given, data);
        let given_keys: Vec<_> = given.given_keys().collect();
        let config = Self::decide(given, data);
        let decided = config.to_settings();
        for key in given_keys {
            if let Some(owner) = key.only
                && (key.access.written)(&decided).is_none()
            {
                let (name, owner) = (key.name, owner());
                let (optimizer, schedule) = (config.optimizer, config.schedule);
                let device = match config.device.as_str() {
                    CPU => String::new(),
                    device => format!(" on device {device}"),
                };
                return Err(SettingsError::Conflict {
                    message: format!(
                        "{name} is a setting of {owner}; this run has optimizer {optimizer} and schedule {schedule}{device}"
                    ),
                    hint: None,
                });
            }
        }
        config.check()?;
        Ok(config)
    }

    /// The values that these images lead to, whether or not they go together.
    pub(super) fn led_to(given: Settings, data: &DataDefaults) -> Settings {
        Self::decide(with_recipe(given, data), data).to_settings()
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.warmup > self.epochs as f64 {
            return Err(SettingsError::Conflict {
                message: format!(
                    "warmup is {} epochs, longer than the whole run of {}",
                    self.warmup, self.epochs
                ),
                hint: Some("set warmup, too; 0 is none".into()),
            });
        }
        if self.ema.is_some() && self.swa.is_some() {
            return Err(SettingsError::Conflict {
                message: "ema and swa are two averages of the weights; a run keeps one".into(),
                hint: None,
            });
        }
        if self.thresholds.is_some() && self.save == SaveKind::Params {
            return Err(SettingsError::Conflict {
                message: "save params keeps the weights alone, and thresholds are none".into(),
                hint: Some("save full models".into()),
            });
        }
        check_device(&self.device)
    }

    /// The same as settings, all that apply given.
    pub fn to_settings(&self) -> Settings {
        let mut settings = self.clone().given();
        for key in Settings::KEYS.iter().filter(|key| key.unwritten_when_none) {
            if settings.text_of(key.name).as_deref() == Some("none") {
                (key.access.forget)(&mut settings);
            }
        }
        settings
    }

    /// The text of `run.toml`, with `preface` as a comment above.
    pub fn to_toml(&self, preface: &str) -> String {
        to_toml(&self.to_settings(), preface)
    }
}

/// The settings, with those of their recipe below.
fn with_recipe(given: Settings, data: &DataDefaults) -> Settings {
    match given.recipe.flatten() {
        Some(recipe) => {
            let below = recipe.settings(&given, data);
            given.over(below)
        }
        None => given,
    }
}

/// Accepts the devices that can be computed on here.
///
/// # Errors
/// [`SettingsError::Conflict`], which lists those of this build or says what the machine lacks.
pub fn check_device(device: &str) -> Result<(), SettingsError> {
    let Err(error) = keepbest_nn::check_device(device) else {
        return Ok(());
    };
    let (message, hint) = match &error {
        EngineError::NoDevice { known, .. } => {
            let there = devices().join(", ");
            let near = nearest(device, DEVICES.iter().copied()).filter(|_| !known);
            let hint = match near {
                Some(near) => Some(format!("did you mean {near}?")),
                None => error
                    .hint()
                    .or(Some(format!("this build computes on: {there}"))),
            };
            let message = format!("no device {device} in this build; it has: {there}");
            (message, hint)
        }
        _ => (with_causes(&error), error.hint()),
    };
    Err(SettingsError::Conflict { message, hint })
}

#[cfg(test)]
mod tests {
    use super::super::OptimizerKind;
    use super::super::ScheduleKind;
    use super::*;

    fn resolve(text: &str) -> Result<Config, SettingsError> {
        Config::resolve(Settings::from_toml(text).unwrap(), &DataDefaults::default())
    }

    #[test]
    fn every_setting_but_the_place_is_written() {
        for text in [
            "",
            "optimizer = \"adam\"\nschedule = \"plateau\"",
            "schedule = \"step\"",
        ] {
            let config = resolve(text).unwrap();
            let given = config.to_settings().given();
            for key in Settings::KEYS {
                let applies = match key.name {
                    "name" | "runs-dir" | "data-dir" | "time-budget" => false,
                    "momentum" | "nesterov" => config.optimizer == OptimizerKind::Sgd,
                    "lr-step" => config.schedule == ScheduleKind::Step,
                    "lr-gamma" => config.lr_gamma.is_some(),
                    "lr-patience" => config.schedule == ScheduleKind::Plateau,
                    name => key.only.is_none() || given.contains(&name),
                };
                assert_eq!(given.contains(&key.name), applies, "{}", key.name);
            }
            assert_eq!(resolve(&config.to_toml("x")).unwrap(), config);
            // Empty lists, too: what is recorded is compared key by key.
            let again = Settings::from_toml(&config.to_toml("x")).unwrap();
            assert_eq!(again.given(), given);
        }
    }

    #[test]
    fn settings_that_do_not_apply_are_errors() {
        let told = |text: &str| resolve(text).unwrap_err().to_string();
        assert!(
            told("optimizer = \"adam\"\nmomentum = 0.9")
                .starts_with("momentum is a setting of optimizer sgd")
        );
        assert!(
            told("lr-gamma = 0.5")
                .starts_with("lr-gamma is a setting of schedules step and plateau")
        );
        assert!(
            told("thresholds = \"f1_macro\"\nsave = \"params\"").starts_with("save params keeps")
        );
        assert!(told("epochs = 2\nwarmup = 3").starts_with("warmup is 3 epochs"));
        assert_eq!(
            told("device = \"cuda\""),
            "no device cuda in this build; it has: cpu"
        );
    }

    #[test]
    fn few_images_make_a_small_batch() {
        let of = |train_images, text: &str| {
            let data = DataDefaults {
                train_images,
                ..DataDefaults::default()
            };
            let config = Config::resolve(Settings::from_toml(text).unwrap(), &data).unwrap();
            (config.batch_size, config.lr)
        };
        assert_eq!(of(1000, ""), (64, 0.05));
        assert_eq!(of(32, ""), (32, 0.025));
        // One that is asked for is left alone: too large, it is an error later.
        assert_eq!(of(32, "batch-size = 64"), (64, 0.05));
    }

    #[test]
    fn small_batches_learn_slower() {
        let lr = |text: &str| resolve(text).unwrap().lr;
        assert_eq!(
            [lr(""), lr("batch-size = 256"), lr("batch-size = 16")],
            [0.05, 0.05, 0.0125]
        );
        assert_eq!(lr("batch-size = 16\noptimizer = \"adam\""), 0.002);
        assert_eq!(lr("batch-size = 16\nlr = 0.5"), 0.5);
    }

    #[test]
    fn values_made_in_code_are_checked_too() {
        let given = Settings {
            lr: Some(f64::NAN),
            ..Settings::default()
        };
        let error = Config::resolve(given, &DataDefaults::default())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "lr must be a finite number above 0, found \"nan\"");
        let given = Settings {
            val_fraction: Some(1.0),
            ..Settings::default()
        };
        let error = Config::resolve(given, &DataDefaults::default())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "val-fraction must be a number between 0 and 1, found \"1.0\""
        );
    }
}
