//! `keepbest thresholds`: tunes decision thresholds on val. And what other verbs tell of them.

use std::path::Path;

use keepbest_core::EvaluationRecord;
use keepbest_core::classification::DecisionMetric;
use keepbest_formats::model_file::{self, Kind, ModelMetadata};
use keepbest_train::{Measured, Model, TunedThresholds};
use serde_json::json;

use crate::cli::args::ThresholdsArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::images::check_finite;
use crate::cli::measure::{How, Subject};
use crate::cli::model::{locate, objective};
use crate::cli::table::Table;
use crate::cli::words::{shorten, value};
use crate::cli::{export, output};

/// Images that thresholds are tuned on.
const SPLIT: &str = "val";

pub fn run(args: &ThresholdsArgs) -> Result<Exit, Failure> {
    let metric: DecisionMetric = args.metric.parse().map_err(unknown)?;
    let file = locate(&args.of.model, &args.of.runs.runs_dir)?;
    if is_same_file(&args.to, file.path()) {
        let message = format!("{} is the model itself", args.to.display());
        let hint = "a model file stays as it is: name another".to_owned();
        return Err(Failure::new(Exit::Usage, message).with_hint(hint));
    }
    let model = Model::open_trained(file.path())?;
    model.check_finite()?;
    let subject = Subject::new(model, args.of.images.data.as_deref(), &args.of.images.sets)?;
    if let Some(changed) = subject.changed_split(&[SPLIT])? {
        let hint = "thresholds are tuned on the images that the model was chosen by: --data says where they lie now";
        return Err(Failure::new(Exit::Failed, changed.words()).with_hint(hint.to_owned()));
    }
    let how = How {
        threads: args.of.threads.count(),
        tune: Some(metric),
        keep_outcomes: true,
        ..How::default()
    };
    let measured = subject.measure(SPLIT, how)?;
    check_finite(&subject.model, &measured, subject.images(SPLIT)?)?;
    let Some(tuned) = measured.tuned.clone() else {
        return Err(Failure::new(Exit::Failed, "nothing was tuned"));
    };
    let tuned = TunedThresholds::new(tuned, metric, SPLIT);
    write(args, &subject.model, &tuned, &measured)?;
    told(args, &subject.model, &tuned)
}

fn unknown(error: keepbest_core::classification::UnknownDecisionMetric) -> Failure {
    let hint = match error.nearest {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it is one of {}", DecisionMetric::names().join(", ")),
    };
    Failure::of(Exit::Usage, &error).with_hint(hint)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The same model with thresholds, and with the evaluation that they give.
fn write(
    args: &ThresholdsArgs,
    model: &Model,
    tuned: &TunedThresholds,
    measured: &Measured,
) -> Result<(), Failure> {
    let encoded = |value: Result<serde_json::Value, serde_json::Error>| {
        value.map_err(|error| Failure::of(Exit::Failed, &error))
    };
    let own = model.file.metadata.clone().unwrap_or_default();
    let recorded: Option<EvaluationRecord> = own
        .evaluation
        .clone()
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    // What was measured of other images, or of what the model costs, is as it was.
    let mut metrics = recorded
        .as_ref()
        .map(|record| record.metrics.clone())
        .unwrap_or_default();
    metrics.extend(measured.metrics(SPLIT));
    let record = match (recorded, &model.provenance) {
        (Some(record), Some(provenance)) => {
            let judgement = objective(provenance)?
                .judge(None, &metrics)
                .map_err(|error| Failure::of(Exit::Failed, &error))?;
            Some(EvaluationRecord {
                digest: record.digest,
                weights: record.weights,
                ..EvaluationRecord::new(own.step, own.epoch, metrics, judgement)
            })
        }
        _ => None,
    };
    let metadata = ModelMetadata {
        kind: Kind::Full,
        model: Some(model.spec.to_json()),
        classes: model.classes.clone(),
        preprocessing: Some(encoded(serde_json::to_value(&model.preprocessing))?),
        thresholds: Some(tuned.to_json()),
        evaluation: record
            .map(|record| encoded(serde_json::to_value(record)))
            .transpose()?,
        ..own
    };
    let image = model_file::encode(&model.file.weights, &model.file.training, &metadata)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    export::write_model(&args.to, args.force, &image)
}

fn told(args: &ThresholdsArgs, model: &Model, tuned: &TunedThresholds) -> Result<Exit, Failure> {
    if args.of.json {
        output::json(&json!({
            "model": model.path,
            "to": args.to,
            "digest": model.file.weights_digest(),
            "classes": model.classes,
            "thresholds": tuned,
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["class", ">threshold"]);
    for (class, threshold) in model.classes.iter().zip(tuned.values.values()) {
        table.row([shorten(class, 30), value(*threshold)]);
    }
    output::lines(&table.lines())?;
    output::line("")?;
    let mut table = Table::new(["", ">likeliest", ">thresholds"]);
    table.row([
        format!("{}/{}", tuned.split, tuned.metric),
        value(tuned.before),
        value(tuned.after),
    ]);
    output::lines(&table.lines())?;
    if tuned.values.are_alike() {
        say!("none were found that are better than to decide for the likeliest class");
    }
    Ok(Exit::Done)
}

/// The thresholds in a file's metadata, where they can be read.
pub fn of(metadata: &ModelMetadata) -> Option<TunedThresholds> {
    serde_json::from_value(metadata.thresholds.clone()?).ok()
}
