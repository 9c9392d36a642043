//! The state of an optimizer, in the form of PyTorch's `optimizer.state_dict()` and in keepbest's own.

mod error;
mod group;
mod read;
mod tree;

use crate::{OptimizerConfig, StateDict};

pub use error::OptimizerError;
pub(crate) use group::Group;

/// All that an optimizer needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// The optimizer and its settings.
    pub settings: OptimizerConfig,
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
