//! `keepbest evaluate`: a model measured on a split.

use keepbest_core::classification::ClassificationOptions;
use keepbest_model::words::count;
use serde_json::json;

use crate::cli::args::EvaluateArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::images::{Chosen, leave_out_meaningless};
use crate::cli::measure::{How, resample};
use crate::cli::terminal::Terminal;
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
    let chosen = Chosen::new(model, &args.images, &args.unlike, args.split, terminal)?;
    let name = chosen.split.name();
    let how = How {
        options,
        ..How::from(&args.compute)
    };
    let measured = chosen.measure(how)?;
    let model = &chosen.model;
    let classes = chosen.classes();

    let mut metrics = measured.metrics(name);
    let outcomes = measured
        .outcomes
        .as_ref()
        .ok_or_else(|| Failure::new(Exit::Failed, "no outcomes were kept"))?;
    let mut intervals = resample(outcomes, name)?.intervals();
    let left_out = leave_out_meaningless(&measured, &mut metrics, &mut intervals.metrics);
    if args.json {
        output::json(&json!({
            "model": model.path,
            "digest": model.file.weights_digest(),
            "data": chosen.data(),
            "split": name,
            "images": measured.report.count(),
            "thresholds": model.thresholds,
            "metrics": metrics,
            "intervals": intervals.metrics,
            "images_of": chosen.json(),
            "classes": classes,
            "per_class": measured.report.classes(),
            "per_class_intervals": intervals.classes,
            "confusion": measured.report.confusion().rows(),
        }))?;
        return Ok(Exit::Done);
    }
    say!(
        "{} on {} ({})",
        model.path.display(),
        chosen.words(),
        count(measured.report.count(), "image"),
    );
    for note in chosen.notes().into_iter().chain(left_out) {
        terminal.note(&note);
    }
    if let Some(own) = &model.thresholds {
        say!("it decides by {}", own.words());
    }
    output::lines(&tables::metrics(&metrics, &intervals.metrics))?;
    output::line("")?;
    output::lines(&tables::classes(
        classes,
        &measured.report,
        &intervals.classes,
    ))?;
    output::line("")?;
    output::lines(&tables::confusion(classes, measured.report.confusion()))?;
    Ok(Exit::Done)
}
