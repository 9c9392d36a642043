//! Why an engine cannot be made, or a step not taken.

use super::collective::CollectiveError;
use crate::network::LayerError;
use keepbest_formats::SettingError;
use keepbest_kernels::{IsaError, ShapeError};

/// Why an engine or a scorer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Layers that do not fit each other.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A setting outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A class weight too many or too few.
    #[error("{found} class weights for {expected} classes")]
    ClassWeights {
        /// Weights given.
        found: usize,
        /// Classes of the model.
        expected: usize,
    },
    /// `KEEPBEST_ISA` asks for what this processor or build does not have.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// A layer that the kernels cannot be planned for.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A pattern of `freeze` fits no parameter.
    #[error("`{pattern}` fits no parameter of the network")]
    NothingToFreeze {
        /// The pattern.
        pattern: String,
        /// The parameters there are.
        parameters: Vec<String>,
    },
    /// No parameter is left to learn.
    #[error("every parameter is frozen: nothing can learn")]
    AllFrozen,
    /// The machine does not give so much memory.
    #[error(
        "there is no memory for a batch of {batch}: it takes {:.1} GB",
        *bytes as f64 / 1e9
    )]
    Allocation {
        /// Images of the batch.
        batch: usize,
        /// What its activations take.
        bytes: u64,
    },
    /// More memory than the machine has, or lets this process have.
    #[error(
        "the network takes {:.1} GB for batches of {batch}, there are {:.1} GB for this process",
        *.needed as f64 / 1e9,
        *.machine as f64 / 1e9
    )]
    Memory {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes of memory and swap that there are.
        machine: u64,
        /// Images in a batch.
        batch: usize,
    },
    /// This build has no engine of such a device.
    #[error("no engine of this build computes on {device}")]
    NoDevice {
        /// The device.
        device: String,
        /// Whether it is one that the Python package computes on.
        known: bool,
    },
    /// The device is not on this machine, or what computes on it is not installed.
    #[error("nothing computes on {device} here: {problem}")]
    NotHere {
        /// The device.
        device: String,
        /// What is missing, in words.
        problem: String,
    },
    /// A number format that the engine does not multiply in.
    #[error("{precision} is no number format of {device}")]
    Precision {
        /// The format.
        precision: &'static str,
        /// The device.
        device: String,
    },
    /// The engine cannot train together with others.
    #[error("the engine trains alone, not as one of {ranks} ranks")]
    Ranks {
        /// Ranks that were to train together.
        ranks: usize,
    },
    /// The device failed.
    #[error("the device failed")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Batch norm over one value has no variance.
    #[error("batch size 1 leaves batch norm `{layer}` with one value a channel; use 2 or more")]
    SingleValue {
        /// The layer.
        layer: String,
    },
}

impl EngineError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDevice { known: true, .. } => Some(PACKAGE.to_owned()),
            Self::Ranks { .. } => {
                Some("--device torch:cpu and those of GPUs train together".to_owned())
            }
            Self::Precision { precision, .. } => Some(format!(
                "--device torch:cpu and those of GPUs have {precision}"
            )),
            _ => None,
        }
    }
}

/// The way to the devices of PyTorch.
const PACKAGE: &str =
    "pip install \"keepbest[torch]\" brings a keepbest that computes there, with PyTorch";

/// Why a step was not taken. The weights are those from before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The batch has no image, or more than planned for.
    #[error("a batch of {found} images; the engine was planned for 1 to {expected}")]
    BatchSize {
        /// Images in the batch.
        found: usize,
        /// Images planned for.
        expected: usize,
    },
    /// The floats do not make that many images.
    #[error("{found} floats for {images} images of {image_len} floats")]
    ImagesLength {
        /// Floats given.
        found: usize,
        /// Number of labels.
        images: usize,
        /// Floats of one image.
        image_len: usize,
    },
    /// A label that is no class.
    #[error("label {found} of image {index} in the batch; the model has {classes} classes")]
    Label {
        /// The label.
        found: u32,
        /// Position in the batch.
        index: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// Second labels that do not go with the images.
    #[error("mixed labels need another label and a share from 0 to 1 for each of {images} images")]
    Shares {
        /// Images in the batch.
        images: usize,
    },
    /// One image leaves batch norm with one value a channel.
    #[error("a batch of one image leaves batch norm `{layer}` with one value a channel")]
    SingleValue {
        /// The layer.
        layer: String,
    },
    /// The learning rate is not a number, or negative.
    #[error("learning rate must be at least 0 and finite, found {found}")]
    LearningRate {
        /// The rate.
        found: f64,
    },
    /// The other ranks are lost.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The loss is no finite number any more: training has diverged.
    #[error("loss became {loss} at step {step}")]
    NonFiniteLoss {
        /// The loss.
        loss: f64,
        /// The step, counted from 1.
        step: u64,
    },
    /// The gradient is no finite number any more: training has diverged.
    #[error("gradient became {norm} at step {step}")]
    NonFiniteGradient {
        /// Its 2-norm.
        norm: f64,
        /// The step, counted from 1.
        step: u64,
    },
}

/// Why images could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// No weights have been loaded.
    #[error("the scorer has no weights yet")]
    NoWeights,
    /// The floats are no whole number of images.
    #[error("{found} floats are no whole number of images of {image_len} floats")]
    ImagesLength {
        /// Floats given.
        found: usize,
        /// Floats of one image.
        image_len: usize,
    },
    /// The device failed.
    #[error("the device failed")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
}
