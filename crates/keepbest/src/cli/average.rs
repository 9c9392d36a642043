//! `keepbest average`: the mean of several models' weights, and the greedy soup of a run.

use std::path::PathBuf;

use keepbest_core::Metrics;
use keepbest_model::average::{AverageOptions, AverageReport, average, ranked_checkpoints};
use keepbest_model::words::value;
use keepbest_model::{Model, find_run, open_whole_run, write};
use serde::Serialize;

use crate::cli::args::AverageArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::model::locate;
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a AverageReport,
    written: Option<&'a PathBuf>,
}

pub(super) fn run(args: &AverageArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let models = match &args.soup {
        Some(run) => candidates(run, args)?,
        None => opened(&args.models, args)?,
    };
    let options = AverageOptions {
        soup: args.soup.is_some(),
        images: args.images.source(),
        threads: args.threads.count(),
    };
    let found = watched(terminal, |watch| average(&models, &options, watch))?;
    if models.iter().any(|model| model.thresholds.is_some()) {
        say!(
            "thresholds are left out: all are measured by the likeliest class, and so the average decides; `keepbest thresholds` tunes it"
        );
    }
    for seen in &found.seen_before {
        terminal.note(&format!(
            "one of the models was {seen}: the score of the average on them flatters it"
        ));
    }
    if let Some(image) = &found.file {
        write::write_model(&args.to, args.force, image)?;
    }
    told(args, &found)
}

fn opened(names: &[String], args: &AverageArgs) -> Result<Vec<Model>, Failure> {
    let open = |name: &String| {
        let file = locate(name, &args.runs.runs_dir)?;
        Ok(file.open_trained()?)
    };
    names.iter().map(open).collect()
}

/// The run's best checkpoints on disk, the best first.
fn candidates(run: &str, args: &AverageArgs) -> Result<Vec<Model>, Failure> {
    let path = find_run(run, &args.runs.runs_dir)?;
    let found = ranked_checkpoints(&open_whole_run(&path)?, args.top as usize);
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

fn told(args: &AverageArgs, found: &AverageReport) -> Result<Exit, Failure> {
    let adopted = found.file.is_some();
    if args.json {
        output::json(&Printed {
            report: found,
            written: adopted.then_some(&args.to),
        })?;
        return Ok(Exit::Done);
    }
    let metric = |metrics: &Metrics, name: &str| metrics.get(name).map(value).unwrap_or_default();
    let mut table = Table::new([">val/accuracy", ">val/loss", "", "model"]);
    for model in &found.models {
        table.row([
            metric(&model.metrics, "val/accuracy"),
            metric(&model.metrics, "val/loss"),
            if model.member { "in" } else { "" }.to_owned(),
            model.path.display().to_string(),
        ]);
    }
    if adopted {
        table.row([
            metric(&found.average, "val/accuracy"),
            metric(&found.average, "val/loss"),
            "=".to_owned(),
            args.to.display().to_string(),
        ]);
    }
    output::lines(&table.lines())?;
    if !adopted {
        say!(
            "no average is better than the best alone on the {} val images: nothing is written",
            found.images
        );
    }
    Ok(Exit::Done)
}
