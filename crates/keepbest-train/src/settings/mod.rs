//! What a user sets: flags and keys of `run.toml`, which are the same thing under one name.

mod choices;
mod derived;
mod file;
mod range;
mod recipe;
mod value;

use std::fmt;
use std::path::PathBuf;

pub use choices::{
    AlsoKind, ByteSize, ClassWeights, EvalEvery, ImageSize, Mode, Monitors, OptimizerKind,
    PrecisionKind, Resize, Sampling, SaveKind, ScheduleKind, Smooth, TimeBudget,
};
pub use derived::Following;
pub use file::{ChangedSetting, changed_settings, to_toml};
use keepbest_core::classification::DecisionMetric;
use keepbest_data::Augmentation;
pub use recipe::Recipe;
use value::Value;

use keepbest_core::suggest::nearest;

/// One setting: its name (the flag without `--`, the key in `run.toml`) and what to tell about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `batch-size`
    pub name: &'static str,
    /// `N`
    pub value_name: &'static str,
    /// One or two sentences, without a full stop at the end.
    pub help: &'static str,
    /// The heading it stands under.
    pub group: Group,
    /// Whether the flag may be given several times.
    pub repeats: bool,
}

/// Headings of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Images, split, augmentation.
    Data,
    /// Which network.
    Model,
    /// Optimizer, schedule, loss.
    Training,
    /// What "best" means.
    Best,
    /// What is saved, and where.
    Saving,
}

impl Group {
    /// The heading, as help and `run.toml` show it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Model => "Model",
            Self::Training => "Training",
            Self::Best => "What best means",
            Self::Saving => "Saving",
        }
    }
}

macro_rules! settings {
    ($( [$group:ident] $( $field:ident: $type:ty = $name:literal $value_name:literal $help:literal; )* )*) => {
        /// Settings as given, each of them optional. [`crate::Config`] is the same with every one decided.
        #[derive(Debug, Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct Settings { $($(
            #[doc = $help]
            pub $field: Option<$type>,
        )*)* }

        impl Settings {
            /// Every setting there is, in the order that help and `run.toml` show.
            pub const KEYS: &'static [Key] = &[$($(
                Key {
                    name: $name,
                    value_name: $value_name,
                    help: $help,
                    group: Group::$group,
                    repeats: repeats::<$type>(),
                },
            )*)*];

            /// Sets one by name from text; a setting that repeats grows by an item.
            ///
            /// # Errors
            /// [`SettingsError`] for a name that does not exist or a value of another kind.
            pub fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), SettingsError> {
                match name {
                    $($( $name => {
                        let value = <$type as Value>::read(text)
                            .map_err(|expected| range::expected($name).map_or(expected, Into::into))
                            .and_then(|value| match range::expected($name) {
                                Some(expected) if !range::holds($name, text) => Err(expected.into()),
                                _ => Ok(value),
                            })
                            .map_err(|expected| SettingsError::Value {
                                key: $name,
                                found: text.into(),
                                expected,
                                origin,
                            })?;
                        value.put(&mut self.$field);
                    } )*)*
                    _ => {
                        return Err(SettingsError::UnknownKey {
                            key: name.into(),
                            nearest: nearest(name, Self::KEYS.iter().map(|key| key.name)),
                            origin,
                        });
                    }
                }
                Ok(())
            }

            /// These settings, and those of `below` where these say nothing.
            #[must_use]
            pub fn over(self, mut below: Self) -> Self {
                // One way to say how long replaces the other.
                if self.time_budget.is_some() {
                    below.epochs = None;
                } else if self.epochs.is_some() {
                    below.time_budget = None;
                }
                Self { $($( $field: self.$field.or(below.$field), )*)* }
            }

            /// Tests every given value, for settings that were not made by [`Settings::set`].
            ///
            /// # Errors
            /// [`SettingsError::Value`] for the first that is out of range.
            pub fn check(&self) -> Result<(), SettingsError> {
                for (name, value) in Self::KEYS.iter().filter_map(|key| Some((key.name, self.written(key.name)?))) {
                    let text = value.as_str().map_or_else(|| value.to_string(), Into::into);
                    if !value.is_array() {
                        Self::default().set(name, &text, Origin::Code)?;
                    }
                }
                Ok(())
            }

            /// Names of the settings that are given, in order.
            pub fn given(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $($( if self.$field.is_some() { names.push($name); } )*)*
                names
            }

            /// The value of one as text, when it is given: what [`Settings::set`] takes, lists joined by commas.
            pub fn text_of(&self, name: &str) -> Option<String> {
                let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
                Some(match self.written(name)? {
                    toml::Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
                    value => text(&value),
                })
            }

            /// Takes one back, as if it had not been given.
            fn forget(&mut self, name: &str) {
                match name {
                    $($( $name => self.$field = None, )*)*
                    _ => {}
                }
            }

            /// The value of one as TOML, when it is given.
            pub(crate) fn written(&self, name: &str) -> Option<toml::Value> {
                match name {
                    $($( $name => self.$field.as_ref().map(Value::write), )*)*
                    _ => None,
                }
            }
        }
    };
}

/// Puts a value in its place: lists grow, everything else is replaced.
trait Put: Sized {
    const REPEATS: bool = false;
    fn put(self, place: &mut Option<Self>) {
        *place = Some(self);
    }
}
impl Put for Vec<String> {
    const REPEATS: bool = true;
    fn put(self, place: &mut Option<Self>) {
        place.get_or_insert_default().extend(self);
    }
}
impl Put for Monitors {
    const REPEATS: bool = true;
    fn put(self, place: &mut Option<Self>) {
        match place {
            Some(before) => {
                before.others.push(self.first);
                before.others.extend(self.others);
            }
            None => *place = Some(self),
        }
    }
}
macro_rules! put {
    ($($type:ty),*) => { $( impl Put for $type {} )* };
}
put!(
    String,
    PathBuf,
    bool,
    u32,
    u64,
    usize,
    f64,
    EvalEvery,
    Augmentation,
    ByteSize,
    Sampling,
    ClassWeights,
    ImageSize,
    Mode,
    Resize,
    Smooth,
    TimeBudget
);
put!(
    OptimizerKind,
    PrecisionKind,
    SaveKind,
    ScheduleKind,
    Option<Recipe>,
    Option<AlsoKind>,
    Option<DecisionMetric>,
    Option<String>,
    Option<PathBuf>,
    Option<f64>,
    Option<u32>,
    Option<usize>
);

const fn repeats<T: Put>() -> bool {
    T::REPEATS
}

settings! {
    [Data]
    data: String = "data" "DATA"
        "Images to train on: a set that `keepbest data` lists, a folder of images by class, IDX or CIFAR files, a .csv of path and label, or an .npz";
    data_dir: Option<PathBuf> = "data-dir" "DIR"
        "Where a named set lies, when not at its usual place";
    image_size: ImageSize = "image-size" "SIZE"
        "Size that images are brought to, such as 32 or 24x32; by default their own, or one that suits where they differ";
    resize: Resize = "resize" "HOW"
        "How images of other sizes come to it: exact (stretched) or crop (the centre of them)";
    val_fraction: f64 = "val-fraction" "PART"
        "Part of the training images set aside to choose the best, where the data brings no val split";
    test_fraction: f64 = "test-fraction" "PART"
        "Part of the training images set aside for the final test, where the data brings no test split; 0 for no test";
    augment: Augmentation = "augment" "HOW"
        "Random changes to training images: none, or joined by commas any of crop:AREA, shift:PIXELS, flip, rotate:DEGREES, jitter:X, trivial, erase:P, mixup:ALPHA, cutmix:ALPHA; by default what suits the data";
    sampling: Sampling = "sampling" "HOW"
        "Which images an epoch goes through: shuffled (each once) or balanced (as many of every class)";
    skip_corrupt: bool = "skip-corrupt" "BOOL"
        "Leave out image files that cannot be read, and record which; without it they are an error";
    cache: ByteSize = "cache" "SIZE"
        "Memory for decoded images, such as 4GiB, so that they are decoded once; the result does not depend on it";

    [Model]
    model: String = "model" "NAME"
        "A network that `keepbest models` lists";
    from: Option<String> = "from" "MODEL"
        "Start from the weights of this model; the last layer starts anew when the classes differ";

    freeze: Vec<String> = "freeze" "PATTERN"
        "Parameters that stay as they are, such as `layer1.*`; frozen batch norms keep their statistics";
    body_rate: f64 = "body-rate" "FACTOR"
        "Factor on the learning rate of all but the last layer with weights";
    freeze_statistics: bool = "freeze-statistics" "BOOL"
        "Every batch norm keeps its statistics and normalises with them, true or false";

    [Training]
    recipe: Option<Recipe> = "recipe" "NAME"
        "Settings that go together, for all that is not given: quick (a good model soon), strong (a better one, with time), or none";
    epochs: u64 = "epochs" "N"
        "Passes over the training images";
    time_budget: TimeBudget = "time-budget" "TIME"
        "As many epochs as fit into a time such as 5m or 1h30m, by the speed measured before the first, with the schedule made for them; instead of epochs";
    batch_size: usize = "batch-size" "N"
        "Images a step; by default 64, or all there are to train on";
    optimizer: OptimizerKind = "optimizer" "NAME"
        "sgd, adam or adamw";
    lr: f64 = "lr" "RATE"
        "Learning rate at its highest; by default 0.05 for sgd (less for batches below 64), 0.002 for adam and adamw";
    momentum: f64 = "momentum" "M"
        "Momentum of sgd";
    nesterov: bool = "nesterov" "BOOL"
        "Nesterov's form of momentum, true or false";
    weight_decay: f64 = "weight-decay" "D"
        "Weight decay; by default 0.0005 for sgd, 0.01 for adamw, 0 for adam";
    schedule: ScheduleKind = "schedule" "NAME"
        "How the learning rate changes: constant, step, cosine, one-cycle or plateau";
    warmup: f64 = "warmup" "EPOCHS"
        "Epochs in which the learning rate rises to its highest; by default a quarter of the run for one-cycle, else 0";
    lr_step: f64 = "lr-step" "EPOCHS"
        "Schedule step: epochs from drop to drop; by default a third of the run";
    lr_gamma: f64 = "lr-gamma" "FACTOR"
        "Schedules step and plateau: factor of a drop";
    lr_patience: u32 = "lr-patience" "N"
        "Schedule plateau: evaluations without a better one before a drop";
    label_smoothing: f64 = "label-smoothing" "PART"
        "Part of the target spread evenly over all classes";
    class_weights: ClassWeights = "class-weights" "HOW"
        "Weight of each class in the loss: none, balanced, or one number a class joined by commas";
    clip_grad_norm: Option<f64> = "clip-grad-norm" "NORM"
        "Scale gradients down to this norm when longer, or none";
    ema: Option<f64> = "ema" "DECAY"
        "Keep a moving average of the weights, such as 0.999, measured beside them: the better one is offered as best; or none";
    swa: Option<f64> = "swa" "PART"
        "From this part of the run on, such as 0.75, average the weights of all evaluations (SWA), with batch norm's statistics measured anew; measured beside the weights: the better one is offered as best; or none";
    seed: u64 = "seed" "N"
        "Everything random follows from it: same seed, same model";
    threads: Option<usize> = "threads" "N"
        "Threads, or none for one a core; the result does not depend on them";
    device: String = "device" "NAME"
        "What computes";
    precision: PrecisionKind = "precision" "NAME"
        "What training multiplies in: f32, or bf16, which is faster and needs AVX-512 BF16; evaluation is f32";

    [Best]
    monitor: Monitors = "monitor" "METRIC"
        "Metric that decides which model is best; an expression such as `0.5*val/accuracy + 0.5*val/f1_macro` too. Given again, a best of that metric is kept as well (`max:` or `min:` before one that is not known); mode, min-delta, tie-break, smooth, significant, patience and target are of the first";
    mode: Mode = "mode" "WHICH"
        "max or min is better, or auto: as the metric says";
    min_delta: String = "min-delta" "DELTA"
        "Least improvement that counts, such as 0.001 or 0.1%";
    tie_break: Option<String> = "tie-break" "METRIC"
        "Metric that decides between equals, or none: the earlier stays; by default val/loss, when val/accuracy is monitored";
    constraint: Vec<String> = "constraint" "RULE"
        "What a best model must fulfil, such as `val/recall_macro >= 0.9`";
    pareto: Option<String> = "pareto" "METRICS"
        "Two or more metrics or expressions joined by commas, such as val/f1_macro,latency_ms: every checkpoint stays that no other is as good as or better than by each of them (`max:` or `min:` before one that is not known); or none";
    eval_every: EvalEvery = "eval-every" "WHEN"
        "Measure after every epoch, or every N steps";
    patience: Option<u32> = "patience" "N"
        "Stop after N evaluations without a better one, or none";
    target: Option<f64> = "target" "VALUE"
        "Stop when what is monitored reaches this value, or none";
    max_minutes: Option<f64> = "max-minutes" "M"
        "Stop after so many minutes of this session, or none";
    smooth: Smooth = "smooth" "HOW"
        "Judge by a moving average over the evaluations, ema:FACTOR with the factor of the past, or none; of several monitors, the first";
    significant: Option<f64> = "significant" "P"
        "Only what is better than the best with a p-value below P replaces it (paired test on the val images), or none; of several monitors, by the first";
    thresholds: Option<DecisionMetric> = "thresholds" "METRIC"
        "At every evaluation, tune a decision threshold for each class on val so that this metric is highest, such as f1_macro: the model is measured by them, saved with them and decides by them; or none, to decide for the likeliest class";

    [Saving]
    save: SaveKind = "save" "WHAT"
        "full: all it takes to predict or to go on training; params: the weights alone";
    also: Option<AlsoKind> = "also" "FORM"
        "Keep best in another form beside it: pth for best.pth, the weights as PyTorch takes them; or none";
    keep: Vec<String> = "keep" "RULE"
        "Checkpoints to keep besides best and last, those of any rule: best:N, last:N, every:STEPS, epochs:N, bytes:SIZE such as bytes:2GB for as many as fit";
    log: Vec<String> = "log" "WHERE"
        "Log to other tools too: tensorboard, csv, json, mlflow=URL";
    name: String = "name" "NAME"
        "Name of the run; by default the model's and a number";
    runs_dir: PathBuf = "runs-dir" "DIR"
        "Folder that holds the runs";
}

/// Where a setting was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// By a program that uses this library.
    Code,
    /// In a file, at this line (from 1).
    File {
        /// From 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--"),
            Self::Code => Ok(()),
            Self::File { line } => write!(f, "line {line}: "),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No setting has this name.
    #[error("{origin}{key} is no setting")]
    UnknownKey {
        /// As given.
        key: String,
        /// The known one that is meant, maybe.
        nearest: Option<&'static str>,
        /// Where.
        origin: Origin,
    },
    /// A value of another kind, or out of range.
    #[error("{origin}{key} must be {expected}, found {found:?}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was given.
        found: String,
        /// In words.
        expected: String,
        /// Where.
        origin: Origin,
    },
    /// Not TOML.
    #[error("line {line}: not TOML: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A file that cannot be read.
    #[error("cannot read settings from {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file with something wrong in it.
    #[error("{path}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<SettingsError>,
    },
    /// Two settings that exclude each other, or one that needs another.
    #[error("{message}")]
    Conflict {
        /// In words.
        message: String,
        /// What to do, in words.
        hint: Option<String>,
    },
}

impl SettingsError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                nearest: Some(nearest),
                origin: Origin::Flag,
                ..
            } => Some(format!("did you mean --{nearest}?")),
            Self::UnknownKey {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::UnknownKey { nearest: None, .. } => {
                Some("keepbest train --help lists all settings".into())
            }
            Self::InFile { source, .. } => source.hint(),
            Self::Conflict { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}
