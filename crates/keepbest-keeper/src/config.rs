//! What a keeper is told at the start.

use std::fmt;
use std::str::FromStr;

use keepbest_core::retention::Policy;
use keepbest_core::{EarlyStoppingConfig, Objective};
use keepbest_formats::model_file::Attachments;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::copy_format::CopyFormat;

/// The contents of the file of a best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveMode {
    /// Everything needed to predict or to go on training. When best and last are the same step, they are one file.
    #[default]
    Full,
    /// The state dict alone. Last is a full model all the same: it is the resume point.
    Params,
}

impl fmt::Display for SaveMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Params => "params",
        })
    }
}

/// A save mode that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a save mode: full or params")]
#[non_exhaustive]
pub struct ParseSaveModeError {
    /// The text as given.
    pub text: String,
}

impl FromStr for SaveMode {
    type Err = ParseSaveModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "params" => Ok(Self::Params),
            _ => Err(ParseSaveModeError {
                text: text.to_owned(),
            }),
        }
    }
}

/// The keeper's settings.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// What best means. Early stopping goes by this objective.
    pub objective: Objective,
    /// What a best is kept of as well, each under a [ref](keepbest_store::RefName) of its own: `best:val/loss`.
    pub others: Vec<Objective>,
    /// When to stop before the planned end.
    pub early_stopping: EarlyStoppingConfig,
    /// The contents of the file of a best.
    pub save: SaveMode,
    /// The form that best is kept in as well.
    pub also: Option<CopyFormat>,
    /// Which checkpoints stay beside best and last. None by default, so that a run's disk space is bounded.
    pub retention: Vec<Policy>,
    /// What is the same in every file: architecture, classes, preprocessing, provenance.
    pub constants: Attachments,
    /// Whether every evaluation saves the resume point. On by default.
    pub keep_last: bool,
    /// What the journal shall say of this session beside: program, machine, command line.
    pub session: Option<Value>,
}

impl KeeperConfig {
    /// The defaults: no early stopping but divergence, full models, best and last and no others.
    #[must_use]
    pub fn new(objective: Objective) -> Self {
        Self {
            objective,
            others: Vec::new(),
            early_stopping: EarlyStoppingConfig::default(),
            save: SaveMode::default(),
            also: None,
            retention: Vec::new(),
            constants: Attachments::default(),
            keep_last: true,
            session: None,
        }
    }

    /// What the journal says of the settings, beside the objective.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "early_stopping": self.early_stopping,
            "save": self.save,
            "also": self.also,
            "retention": self.retention,
            "keep_last": self.keep_last,
        })
    }
}
