//! A model against what was recorded about it: what `keepbest verify` tells.

mod metrics;
mod record;

use std::path::{Path, PathBuf};

use keepbest_core::WeightsDigest;
use keepbest_formats::model_file::{ModelFileError, OpenError};
use keepbest_keeper::RunView;
use keepbest_store::{Attestation, BoxError, JournalError};
use serde::Serialize;

use crate::error::ModelError;
use crate::images::{ImageSource, MeasureError};
use crate::model::Model;
use crate::model_ref::{ModelPlace, ModelRefError, find_model};
use crate::run_files::{FileAtHand, OpenRunError, RunFilesError};
use crate::watch::Watch;
use record::Record;

/// How a run's settings were when weights were saved, against those that the model records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFound {
    /// The first setting that differs: its name, what is found, what the model records.
    pub differs: Option<(String, String, String)>,
    /// Whether the journal tells of a resume that changed what `run.toml` has.
    pub resumed: bool,
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
    /// Where the images of the training lie now.
    pub images: ImageSource,
    /// Threads, one a core by default.
    pub threads: Option<usize>,
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
            Self::Model(error) => error.hint(),
            Self::Measure(error) => error.hint(),
            Self::NoTest => Some(
                "they are of the best of a run that has come to its end, on data with a test split"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// What is found out, as it is.
#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
    not_checked: Vec<String>,
}

impl Findings {
    fn check(&mut self, check: &'static str, ok: bool, told: impl Into<String>) {
        let told = told.into();
        self.checks.push(Check { check, ok, told });
    }

    fn unchecked(&mut self, what: impl Into<String>) {
        self.not_checked.push(what.into());
    }

    fn report(mut self, model: PathBuf, cut_short: Option<VerifyError>) -> VerifyReport {
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

/// Checks the model that a reference means against what was recorded about it: its file's digests, its run's journal, its run's
/// settings, an attestation, and its metrics, which are measured again.
///
/// # Errors
/// [`VerifyError`] when nothing could be checked. What keeps the rest from being examined later is part of the report.
pub fn verify(
    reference: &str,
    runs_dir: &Path,
    options: &VerifyOptions<'_>,
    watch: Watch<'_>,
) -> Result<VerifyReport, VerifyError> {
    let place = find_model(reference, runs_dir)?;
    let mut findings = Findings::default();
    match FileAtHand::of(&place) {
        Ok(file) => {
            let found = examine(options, &place, file.path(), &mut findings, watch);
            match found {
                Err(error) if findings.checks.is_empty() => Err(error),
                found => Ok(findings.report(file.path().to_owned(), found.err())),
            }
        }
        Err(RunFilesError::Open(keepbest_store::OpenError::Journal(
            error @ JournalError::Damaged { .. },
        ))) => {
            findings.check("journal", false, error.to_string());
            Ok(findings.report(PathBuf::from(reference), None))
        }
        Err(error) => Err(error.into()),
    }
}

fn examine(
    options: &VerifyOptions<'_>,
    place: &ModelPlace,
    path: &Path,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<(), VerifyError> {
    let Some(model) = opened(path, findings)? else {
        return Ok(());
    };
    let record = Record::of(place)?;
    record::journal(record.as_ref(), &model, findings);
    if let Some(record) = &record {
        settings(options, &record.view, &model, findings)?;
    }
    if let Some(attested) = &options.against {
        record::against(attested, record.as_ref(), &model, findings)?;
    }
    if options.digest_only {
        findings.unchecked("the metrics, which are measured again without --digest-only");
        return Ok(());
    }
    metrics::measured(options, &model, record.as_ref(), findings, watch)
}

/// The model, when every byte of its file is what its digests say; a damaged one is a check that does not hold.
fn opened(path: &Path, findings: &mut Findings) -> Result<Option<Model>, VerifyError> {
    match Model::open_trained(path) {
        Ok(model) if model.file.seal.is_none() => Err(VerifyError::Unsealed { path: path.into() }),
        Ok(model) => {
            let told = format!(
                "every byte is as the file's own digests have it; weights {}",
                model.file.weights_digest()
            );
            findings.check("digest", true, told);
            Ok(Some(model))
        }
        Err(ModelError::Open(error)) if is_damage(&error) => {
            let causes =
                std::iter::successors(std::error::Error::source(&error), |error| error.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            findings.check("digest", false, causes.join(": "));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the file is a model that is no longer what was written, rather than something else.
fn is_damage(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Model {
            source: ModelFileError::Safetensors(_)
                | ModelFileError::HeaderDamaged { .. }
                | ModelFileError::TensorDamaged { .. }
                | ModelFileError::TensorUnlisted { .. }
                | ModelFileError::TensorMissing { .. }
                | ModelFileError::WeightsDigest { .. }
                | ModelFileError::NotSealed { .. },
            ..
        }
    )
}

/// The settings in a run's directory must be those that its model was trained with.
fn settings(
    options: &VerifyOptions<'_>,
    run: &RunView,
    model: &Model,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let recorded = model.provenance.as_ref().map(|own| &own.config);
    let Some(recorded) = recorded.filter(|recorded| !recorded.is_empty()) else {
        return Ok(());
    };
    let Some(compare) = options.settings else {
        findings.unchecked("the settings in run.toml");
        return Ok(());
    };
    let found =
        compare(run, &model.file.weights_digest(), recorded).map_err(VerifyError::Settings)?;
    let told = match &found.differs {
        Some((key, found, recorded)) => {
            format!("run.toml has {key} {found}, the model was trained with {recorded}")
        }
        None if found.resumed => format!(
            "run.toml, with what the journal has of resumes, has the {} settings it was trained with",
            recorded.len()
        ),
        None => format!(
            "run.toml has the {} settings it was trained with",
            recorded.len()
        ),
    };
    findings.check("config", found.differs.is_none(), told);
    Ok(())
}
