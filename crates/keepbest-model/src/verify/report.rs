//! What to verify of a model, and what comes of it.

use std::path::PathBuf;

use keepbest_core::WeightsDigest;
use keepbest_keeper::RunView;
use keepbest_store::{Attestation, BoxError};
use serde::Serialize;

use crate::error::ModelError;
use crate::images::{ImageSource, MeasureError};
use crate::model_ref::ModelRefError;
use crate::run_files::{OpenRunError, RunFilesError};

/// A run's settings when weights were saved, against those that the model records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFound {
    /// The first setting that differs.
    pub differs: Option<SettingDiffers>,
    /// Whether the journal tells of a resume that changed what `run.toml` has.
    pub resumed: bool,
}

/// A setting of a run that is not what its model records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDiffers {
    /// Its name.
    pub key: String,
    /// What the run has, as TOML; `absent` when it has none.
    pub found: String,
    /// What the model records, likewise.
    pub recorded: String,
}

/// Compares the settings of a run, as they were when these weights were saved, with recorded ones. The settings are the trainer's:
/// `keepbest_train::compare_settings` is it.
pub type CompareSettings<'a> =
    &'a dyn Fn(&RunView, &WeightsDigest, &toml::Table) -> Result<SettingsFound, BoxError>;

/// What to check.
#[derive(Clone, Default)]
pub struct VerifyOptions<'a> {
    /// Whether the digests alone are checked, and nothing is measured.
    pub digest_only: bool,
    /// Whether test is measured again, too, against the figures that the run recorded at its end.
    pub test: bool,
    /// The line that the run must be the one of.
    pub against: Option<Attestation>,
    /// The place where the images of the training lie now.
    pub images: ImageSource,
    /// Threads, one a core by default.
    pub threads: Option<usize>,
    /// What measures, the CPU by default.
    pub device: Option<String>,
    /// Compares the run's settings; they are not checked without.
    pub settings: Option<CompareSettings<'a>>,
}

/// One check and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What was checked: `digest`, `journal`, `file`, `config`, `attested`, `data`, `metrics`, `test`.
    pub check: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub told: String,
}

/// All that was found out about a model. As JSON it is what `keepbest verify --json` prints.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The model's file.
    pub model: PathBuf,
    /// Whether all checks were made and hold.
    pub ok: bool,
    /// The checks, in the order they were made.
    pub checks: Vec<Check>,
    /// What nothing was compared with.
    pub not_checked: Vec<String>,
    /// Why the rest could not be examined, where that was so.
    #[serde(skip)]
    pub cut_short: Option<VerifyError>,
}

impl VerifyReport {
    /// Whether every check that was made holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Why a model could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The reference is not understood, or nothing is there.
    #[error(transparent)]
    Reference(#[from] ModelRefError),
    /// The run has no such model.
    #[error(transparent)]
    RunFiles(#[from] RunFilesError),
    /// The run cannot be read.
    #[error(transparent)]
    Run(#[from] OpenRunError),
    /// The run's files cannot be listed.
    #[error(transparent)]
    Store(#[from] keepbest_store::OpenError),
    /// A file of the run cannot be read.
    #[error(transparent)]
    Io(#[from] keepbest_store::IoError),
    /// The file is no usable model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is nothing in the file to verify it by.
    #[error("{path} carries no digests: nothing in it can be verified", path = path.display())]
    Unsealed {
        /// The file.
        path: PathBuf,
    },
    /// The run's settings cannot be read.
    #[error(transparent)]
    Settings(BoxError),
    /// There is no test to measure again.
    #[error("no test figures are recorded of this model")]
    NoTest,
    /// The images are not there, or the model cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// What was recorded cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The network does not fit together.
    #[error(transparent)]
    Layer(#[from] keepbest_nn::LayerError),
}

impl VerifyError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(error) => error.hint(),
            Self::Run(error) => Some(error.hint()),
            Self::RunFiles(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Measure(error) => error.hint(),
            Self::NoTest => Some(
                "they are of the best of a run that has come to its end, on data with a test split"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Measure(error) if error.is_interrupted())
    }
}

/// The findings of a verification, as they come.
#[derive(Default)]
pub(super) struct Findings {
    pub checks: Vec<Check>,
    not_checked: Vec<String>,
}

impl Findings {
    pub(super) fn check(&mut self, check: &'static str, ok: bool, told: impl Into<String>) {
        let told = told.into();
        self.checks.push(Check { check, ok, told });
    }

    pub(super) fn unchecked(&mut self, what: impl Into<String>) {
        self.not_checked.push(what.into());
    }

    pub(super) fn report(mut self, model: PathBuf, cut_short: Option<VerifyError>) -> VerifyReport {
        if let Some(error) = &cut_short {
            self.unchecked(format!("the rest: {error}"));
        }
        VerifyReport {
            model,
            ok: cut_short.is_none() && self.checks.iter().all(|check| check.ok),
            checks: self.checks,
            not_checked: self.not_checked,
            cut_short,
        }
    }
}
