//! A model against what was recorded about it: what `keepbest verify` tells.

mod metrics;
mod record;
mod report;

use std::path::{Path, PathBuf};

use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::RunView;
use keepbest_store::JournalError;

use crate::error::{ModelError, is_damage};
use crate::model::Model;
use crate::model_ref::{ModelPlace, find_model};
use crate::other_loop::OtherLoop;
use crate::place::run_named_with;
use crate::run_files::{FileAtHand, RunFilesError};
use crate::watch::Watch;
use crate::words::mend_words;
use keepbest_core::text::with_causes;
use record::Record;
use report::Findings;

pub use report::{
    Check, CompareSettings, SettingDiffers, SettingsFound, VerifyError, VerifyOptions, VerifyReport,
};

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
            let found = examine(options, &place, &file, &mut findings, watch);
            match found {
                Err(error) if findings.checks.is_empty() => Err(error),
                found => Ok(findings.report(file.name().to_owned(), found.err())),
            }
        }
        Err(RunFilesError::Open(keepbest_store::OpenError::Journal(
            error @ JournalError::Damaged { .. },
        ))) => {
            findings.check("journal", false, error.to_string());
            Ok(findings.report(PathBuf::from(reference), None))
        }
        Err(RunFilesError::Forgotten(found)) => {
            findings.check("journal", false, format!("{found}; {}", found.hint()));
            Ok(findings.report(PathBuf::from(reference), None))
        }
        Err(error) => Err(error.into()),
    }
}

fn examine(
    options: &VerifyOptions<'_>,
    place: &ModelPlace,
    at_hand: &FileAtHand,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<(), VerifyError> {
    let Some(found) = opened(at_hand, findings)? else {
        return Ok(());
    };
    let file = found.file();
    let record = Record::of(place)?;
    record::journal(record.as_ref(), file, findings);
    if let (Some(record), Found::Model(model)) = (&record, &found) {
        settings(options, &record.view, model, findings)?;
    }
    if let Some(attested) = &options.against {
        record::against(attested, record.as_ref(), file, findings)?;
    }
    if options.digest_only {
        findings.unchecked("the metrics, which are measured again without --digest-only");
        return Ok(());
    }
    match &found {
        Found::Model(model) => metrics::measured(options, model, record.as_ref(), findings, watch),
        Found::Weights { kept_by, .. } => {
            findings.unchecked(format!(
                "the metrics: the model was kept by {kept_by}, and network and images are that program's"
            ));
            Ok(())
        }
    }
}

/// What a file turned out to hold.
enum Found {
    Model(Box<Model>),
    /// Weights that the keeper kept for another loop.
    Weights {
        file: Box<ModelFile>,
        kept_by: OtherLoop,
    },
}

impl Found {
    fn file(&self) -> &ModelFile {
        match self {
            Self::Model(model) => &model.file,
            Self::Weights { file, .. } => file,
        }
    }
}

/// The model, when every byte of its file is what its digests say; a damaged one is a check that does not hold.
fn opened(at_hand: &FileAtHand, findings: &mut Findings) -> Result<Option<Found>, VerifyError> {
    let path = at_hand.name();
    let mut whole = |found: Found| {
        let digest = found.file().weights_digest();
        let told = format!("every byte is as the file's own digests have it; weights {digest}");
        findings.check("digest", true, told);
        Ok(Some(found))
    };
    match at_hand.open_trained() {
        Ok(model) if model.file.seal.is_none() => Err(VerifyError::Unsealed { path: path.into() }),
        Ok(model) => whole(Found::Model(Box::new(model))),
        Err(ModelError::NothingRecorded {
            kept_by: Some(kept_by),
            ..
        }) => match ModelFile::open(at_hand.path()) {
            Ok(file) if file.seal.is_some() => {
                let file = Box::new(file);
                whole(Found::Weights { file, kept_by })
            }
            Ok(_) => Err(VerifyError::Unsealed { path: path.into() }),
            Err(error) => Err(ModelError::from(error).into()),
        },
        Err(ModelError::Open(error)) if is_damage(&error) => {
            let causes =
                std::iter::successors(std::error::Error::source(&error), |error| error.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            let mut told = causes.join(": ");
            if let Some(run) = run_named_with(path) {
                told += &format!("; {}", mend_words(run));
            }
            findings.check("digest", false, told);
            Ok(None)
        }
        // Every byte may be as its digests have it, and the whole still be no model.
        Err(
            error @ (ModelError::Contradiction { .. }
            | ModelError::Spec { .. }
            | ModelError::Metadata { .. }
            | ModelError::Layer { .. }
            | ModelError::Weights { .. }),
        ) => {
            findings.check("model", false, with_causes(&error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
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
        Some(SettingDiffers {
            key,
            found,
            recorded,
        }) => format!("run.toml has {key} {found}, the model was trained with {recorded}"),
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
