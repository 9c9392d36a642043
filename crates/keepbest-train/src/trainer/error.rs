//! Why a run could not start or go on.

use std::path::PathBuf;
use std::time::Duration;

use keepbest_core::text::shell_word;
use keepbest_data::{DataError, LoadError, PrepareError};
use keepbest_model::{EvaluateError, ModelError, ModelRefError};

use crate::settings::SettingsError;

/// Why a run could not start, or ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// It was told to stop before the first step. Nothing was trained, and nothing is changed.
    #[error("interrupted before the first step")]
    Interrupted,
    /// It could not go on, such as for an image that cannot be read any more. As after an interruption, what it had come to is
    /// saved, and it can be resumed.
    #[error(
        "training stopped in epoch {epoch} after step {step}, which is saved in {run}",
        run = run.display()
    )]
    Stopped {
        /// The run's directory.
        run: PathBuf,
        /// Steps taken.
        step: u64,
        /// The epoch under way.
        epoch: u64,
        /// Why.
        source: Box<TrainError>,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What "best" means cannot be decided by what is measured.
    #[error(transparent)]
    Objective(#[from] keepbest_core::ObjectiveError),
    /// What "best" means is undefined on the val images, whatever the model.
    #[error("{metric} is undefined on val, {}", match &lacking[..] {
        [] => "which has images of one class alone".to_owned(),
        [class] => format!("which has no images of class `{class}`"),
        [class, ..] => format!("which has no images of {} classes, such as `{class}`", lacking.len()),
    })]
    Undefined {
        /// The metric.
        metric: String,
        /// The classes that val has no images of.
        lacking: Vec<String>,
    },
    /// The layers of the network do not fit images of this size.
    #[error("the network does not fit images of {height}x{width}{}", if *given { "" } else { ", the size chosen for those found" })]
    ImageSize {
        /// Height.
        height: usize,
        /// Width.
        width: usize,
        /// Whether the size was asked for.
        given: bool,
        /// The layer that does not, and why.
        source: keepbest_nn::EngineError,
    },
    /// There is no such network.
    #[error(transparent)]
    Architecture(#[from] keepbest_model::ArchitectureError),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] keepbest_data::DataError),
    /// The images cannot be split or preprocessed.
    #[error(transparent)]
    Prepare(#[from] keepbest_data::PrepareError),
    /// The images cannot be made into batches.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Not one epoch fits into the time.
    #[error(
        "an epoch takes about {epoch}, by the speed measured: none fits into the time budget of {budget}",
        epoch = seconds(*epoch)
    )]
    TimeBudget {
        /// The time.
        budget: crate::settings::TimeBudget,
        /// An epoch with its evaluations.
        epoch: Duration,
        /// The least budget for one epoch.
        least: Duration,
    },
    /// The network does not fit the images or the machine.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
    /// The learning rates make no sense.
    #[error(transparent)]
    Rates(#[from] keepbest_nn::SettingError),
    /// A step could not be taken.
    #[error(transparent)]
    Step(keepbest_nn::StepError),
    /// Other ranks that train the same network are lost.
    #[error(transparent)]
    Ranks(#[from] keepbest_nn::CollectiveError),
    /// Training went out of the range of numbers. The best is kept.
    #[error("training diverged in epoch {epoch}: {problem}")]
    Diverged {
        /// The epoch.
        epoch: u64,
        /// What became of the loss or the gradient.
        problem: keepbest_nn::StepError,
        /// The best so far: its file, and what it reached in words.
        best: Option<(PathBuf, String)>,
    },
    /// Measuring failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A model that the run starts from, or the best at the end, cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model or run was not found.
    #[error(transparent)]
    ModelRef(#[from] ModelRefError),
    /// The model to start from has nothing that the network could take.
    #[error("{path} has no tensor that {network} could start from", path = path.display())]
    NothingInCommon {
        /// The file.
        path: PathBuf,
        /// The network.
        network: String,
    },
    /// The run cannot be made.
    #[error(transparent)]
    Create(#[from] keepbest_keeper::CreateError),
    /// The run's copy of its model file cannot be written.
    #[error("cannot keep a copy of the model file in the run")]
    KeepModel {
        /// Why.
        source: keepbest_store::CommitError,
    },
    /// The run cannot be taken up.
    #[error(transparent)]
    Resume(#[from] keepbest_keeper::ResumeError),
    /// A run's model cannot be found.
    #[error(transparent)]
    RunFiles(#[from] keepbest_model::RunFilesError),
    /// The keeper takes no more evaluations.
    #[error(transparent)]
    Offer(#[from] keepbest_keeper::OfferError),
    /// The run could not be ended in order.
    #[error(transparent)]
    Finish(#[from] keepbest_keeper::FinishError),
    /// The disk has too little room to begin.
    #[error("there is too little room to train")]
    Space(#[from] keepbest_store::CommitError),
    /// What an interruption left in the run cannot be mended.
    #[error("the run {path} cannot be taken up", path = path.display())]
    Unmended {
        /// The run.
        path: PathBuf,
        /// Why.
        source: keepbest_store::OpenError,
    },
    /// The run's settings are no longer those that it began with.
    #[error("{path} is not what the run began with: {}", in_words(changes), path = path.display())]
    ChangedSettings {
        /// Its `run.toml`.
        path: PathBuf,
        /// The settings that differ.
        changes: Vec<crate::ChangedSetting>,
    },
    /// The resume point is of another program, or does not fit the run's settings.
    #[error("the resume point {path} does not fit the run: {what}", path = path.display())]
    ResumePoint {
        /// The file.
        path: PathBuf,
        /// In words.
        what: String,
    },
    /// The images are nowhere.
    #[error(transparent)]
    NotThere(#[from] keepbest_model::NotThere),
    /// The images are not those that the run was trained on.
    #[error(
        "the {split} images of {place} are not those the run began with: {found}, recorded were {recorded}"
    )]
    DataChanged {
        /// The split.
        split: String,
        /// Identity recorded.
        recorded: String,
        /// Identity found.
        found: String,
        /// The place that they were read from.
        place: String,
    },
}

impl TrainError {
    /// Whether it was told to stop before the first step.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted | Self::Data(DataError::Interrupted) => true,
            Self::Load(error) => matches!(error, LoadError::Interrupted),
            Self::Prepare(error) => error.is_interrupted(),
            _ => false,
        }
    }

    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::TimeBudget { least, .. } => Some(format!(
                "give it at least {}, or take a smaller --model, --image-size or part of the data",
                seconds(*least)
            )),
            Self::Objective(error) => error.hint(),
            Self::Undefined { .. } => Some(
                "monitor another metric, such as val/balanced_accuracy, or bring val images of every class".into(),
            ),
            Self::ImageSize { .. } => {
                Some("--image-size brings the images to another size, such as 32x32".into())
            }
            Self::Architecture(error) => error.hint(),
            Self::Engine(keepbest_nn::EngineError::NothingToFreeze {
                pattern,
                parameters,
            }) => {
                let near = keepbest_core::suggest::nearest(pattern, parameters.iter().map(String::as_str));
                let near = near.or(parameters.first().map(String::as_str))?;
                Some(format!(
                    "it has {near}, for one; `*` stands for any characters"
                ))
            }
            Self::Engine(
                keepbest_nn::EngineError::Memory { .. }
                | keepbest_nn::EngineError::Allocation { .. },
            ) => {
                Some("take a smaller --batch-size, --image-size or --model".into())
            }
            Self::Engine(error) => error.hint(),
            Self::Data(DataError::Image { .. })
            | Self::Prepare(PrepareError::Data(DataError::Image { .. })) => {
                Some("mend or remove it, or leave out what cannot be read: --skip-corrupt".into())
            }
            Self::Stopped { run, source, .. } => {
                let of_image =
                    |error: &LoadError| matches!(error, LoadError::Data(_) | LoadError::Image { .. });
                let mend = match &**source {
                    Self::Load(error) | Self::Evaluate(EvaluateError::Load(error))
                        if of_image(error) =>
                    {
                        "bring the image back as it was, and go on"
                    }
                    _ => "when that is mended, go on",
                };
                Some(format!(
                    "{mend} with: keepbest train --resume {}",
                    shell_word(run)
                ))
            }
            Self::Data(error) => error.hint(),
            Self::Prepare(error) => error.hint(),
            Self::Load(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::ModelRef(error) => error.hint(),
            Self::RunFiles(error) => error.hint(),
            Self::Diverged { best, .. } => {
                let advice = "try a lower --lr, a longer --warmup, or --clip-grad-norm 1";
                Some(match best {
                    Some((path, reached)) => {
                        format!("{advice}; the best is kept: {} ({reached})", path.display())
                    }
                    None => format!("{advice}; nothing was measured before"),
                })
            }
            Self::NothingInCommon { .. } => {
                Some("start from a model of the same network, or leave --from out".into())
            }
            Self::ChangedSettings { .. } => Some(
                "put it back; what may change is given as a flag, such as --epochs or --threads; to train on with other \
                 settings, start a new run with --from RUN@last"
                    .into(),
            ),
            Self::DataChanged { .. } => {
                Some("say where the run's images lie now, with --data, or start a new run".into())
            }
            Self::NotThere(error) => Some(error.hint()),
            _ => None,
        }
    }

    /// Whether the way it was called is wrong, rather than what happened then.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Settings(error) => !matches!(error, SettingsError::Read { .. }),
            Self::Objective(_)
            | Self::Architecture(_)
            | Self::Rates(_)
            | Self::ChangedSettings { .. } => true,
            Self::Load(LoadError::BatchLargerThanData { .. }) => true,
            Self::Engine(
                keepbest_nn::EngineError::ClassWeights { .. }
                | keepbest_nn::EngineError::SingleValue { .. }
                | keepbest_nn::EngineError::NothingToFreeze { .. }
                | keepbest_nn::EngineError::AllFrozen
                | keepbest_nn::EngineError::NoDevice { .. }
                | keepbest_nn::EngineError::Precision { .. },
            ) => true,
            _ => false,
        }
    }
}

/// A time in whole seconds, rounded up, as a budget is written.
fn seconds(time: Duration) -> crate::settings::TimeBudget {
    crate::settings::TimeBudget((time.as_secs_f64().ceil() as u64).max(1))
}

/// What differs, in words.
fn in_words(changes: &[crate::ChangedSetting]) -> String {
    let words = changes.iter().map(|change| {
        format!(
            "{} is {}, recorded is {}",
            change.key, change.found, change.recorded
        )
    });
    words.collect::<Vec<_>>().join("; ")
}
