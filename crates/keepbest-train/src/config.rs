//! A run's settings with every one decided, as `run.toml` in the run's directory records them.

use std::path::PathBuf;

use keepbest_core::classification::DecisionMetric;
use keepbest_data::Augmentation;

use crate::settings::{
    AlsoKind, ByteSize, ClassWeights, EvalEvery, ImageSize, Mode, Monitors, OptimizerKind,
    PrecisionKind, Recipe, Resize, Sampling, SaveKind, ScheduleKind, Settings, SettingsError,
    Smooth, to_toml,
};
use keepbest_core::suggest::nearest;

/// What this build can compute on.
pub const DEVICES: &[&str] = &["cpu"];

/// Everything a run depends on besides the data itself.
///
/// ```
/// use keepbest_train::{Config, DataDefaults, Settings};
/// let given = Settings::from_toml("epochs = 3\noptimizer = \"adamw\"").unwrap();
/// let config = Config::resolve(given, &DataDefaults::default()).unwrap();
/// assert_eq!((config.epochs, config.lr), (3, 0.002));
/// // What it writes reruns it.
/// let again = Settings::from_toml(&config.to_toml("")).unwrap();
/// assert_eq!(Config::resolve(again, &DataDefaults::default()).unwrap(), config);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// A known set's name, or a folder.
    pub data: String,
    /// Where a named set lies, when not at its usual place.
    pub data_dir: Option<PathBuf>,
    /// Size of the network's input.
    pub image_size: ImageSize,
    /// How images of other sizes come to it.
    pub resize: Resize,
    /// Part of the training images that becomes the val split, where the data has none.
    pub val_fraction: f64,
    /// Part of the training images that becomes the test split, where the data has none.
    pub test_fraction: f64,
    /// Random changes to training images.
    pub augment: Augmentation,
    /// Which training images an epoch goes through.
    pub sampling: Sampling,
    /// Whether image files that cannot be read are left out.
    pub skip_corrupt: bool,
    /// Memory for decoded images.
    pub cache: ByteSize,
    /// The network's name.
    pub model: String,
    /// The model whose weights it starts from.
    pub from: Option<String>,
    /// Patterns of the parameters that stay as they are.
    pub freeze: Vec<String>,
    /// Factor on the learning rate of all but the last layer with weights.
    pub body_rate: f64,
    /// Whether every batch norm keeps its statistics.
    pub freeze_statistics: bool,
    /// What decided what was not given.
    pub recipe: Option<Recipe>,
    /// Passes over the training images.
    pub epochs: u64,
    /// Images a step.
    pub batch_size: usize,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Highest learning rate.
    pub lr: f64,
    /// Of SGD; absent for others.
    pub momentum: Option<f64>,
    /// Of SGD; absent for others.
    pub nesterov: Option<bool>,
    /// Weight decay.
    pub weight_decay: f64,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// Epochs of rising learning rate.
    pub warmup: f64,
    /// Epochs between drops of schedule `step`; absent for others.
    pub lr_step: Option<f64>,
    /// Factor of a drop of schedules `step` and `plateau`; absent for others.
    pub lr_gamma: Option<f64>,
    /// Evaluations before a drop of schedule `plateau`; absent for others.
    pub lr_patience: Option<u32>,
    /// Part of the target spread over all classes.
    pub label_smoothing: f64,
    /// Weight of each class in the loss.
    pub class_weights: ClassWeights,
    /// Longest gradient; `None` leaves it alone.
    pub clip_grad_norm: Option<f64>,
    /// Decay of the moving average of the weights; `None` keeps none.
    pub ema: Option<f64>,
    /// Part of the run after which the weights of all evaluations are averaged; `None` for no average.
    pub swa: Option<f64>,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads; `None` for one a core.
    pub threads: Option<usize>,
    /// What computes; one of [`DEVICES`].
    pub device: String,
    /// What training steps multiply in.
    pub precision: PrecisionKind,
    /// The metric, or expression of metrics, that decides, and those that a best is kept of as well.
    pub monitor: Monitors,
    /// Whether larger or smaller is better.
    pub mode: Mode,
    /// Least improvement that counts: `0.001` or `0.1%`.
    pub min_delta: String,
    /// The metric that decides between equals.
    pub tie_break: Option<String>,
    /// What a best model must fulfil.
    pub constraint: Vec<String>,
    /// The metrics of the Pareto front that is kept.
    pub pareto: Option<String>,
    /// When to measure.
    pub eval_every: EvalEvery,
    /// Evaluations without a better one before stopping.
    pub patience: Option<u32>,
    /// A value of what is monitored at which to stop.
    pub target: Option<f64>,
    /// Minutes of a session after which to stop.
    pub max_minutes: Option<f64>,
    /// How the monitored value is smoothed.
    pub smooth: Smooth,
    /// The p-value below which a better model replaces the best; `None` for any.
    pub significant: Option<f64>,
    /// The metric that thresholds are tuned for; `None` to decide for the likeliest class.
    pub thresholds: Option<DecisionMetric>,
    /// What a checkpoint holds.
    pub save: SaveKind,
    /// What best is kept as beside `best.safetensors`.
    pub also: Option<AlsoKind>,
    /// Checkpoints to keep besides best and last.
    pub keep: Vec<String>,
    /// Other tools to log to.
    pub log: Vec<String>,
}

/// Defaults that depend on the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataDefaults {
    /// Size of the network's input.
    pub image_size: ImageSize,
    /// How images of other sizes come to it.
    pub resize: Resize,
    /// Random changes that keep an image of its class.
    pub augment: Augmentation,
    /// The same for a long run, in which the network would learn the images by heart.
    pub strong_augment: Augmentation,
    /// Images to train on; 0 where it is not known yet.
    pub train_images: usize,
}

impl Default for DataDefaults {
    fn default() -> Self {
        let image_size = ImageSize {
            height: 28,
            width: 28,
        };
        Self {
            image_size,
            resize: Resize::None,
            augment: Augmentation::default(),
            strong_augment: Augmentation::default(),
            train_images: 0,
        }
    }
}

/// The data set trained on when none is named: it ships inside the program.
pub const DEFAULT_DATA: &str = keepbest_data::DEFAULT_SOURCE;

/// The network trained when none is named.
pub const DEFAULT_MODEL: &str = "simple-cnn";

impl Config {
    /// Decides every setting that is not given. `name` and `runs-dir` say where a run is, not what: they are left out.
    ///
    /// # Errors
    /// [`SettingsError`] for values out of range, unknown names, and settings that do not go together.
    pub fn resolve(given: Settings, data: &DataDefaults) -> Result<Self, SettingsError> {
        given.check()?;
        let recipe = given.recipe.flatten();
        let given = match recipe {
            Some(recipe) => {
                let below = recipe.settings(&given, data);
                given.over(below)
            }
            None => given,
        };
        let optimizer = given.optimizer.unwrap_or(OptimizerKind::Sgd);
        let schedule = given.schedule.unwrap_or(ScheduleKind::OneCycle);
        let usual = optimizer.defaults();
        let with_momentum = usual.momentum.is_some();
        let kinds = OptimizerKind::ALL.iter();
        let kinds = kinds.filter(|kind| kind.defaults().momentum.is_some());
        let owners: Vec<&str> = kinds.map(|kind| kind.word()).collect();
        let owners = format!("optimizer {}", owners.join(" or "));
        let (stepped, plateau) = (
            schedule == ScheduleKind::Step,
            schedule == ScheduleKind::Plateau,
        );
        for (name, is_given, holds, owner) in [
            (
                "momentum",
                given.momentum.is_some(),
                with_momentum,
                owners.as_str(),
            ),
            (
                "nesterov",
                given.nesterov.is_some(),
                with_momentum,
                owners.as_str(),
            ),
            ("lr-step", given.lr_step.is_some(), stepped, "schedule step"),
            (
                "lr-gamma",
                given.lr_gamma.is_some(),
                stepped || plateau,
                "schedules step and plateau",
            ),
            (
                "lr-patience",
                given.lr_patience.is_some(),
                plateau,
                "schedule plateau",
            ),
        ] {
            if is_given && !holds {
                return Err(SettingsError::Conflict {
                    message: format!(
                        "{name} is a setting of {owner}; this run has optimizer {optimizer} and schedule {schedule}"
                    ),
                    hint: None,
                });
            }
        }
        let epochs = given.epochs.unwrap_or(24);
        let monitor = given.monitor.unwrap_or_else(|| "val/accuracy".into());
        // On a few hundred images many models are equally accurate. The loss tells them apart.
        let tie_break = (monitor.first == "val/accuracy").then(|| "val/loss".to_owned());
        let batch_size = given.batch_size.unwrap_or(match data.train_images {
            0 => 64,
            few => few.min(64),
        });
        // The noise of a step grows with the rate and shrinks with the batch (Goyal et al., arXiv 1706.02677).
        let smaller = (batch_size as f64 / 64.0).min(1.0);
        let config = Self {
            data: given.data.unwrap_or_else(|| DEFAULT_DATA.into()),
            data_dir: given.data_dir.flatten(),
            image_size: given.image_size.unwrap_or(data.image_size),
            resize: given.resize.unwrap_or(data.resize),
            val_fraction: given.val_fraction.unwrap_or(0.1),
            test_fraction: given.test_fraction.unwrap_or(0.1),
            augment: given.augment.unwrap_or(data.augment),
            sampling: given.sampling.unwrap_or(Sampling::Shuffled),
            skip_corrupt: given.skip_corrupt.unwrap_or(false),
            cache: given
                .cache
                .unwrap_or(ByteSize(keepbest_data::DEFAULT_CACHE_BYTES)),
            model: given.model.unwrap_or_else(|| DEFAULT_MODEL.into()),
            from: given.from.flatten(),
            freeze: given.freeze.unwrap_or_default(),
            body_rate: given.body_rate.unwrap_or(1.0),
            freeze_statistics: given.freeze_statistics.unwrap_or(false),
            recipe,
            epochs,
            batch_size,
            optimizer,
            lr: given.lr.unwrap_or(if usual.rate_follows_batch {
                usual.learning_rate * smaller
            } else {
                usual.learning_rate
            }),
            momentum: usual
                .momentum
                .map(|usual| given.momentum.unwrap_or(usual.0)),
            nesterov: usual
                .momentum
                .map(|usual| given.nesterov.unwrap_or(usual.1)),
            weight_decay: given.weight_decay.unwrap_or(usual.weight_decay),
            schedule,
            warmup: given.warmup.unwrap_or(match schedule {
                ScheduleKind::OneCycle => 0.25 * epochs as f64,
                _ => 0.0,
            }),
            lr_step: stepped.then(|| given.lr_step.unwrap_or(epochs as f64 / 3.0)),
            lr_gamma: (stepped || plateau).then(|| given.lr_gamma.unwrap_or(0.1)),
            lr_patience: plateau.then(|| given.lr_patience.unwrap_or(3)),
            label_smoothing: given.label_smoothing.unwrap_or(0.1),
            class_weights: given.class_weights.unwrap_or(ClassWeights::None),
            clip_grad_norm: given.clip_grad_norm.flatten(),
            ema: given.ema.flatten(),
            swa: given.swa.flatten(),
            seed: given.seed.unwrap_or(1),
            threads: given.threads.flatten(),
            device: given.device.unwrap_or_else(|| DEVICES[0].into()),
            precision: given.precision.unwrap_or(PrecisionKind::F32),
            monitor,
            mode: given.mode.unwrap_or(Mode::Auto),
            min_delta: given.min_delta.unwrap_or_else(|| "0".into()),
            tie_break: given.tie_break.unwrap_or(tie_break),
            constraint: given.constraint.unwrap_or_default(),
            pareto: given.pareto.flatten(),
            eval_every: given.eval_every.unwrap_or(EvalEvery::Epoch),
            patience: given.patience.flatten(),
            target: given.target.flatten(),
            max_minutes: given.max_minutes.flatten(),
            smooth: given.smooth.unwrap_or(Smooth::None),
            significant: given.significant.flatten(),
            thresholds: given.thresholds.flatten(),
            save: given.save.unwrap_or(SaveKind::Full),
            also: given.also.flatten(),
            keep: given.keep.unwrap_or_default(),
            log: given.log.unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
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
        let this = self.clone();
        Settings {
            data: Some(this.data),
            data_dir: this.data_dir.map(Some),
            image_size: Some(this.image_size),
            resize: Some(this.resize),
            val_fraction: Some(this.val_fraction),
            test_fraction: Some(this.test_fraction),
            augment: Some(this.augment),
            sampling: Some(this.sampling),
            skip_corrupt: Some(this.skip_corrupt),
            cache: Some(this.cache),
            model: Some(this.model),
            from: Some(this.from),
            recipe: Some(this.recipe),
            epochs: Some(this.epochs),
            time_budget: None,
            batch_size: Some(this.batch_size),
            optimizer: Some(this.optimizer),
            lr: Some(this.lr),
            momentum: this.momentum,
            nesterov: this.nesterov,
            weight_decay: Some(this.weight_decay),
            schedule: Some(this.schedule),
            warmup: Some(this.warmup),
            lr_step: this.lr_step,
            lr_gamma: this.lr_gamma,
            lr_patience: this.lr_patience,
            label_smoothing: Some(this.label_smoothing),
            class_weights: Some(this.class_weights),
            clip_grad_norm: Some(this.clip_grad_norm),
            ema: Some(this.ema),
            swa: Some(this.swa),
            seed: Some(this.seed),
            threads: Some(this.threads),
            device: Some(this.device),
            precision: Some(this.precision),
            monitor: Some(this.monitor),
            mode: Some(this.mode),
            min_delta: Some(this.min_delta),
            tie_break: Some(this.tie_break),
            constraint: Some(this.constraint),
            pareto: Some(this.pareto),
            eval_every: Some(this.eval_every),
            patience: Some(this.patience),
            target: Some(this.target),
            max_minutes: Some(this.max_minutes),
            smooth: Some(this.smooth),
            significant: Some(this.significant),
            thresholds: Some(this.thresholds),
            save: Some(this.save),
            also: Some(this.also),
            freeze: Some(this.freeze),
            body_rate: Some(this.body_rate),
            freeze_statistics: Some(this.freeze_statistics),
            keep: Some(this.keep),
            log: Some(this.log),
            name: None,
            runs_dir: None,
        }
    }

    /// The text of `run.toml`, with `preface` as a comment above.
    pub fn to_toml(&self, preface: &str) -> String {
        to_toml(&self.to_settings(), preface)
    }
}

/// Accepts the devices that this build has.
///
/// # Errors
/// [`SettingsError::Conflict`] listing them.
pub fn check_device(device: &str) -> Result<(), SettingsError> {
    if DEVICES.contains(&device) {
        return Ok(());
    }
    let hint = match nearest(device, DEVICES.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("this build computes on: {}", DEVICES.join(", ")),
    };
    Err(SettingsError::Conflict {
        message: format!(
            "no device {device} in this build; it has: {}",
            DEVICES.join(", ")
        ),
        hint: Some(hint),
    })
}

#[cfg(test)]
mod tests {
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
                    _ => true,
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
