//! What reference outputs say of an imported model.

use std::path::PathBuf;

use keepbest_formats::npz::NpzError;
use keepbest_formats::onnx::ReadError;
use serde::{Deserialize, Serialize};

/// Greatest difference of an output that agrees, beside the greatest output.
pub const TOLERANCE: f64 = 1e-4;

/// Outputs of nothing but zeros are compared as if one was this.
const SMALLEST: f64 = 1e-6;

/// Reference outputs that were compared with ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checked {
    /// The file or folder that they are from.
    pub reference: String,
    /// Images that were compared.
    pub images: usize,
    /// Greatest difference of an output.
    pub greatest_difference: f64,
    /// Greatest output of the reference.
    pub greatest_output: f64,
    /// What the difference may be beside the greatest output.
    pub tolerance: f64,
}

impl Checked {
    /// Whether the outputs agree.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.greatest_difference <= self.tolerance * self.greatest_output.max(SMALLEST)
    }
}

/// Why reference outputs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A tensor cannot be read.
    #[error(transparent)]
    Tensor(#[from] ReadError),
    /// The archive cannot be read.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// The folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Inputs or outputs are not there, or not the network's.
    #[error("`{}`: {problem}", path.display())]
    Form {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
