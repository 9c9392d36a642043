//! `keepbest average`: the mean of several models' weights, and the greedy soup of a run.

use std::path::PathBuf;

use keepbest_core::{EvaluationRecord, Metrics, Objective};
use keepbest_data::Prepared;
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{self, ModelMetadata};
use keepbest_keeper::RunView;
use keepbest_train::average::{Averager, Measurement};
use keepbest_train::{Model, Parent, Seen, SeenBefore, find_run};
use serde_json::json;

use crate::cli::args::AverageArgs;
use crate::cli::export;
use crate::cli::failure::{Exit, Failure};
use crate::cli::measure::Subject;
use crate::cli::model::{locate, objective, provenance};
use crate::cli::output;
use crate::cli::runs::whole_view;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::value;

pub fn run(args: &AverageArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut models = match &args.soup {
        Some(run) => candidates(run, args)?,
        None => opened(&args.models, args)?,
    };
    same_network(&models)?;
    for model in &models {
        model.check_finite()?;
    }
    let objective = objective(provenance(&models[0])?)?;
    let criterion = provenance(&models[0])?.criterion.criterion();
    let first = models.remove(0);
    let subject = Subject::new(first, args.images.data.as_deref(), &args.images.sets)?;
    if let Some(changed) = subject.changed_split(&["train", "val"])? {
        let hint = "the average is chosen by the images that its models were chosen by: --data says where they lie now";
        return Err(Failure::new(Exit::Failed, changed.words()).with_hint(hint.to_owned()));
    }
    let all: Vec<&Model> = [&subject.model].into_iter().chain(&models).collect();
    if all.iter().any(|model| model.thresholds.is_some()) {
        say!(
            "thresholds are left out: all are measured by the likeliest class, and so the average decides; `keepbest thresholds` tunes it"
        );
    }
    let mut averager = Averager::new(
        &subject.model.spec,
        &subject.data,
        criterion,
        args.threads.count(),
    )
    .map_err(failed)?;

    let mut measured: Vec<(&Model, Metrics)> = Vec::new();
    for model in all {
        let metrics = averager.measure(&model.file.weights).map_err(failed)?;
        measured.push((model, metrics));
    }
    let weights: Vec<&StateDict> = measured
        .iter()
        .map(|(model, _)| &model.file.weights)
        .collect();
    let (result, members) = match args.soup {
        Some(_) => averager.soup(&weights, &objective).map_err(failed)?,
        None => {
            let mean = averager.average(&weights).map_err(failed)?;
            (mean, (0..measured.len()).collect())
        }
    };
    // A soup of one is the best itself: nothing was gained, and nothing is written.
    let adopted = members.len() > 1;
    if adopted {
        let members: Vec<&Model> = members.iter().map(|&member| measured[member].0).collect();
        let seen = seen_before(&members, &subject.data)?;
        for found in &seen {
            terminal.note(&format!(
                "one of the models was {found}: the score of the average on them flatters it"
            ));
        }
        write(args, &members, &seen, &result, &objective)?;
    }
    told(args, &measured, &result, &members, &subject.data)
}

fn failed(error: keepbest_train::average::AverageError) -> Failure {
    Failure::of(Exit::Failed, &error)
}

fn opened(names: &[String], args: &AverageArgs) -> Result<Vec<Model>, Failure> {
    let open = |name: &String| {
        let file = locate(name, &args.runs.runs_dir)?;
        Ok(Model::open_trained(file.path())?)
    };
    names.iter().map(open).collect()
}

/// The run's best checkpoints on disk, the best first.
fn candidates(run: &str, args: &AverageArgs) -> Result<Vec<Model>, Failure> {
    let path = find_run(run, &args.runs.runs_dir)?;
    let view: RunView = whole_view(&path)?;
    let mut found: Vec<PathBuf> = view
        .state()
        .ranked(0)
        .into_iter()
        .map(|(checkpoint, ..)| checkpoint.saved.checkpoint.path(view.path()))
        .collect();
    found.truncate(args.top as usize);
    if found.len() < 2 {
        let message = format!(
            "{} has {} checkpoints with a score",
            path.display(),
            found.len()
        );
        let hint = "keep more of them when training: --keep best:5".to_owned();
        return Err(Failure::new(Exit::Failed, message).with_hint(hint));
    }
    found
        .iter()
        .map(|path| Ok(Model::open_trained(path)?))
        .collect()
}

/// Averages are of models that began as one: of the same network, at least, with the same classes and preprocessing.
fn same_network(models: &[Model]) -> Result<(), Failure> {
    let first = &models[0];
    for model in &models[1..] {
        let part = if model.spec.layers != first.spec.layers {
            "network"
        } else if model.classes != first.classes {
            "classes"
        } else if model.preprocessing != first.preprocessing {
            "preprocessing"
        } else {
            continue;
        };
        let message = format!(
            "{} and {} differ in {part}: their mean is no model",
            first.path.display(),
            model.path.display()
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

/// The images of val and test that a model of the average had seen.
fn seen_before(models: &[&Model], data: &Prepared) -> Result<Vec<SeenBefore>, Failure> {
    let seen = Seen::by(models.iter().copied());
    let mut found = Vec::new();
    for split in ["val", "test"] {
        let Some(images) = data.split(split) else {
            continue;
        };
        let digests = images
            .digests()
            .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
        let mut of_split = seen.among(split, &digests);
        if split == "val" {
            // By these the average is chosen, too.
            of_split.chosen = 0;
        }
        found.extend(of_split.any().then_some(of_split));
    }
    Ok(found)
}

fn write(
    args: &AverageArgs,
    members: &[&Model],
    seen_before: &[SeenBefore],
    result: &Measurement,
    objective: &Objective,
) -> Result<(), Failure> {
    let encoded = |value: Result<serde_json::Value, serde_json::Error>| {
        value.map_err(|error| Failure::of(Exit::Failed, &error))
    };
    let first = members[0];
    let own = first.file.metadata.as_ref();
    let (step, epoch) = own.map_or((0, 0), |own| (own.step, own.epoch));
    let judgement = objective
        .judge(None, &result.metrics)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    let record = EvaluationRecord::new(step, epoch, result.metrics.clone(), judgement);
    let mut recorded = provenance(first)?.clone();
    recorded.averaged = members.iter().map(|model| Parent::of(model)).collect();
    recorded.seen = Some(Seen::by(members.iter().copied()));
    recorded.seen_before = seen_before.to_vec();
    let metadata = ModelMetadata {
        step,
        epoch,
        model: Some(first.spec.to_json()),
        classes: first.classes.clone(),
        preprocessing: Some(encoded(serde_json::to_value(&first.preprocessing))?),
        evaluation: Some(encoded(serde_json::to_value(&record))?),
        provenance: Some(encoded(serde_json::to_value(&recorded))?),
        ..ModelMetadata::default()
    };
    let image = model_file::encode(&result.weights, &StateDict::new(), &metadata)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    export::write_model(&args.to, args.force, &image)
}

fn told(
    args: &AverageArgs,
    measured: &[(&Model, Metrics)],
    result: &Measurement,
    members: &[usize],
    data: &Prepared,
) -> Result<Exit, Failure> {
    let adopted = members.len() > 1;
    let metric = |metrics: &Metrics, name: &str| metrics.get(name).map(value).unwrap_or_default();
    if args.json {
        let models = measured.iter().enumerate().map(|(i, (model, metrics))| {
            json!({"path": model.path, "member": members.contains(&i), "metrics": metrics})
        });
        output::json(&json!({
            "models": models.collect::<Vec<_>>(),
            "average": result.metrics,
            "written": adopted.then_some(&args.to),
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new([">val/accuracy", ">val/loss", "", "model"]);
    for (i, (model, metrics)) in measured.iter().enumerate() {
        table.row([
            metric(metrics, "val/accuracy"),
            metric(metrics, "val/loss"),
            if members.contains(&i) { "in" } else { "" }.to_owned(),
            model.path.display().to_string(),
        ]);
    }
    if adopted {
        table.row([
            metric(&result.metrics, "val/accuracy"),
            metric(&result.metrics, "val/loss"),
            "=".to_owned(),
            args.to.display().to_string(),
        ]);
    }
    output::lines(&table.lines())?;
    if !adopted {
        say!(
            "no average is better than the best alone on the {} val images: nothing is written",
            data.val.len()
        );
    }
    Ok(Exit::Done)
}
