//! `keepbest verify`: a model against what was recorded about it.

use keepbest_core::EvaluationRecord;
use keepbest_formats::model_file::{ModelFileError, OpenError};
use keepbest_keeper::{RunView, Selector};
use keepbest_nn::Network;
use keepbest_train::{
    FileAtHand, LATENCY, Model, ModelError, ModelPlace, Settings, changed_settings, find_model,
    first_difference, fixed_costs, settings_when_saved,
};
use serde_json::json;

use crate::cli::args::VerifyArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::measure::{How, Subject};
use crate::cli::output;
use crate::cli::terminal::Terminal;
use crate::cli::words::count;

/// One check and how it went.
struct Check {
    name: &'static str,
    holds: bool,
    told: String,
}

pub fn run(args: &VerifyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let place = find_model(&args.of.model, &args.of.runs.runs_dir)?;
    let file = FileAtHand::of(&place)?;
    let path = file.path().to_owned();
    let mut checks = Vec::new();
    let model = match Model::open_trained(&path) {
        Ok(model) => {
            let told = format!(
                "every byte is as written; weights {}",
                model.file.weights_digest()
            );
            checks.push(Check {
                name: "digest",
                holds: true,
                told,
            });
            Some(model)
        }
        Err(ModelError::Open(error)) if is_damage(&error) => {
            let causes =
                std::iter::successors(std::error::Error::source(&error), |error| error.source());
            let told = causes
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": ");
            checks.push(Check {
                name: "digest",
                holds: false,
                told,
            });
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(model) = model {
        if model.file.seal.is_none() {
            let message = format!(
                "{} carries no digests: nothing in it can be verified",
                path.display()
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        checks.extend(journal(&place, &model)?);
        checks.extend(settings(&place, &model)?);
        if !args.digest_only {
            metrics(args, model, &mut checks)?;
        }
    }
    let holds = checks.iter().all(|check| check.holds);
    if args.of.json {
        output::json(&json!({
            "model": path,
            "ok": holds,
            "checks": checks
                .iter()
                .map(|check| json!({"check": check.name, "ok": check.holds, "told": check.told}))
                .collect::<Vec<_>>(),
        }))?;
    } else {
        let style = terminal.style();
        output::line(path.display().to_string())?;
        for Check { name, holds, told } in &checks {
            let (word, colour) = if *holds {
                ("ok", style.good)
            } else {
                ("FAILED", style.bad)
            };
            output::line(format!("{name:<8} {colour}{word:<6}{colour:#} {told}"))?;
        }
    }
    Ok(if holds { Exit::Done } else { Exit::CheckFailed })
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

/// The best of a run must be the weights that its journal calls best.
fn journal(place: &ModelPlace, model: &Model) -> Result<Option<Check>, Failure> {
    let ModelPlace::Run {
        run,
        which: Selector::Ref(name),
    } = place
    else {
        return Ok(None);
    };
    let view = RunView::open(run).map_err(|error| Failure::of(Exit::Failed, &error))?;
    Ok(view.best_of(name).map(|best| {
        let name = &best.reference;
        let found = model.file.weights_digest();
        let holds = best.weights == found;
        let told = if holds {
            format!(
                "the run's journal has these weights as {name}, of epoch {}",
                best.epoch
            )
        } else {
            format!("the run's journal has {} as {name}", best.weights)
        };
        Check {
            name: "journal",
            holds,
            told,
        }
    }))
}

/// The settings in a run's directory must be those that its model was trained with.
fn settings(place: &ModelPlace, model: &Model) -> Result<Option<Check>, Failure> {
    let recorded = model
        .provenance
        .as_ref()
        .map(|provenance| &provenance.config);
    let (ModelPlace::Run { run, .. }, Some(recorded)) = (place, recorded) else {
        return Ok(None);
    };
    if recorded.is_empty() {
        return Ok(None);
    }
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

/// The recorded evaluation again, on the recorded images.
fn metrics(args: &VerifyArgs, model: Model, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let evaluation = model
        .file
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.evaluation.clone());
    let Some(evaluation) = evaluation else {
        let told = "none are recorded for these weights (as at a resume point between evaluations)"
            .to_owned();
        checks.push(Check {
            name: "metrics",
            holds: true,
            told,
        });
        return Ok(());
    };
    let recorded: EvaluationRecord =
        serde_json::from_value(evaluation).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let subject = Subject::new(model, args.of.images.data.as_deref(), &args.of.images.sets)?;
    let changed = subject.changed_split(&["val"])?;
    let told = match &changed {
        Some(changed) => changed.words(),
        None => format!(
            "the val split of {} is the recorded one ({})",
            subject.data.name,
            count(subject.images("val")?.len() as u64, "image")
        ),
    };
    checks.push(Check {
        name: "data",
        holds: changed.is_none(),
        told,
    });
    if changed.is_some() {
        return Ok(());
    }
    let known = fixed_costs(
        &Network::new(&subject.model.spec).map_err(|error| Failure::of(Exit::Failed, &error))?,
        &subject.model.file.weights,
    );
    let costs: Vec<(String, f64)> = known
        .into_iter()
        .filter(|(name, _)| recorded.metrics.contains(name))
        .collect();
    let how = How {
        threads: args.of.threads.count(),
        ..How::default()
    };
    let measured = subject.measure("val", how)?;
    let mut found = measured.metrics("val");
    let own = count(found.len() as u64, "val metric");
    let names = costs.iter().map(|(name, _)| format!(" and {name}"));
    let names: String = names.collect();
    found.extend(costs);
    // Another measurement takes another time.
    let timed = match recorded.metrics.contains(LATENCY) {
        true => format!("; {LATENCY}, a time, is not compared"),
        false => String::new(),
    };
    let difference = first_difference(&found, &recorded.metrics);
    let told = match &difference {
        Some((name, recorded, found)) => format!("{name} is {found}, {recorded} was recorded"),
        None => format!("{own}{names} are equal to the last bit{timed}"),
    };
    checks.push(Check {
        name: "metrics",
        holds: difference.is_none(),
        told,
    });
    Ok(())
}
