//! The state of an optimizer, in the form of PyTorch's `optimizer.state_dict()` and in keepbest's own.

mod read;
mod tree;

use serde::{Deserialize, Serialize};

use super::PthError;
use crate::StateDict;

/// Which optimizer, and its settings apart from the learning rate. PyTorch's names and meanings. As JSON
/// it is what keepbest-nn's `OptimizerConfig` is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerSettings {
    /// `torch.optim.SGD`.
    Sgd {
        /// Share of the previous update in the next.
        momentum: f64,
        /// Share of the gradient that momentum leaves out.
        dampening: f64,
        /// Nesterov's momentum.
        nesterov: bool,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// `torch.optim.Adam`.
    Adam {
        /// Decay of the mean of the gradient.
        beta1: f64,
        /// Decay of the mean of its square.
        beta2: f64,
        /// Added to the root of the second mean.
        eps: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// `torch.optim.AdamW`.
    AdamW {
        /// Decay of the mean of the gradient.
        beta1: f64,
        /// Decay of the mean of its square.
        beta2: f64,
        /// Added to the root of the second mean.
        eps: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
}

impl OptimizerSettings {
    /// Names of the tensors that it keeps for each parameter, in order.
    fn slots(&self) -> &'static [&'static str] {
        match self {
            OptimizerSettings::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            OptimizerSettings::Sgd { .. } => &["momentum_buffer"],
            OptimizerSettings::Adam { .. } | OptimizerSettings::AdamW { .. } => {
                &["exp_avg", "exp_avg_sq"]
            }
        }
    }
}

/// All that an optimizer needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// Which it is, and its settings.
    pub settings: OptimizerSettings,
    /// Learning rate of the next step.
    pub learning_rate: f64,
    /// Steps taken. SGD does not record them: `None` if nothing else says.
    pub steps: Option<u64>,
    /// Names of the trained parameters in the order of the model.
    pub parameters: Vec<String>,
    /// The tensors: `momentum_buffer.conv1.weight` for all parameters, in their order; for Adam
    /// `exp_avg.*` and then `exp_avg_sq.*`. Empty before the first step.
    pub tensors: StateDict,
}

/// Why an optimizer's state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// Another optimizer than SGD, Adam and AdamW.
    #[error("the optimizer is none of SGD, Adam and AdamW: its settings are {}", .settings.join(", "))]
    Unknown {
        /// Names of its settings.
        settings: Vec<String>,
    },
    /// Adam and AdamW had one form until PyTorch 2.6; with weight decay they differ.
    #[error(
        "the optimizer is Adam or AdamW and the file does not say which; they differ as weight decay is {weight_decay}"
    )]
    AdamOrAdamW {
        /// The weight decay.
        weight_decay: f64,
    },
    /// A setting that changes what a step does and is not supported.
    #[error("the optimizer has {setting} = {value}, which is not supported")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// Groups of parameters with different settings.
    #[error("the optimizer's groups of parameters have different settings")]
    Groups,
    /// Something is not where or what PyTorch has it.
    #[error("the optimizer's {what} is not what PyTorch writes")]
    Malformed {
        /// What.
        what: &'static str,
    },
    /// The optimizer has another number of parameters than the model.
    #[error("the optimizer has {found} parameters, the model {expected}")]
    Count {
        /// Parameters of the model.
        expected: usize,
        /// Parameters of the optimizer.
        found: usize,
    },
    /// Parameters differ in how many steps they have seen.
    #[error("the optimizer took {one} steps with some parameters and {other} with others")]
    Steps {
        /// Steps of one parameter.
        one: u64,
        /// Steps of another.
        other: u64,
    },
    /// State without a parameter that it could be for.
    #[error("the optimizer state has `{tensor}`, which the optimizer or model does not")]
    Unexpected {
        /// The tensor.
        tensor: String,
    },
    /// A parameter without its state.
    #[error("the optimizer state lacks `{tensor}`")]
    Missing {
        /// The tensor.
        tensor: String,
    },
    /// A tensor or container cannot be read.
    #[error("the optimizer's state cannot be read")]
    File(#[from] PthError),
}
