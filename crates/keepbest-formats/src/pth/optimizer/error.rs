//! Why an optimizer's state cannot be used.

use crate::pth::PthError;

/// Why an optimizer's state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// An optimizer that keepbest does not have.
    #[error("the optimizer is none of {}: its settings are {}", listed(known), .settings.join(", "))]
    Unknown {
        /// PyTorch's names of those that it has.
        known: Vec<&'static str>,
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
        /// The part that is malformed.
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

pub(super) fn malformed(what: &'static str) -> OptimizerError {
    OptimizerError::Malformed { what }
}

/// `SGD, Adam and AdamW`.
fn listed(names: &[&str]) -> String {
    match names {
        [front @ .., last] if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        _ => names.concat(),
    }
}
