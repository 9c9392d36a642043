//! `keepbest thresholds`: tunes decision thresholds on val. And what other verbs tell of them.

use std::path::Path;

use keepbest_core::WeightsDigest;
use keepbest_core::classification::DecisionMetric;
use keepbest_formats::model_file::ModelMetadata;
use keepbest_model::words::value;
use keepbest_model::{TuneOptions, TunedThresholds, Tuning, tune, write};
use serde::Serialize;

use crate::cli::args::ThresholdsArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::model::locate;
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::shorten;

pub(super) fn run(args: &ThresholdsArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let metric: DecisionMetric = args.metric.parse().map_err(unknown)?;
    let file = locate(&args.of.model, &args.of.runs.runs_dir)?;
    if is_same_file(&args.to, file.path()) {
        let message = format!("{} is the model itself", args.to.display());
        let hint = "a model file stays as it is: name another".to_owned();
        return Err(Failure::new(Exit::Usage, message).with_hint(hint));
    }
    let model = file.open_trained()?;
    let options = TuneOptions {
        metric,
        images: args.of.images.source(),
        threads: args.of.threads.count(),
    };
    let tuned = watched(terminal, |watch| tune(&model, &options, watch))?;
    write::write_model(&args.to, args.force, &tuned.file)?;
    told(args, &tuned)
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

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    model: &'a Path,
    to: &'a Path,
    digest: WeightsDigest,
    classes: &'a [String],
    thresholds: &'a TunedThresholds,
}

fn told(args: &ThresholdsArgs, found: &Tuning) -> Result<Exit, Failure> {
    let tuned = &found.thresholds;
    if args.of.json {
        output::json(&Printed {
            model: &found.model,
            to: &args.to,
            digest: found.digest,
            classes: &found.classes,
            thresholds: tuned,
        })?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["class", ">threshold"]);
    for (class, threshold) in found.classes.iter().zip(tuned.values.values()) {
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
pub(super) fn of(metadata: &ModelMetadata) -> Option<TunedThresholds> {
    serde_json::from_value(metadata.thresholds.clone()?).ok()
}
