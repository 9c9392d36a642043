//! `keepbest evaluate`: a model measured on a split.

use keepbest_core::classification::ClassificationOptions;
use serde_json::json;

use crate::cli::args::{EvaluateArgs, Split};
use crate::cli::failure::{Exit, Failure};
use crate::cli::measure::{How, Subject, resample};
use crate::cli::terminal::Terminal;
use crate::cli::words::count;
use crate::cli::{measured as tables, model, output};

pub fn run(args: &EvaluateArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut options = ClassificationOptions::default();
    if let Some(k) = args.top_k {
        options = options
            .with_top_k(&[k])
            .map_err(|error| Failure::of(Exit::Usage, &error))?;
    }
    if let Some(beta) = args.beta {
        options = options
            .with_betas(&[beta])
            .map_err(|error| Failure::of(Exit::Usage, &error))?;
    }
    let model = model::open(&args.model, &args.runs.runs_dir, &args.compute, terminal)?;
    let subject = Subject::new(model, args.images.data.as_deref(), &args.images.sets)?;
    let split = match args.split {
        Some(split) => split,
        None if subject.data.test.is_some() => Split::Test,
        None => Split::Val,
    };
    let name = split.name();
    let how = How {
        options,
        keep_outcomes: true,
        ..How::from(&args.compute)
    };
    let measured = subject.measure(name, how)?;
    let Subject { model, data } = subject;

    let metrics = measured.metrics(name);
    let outcomes = measured
        .outcomes
        .as_ref()
        .ok_or_else(|| Failure::new(Exit::Failed, "no outcomes were kept"))?;
    let intervals = resample(outcomes, name)?.intervals();
    if args.json {
        output::json(&json!({
            "model": model.path,
            "digest": model.file.weights_digest(),
            "data": data.name,
            "split": name,
            "images": measured.report.count(),
            "thresholds": model.thresholds,
            "metrics": metrics,
            "intervals": intervals.metrics,
            "classes": data.classes,
            "per_class": measured.report.classes(),
            "per_class_intervals": intervals.classes,
            "confusion": measured.report.confusion().rows(),
        }))?;
        return Ok(Exit::Done);
    }
    say!(
        "{} on the {name} split of {} ({})",
        model.path.display(),
        data.name,
        count(measured.report.count(), "image"),
    );
    if let Some(own) = &model.thresholds {
        say!("it decides by {}", own.words());
    }
    output::lines(&tables::metrics(&metrics, &intervals.metrics))?;
    output::line("")?;
    output::lines(&tables::classes(
        &data.classes,
        &measured.report,
        &intervals.classes,
    ))?;
    output::line("")?;
    output::lines(&tables::confusion(
        &data.classes,
        measured.report.confusion(),
    ))?;
    Ok(Exit::Done)
}
