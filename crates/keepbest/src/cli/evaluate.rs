//! `keepbest evaluate`: a model measured on a split.

use keepbest_core::classification::ClassificationOptions;
use keepbest_model::EvaluateOptions;
use keepbest_model::words::count;

use crate::cli::args::EvaluateArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::terminal::Terminal;
use crate::cli::{measured as tables, model, output};

pub(super) fn run(args: &EvaluateArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut classification = ClassificationOptions::default();
    if let Some(k) = args.top_k {
        classification = classification
            .with_top_k(&[k])
            .map_err(|error| Failure::of(Exit::Usage, &error))?;
    }
    if let Some(beta) = args.beta {
        classification = classification
            .with_betas(&[beta])
            .map_err(|error| Failure::of(Exit::Usage, &error))?;
    }
    let model = model::open(&args.model, &args.runs.runs_dir, &args.compute, terminal)?;
    let options = EvaluateOptions {
        images: args.images.choice(args.split, &args.unlike),
        classification,
        ..model::measuring(&args.compute)
    };
    let found = watched(terminal, |watch| {
        keepbest_model::evaluate(&model, &options, watch)
    })?;
    if let Some(changed) = &found.changed {
        terminal.note(changed);
    }
    if args.json {
        output::json(&found)?;
        return Ok(Exit::Done);
    }
    say!(
        "{} on {} ({})",
        found.model.display(),
        found.images_words,
        count(found.images, "image"),
    );
    for note in &found.notes {
        terminal.note(note);
    }
    if let Some(own) = &found.thresholds {
        say!("it decides by {}", own.words());
    }
    output::lines(&tables::metrics(&found.metrics, &found.intervals))?;
    output::line("")?;
    output::lines(&tables::classes(
        &found.classes,
        &found.report,
        &found.per_class_intervals,
    ))?;
    output::line("")?;
    output::lines(&tables::confusion(&found.classes, found.report.confusion()))?;
    Ok(Exit::Done)
}
