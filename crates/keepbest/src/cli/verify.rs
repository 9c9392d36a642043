//! `keepbest verify`: a model against what was recorded about it.

mod metrics;
mod record;

use std::path::{Path, PathBuf};

use keepbest_formats::model_file::{ModelFileError, OpenError};
use keepbest_keeper::RunView;
use keepbest_store::JournalError;
use keepbest_train::{
    FileAtHand, Model, ModelError, ModelPlace, RunFilesError, Settings, changed_settings,
    find_model, settings_when_saved,
};
use record::Record;
use serde_json::json;

use crate::cli::args::VerifyArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::Terminal;

/// One check and how it went.
struct Check {
    name: &'static str,
    holds: bool,
    told: String,
}

/// All that is found out about a model.
#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
    /// What nothing was compared with.
    unchecked: Vec<String>,
    /// Whether something could not be examined that was to be.
    cut_short: bool,
}

impl Findings {
    fn check(&mut self, name: &'static str, holds: bool, told: impl Into<String>) {
        let told = told.into();
        self.checks.push(Check { name, holds, told });
    }

    fn unchecked(&mut self, what: impl Into<String>) {
        self.unchecked.push(what.into());
    }
}

pub fn run(args: &VerifyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let place = find_model(&args.of.model, &args.of.runs.runs_dir)?;
    let mut findings = Findings::default();
    let mut failure = None;
    let path = match FileAtHand::of(&place) {
        Ok(file) => {
            let path = file.path().to_owned();
            failure = examine(args, &place, &path, &mut findings).err();
            path
        }
        Err(RunFilesError::Open(keepbest_store::OpenError::Journal(error)))
            if matches!(error, JournalError::Damaged { .. }) =>
        {
            findings.check("journal", false, error.to_string());
            PathBuf::from(&args.of.model)
        }
        Err(RunFilesError::Forgotten(found)) => {
            findings.check("journal", false, format!("{found}; {}", found.hint()));
            PathBuf::from(&args.of.model)
        }
        Err(error) => return Err(error.into()),
    };
    let holds = findings.checks.iter().all(|check| check.holds);
    match failure {
        // What was found before something could not be examined is known.
        Some(failure) if findings.checks.is_empty() => return Err(failure),
        Some(failure) => {
            findings.unchecked(format!("the rest: {}", failure.message));
            findings.cut_short = true;
            tell(args, &path, &findings, terminal)?;
            if holds {
                return Err(failure);
            }
            failure.print(terminal);
        }
        None => tell(args, &path, &findings, terminal)?,
    }
    Ok(if holds { Exit::Done } else { Exit::CheckFailed })
}

fn examine(
    args: &VerifyArgs,
    place: &ModelPlace,
    path: &Path,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let Some(model) = opened(path, findings)? else {
        return Ok(());
    };
    let record = Record::of(place)?;
    record::journal(record.as_ref(), &model, findings);
    if let Some(record) = &record {
        findings
            .checks
            .extend(settings(record.view.path(), &model)?);
    }
    if let Some(attested) = &args.against {
        record::against(attested, record.as_ref(), &model, findings)?;
    }
    if args.digest_only {
        findings.unchecked("the metrics, which are measured again without --digest-only");
        return Ok(());
    }
    metrics::measured(args, model, record.as_ref(), findings)
}

/// The model, when every byte of its file is what its digests say; a damaged one is a check that does not hold.
fn opened(path: &Path, findings: &mut Findings) -> Result<Option<Model>, Failure> {
    match Model::open_trained(path) {
        Ok(model) if model.file.seal.is_none() => {
            let message = format!(
                "{} carries no digests: nothing in it can be verified",
                path.display()
            );
            Err(Failure::new(Exit::Failed, message))
        }
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

fn tell(
    args: &VerifyArgs,
    path: &Path,
    findings: &Findings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let Findings {
        checks, unchecked, ..
    } = findings;
    let holds = checks.iter().all(|check| check.holds) && !findings.cut_short;
    if args.of.json {
        return output::json(&json!({
            "model": path,
            "ok": holds,
            "checks": checks
                .iter()
                .map(|check| json!({"check": check.name, "ok": check.holds, "told": check.told}))
                .collect::<Vec<_>>(),
            "not_checked": unchecked,
        }));
    }
    let style = terminal.style();
    output::line(path.display().to_string())?;
    for Check { name, holds, told } in checks {
        let (word, colour) = if *holds {
            ("ok", style.good)
        } else {
            ("FAILED", style.bad)
        };
        output::line(format!("{name:<8} {colour}{word:<6}{colour:#} {told}"))?;
    }
    for what in unchecked {
        output::line(format!("not checked: {what}"))?;
    }
    Ok(())
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
fn settings(run: &Path, model: &Model) -> Result<Option<Check>, Failure> {
    let recorded = model
        .provenance
        .as_ref()
        .map(|provenance| &provenance.config);
    let Some(recorded) = recorded.filter(|recorded| !recorded.is_empty()) else {
        return Ok(None);
    };
    let view = RunView::open(run).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let written = Settings::from_file(&run.join("run.toml"))?;
    // What a resume changed, the journal tells.
    let in_force = settings_when_saved(&view, &written, &model.file.weights_digest());
    let changed = changed_settings(&in_force, recorded);
    let told = match changed.first() {
        Some(change) => format!(
            "run.toml has {} {}, the model was trained with {}",
            change.key, change.found, change.recorded
        ),
        None if in_force != written => format!(
            "run.toml, with what the journal has of resumes, has the {} settings it was trained with",
            recorded.len()
        ),
        None => format!(
            "run.toml has the {} settings it was trained with",
            recorded.len()
        ),
    };
    Ok(Some(Check {
        name: "config",
        holds: changed.is_empty(),
        told,
    }))
}
