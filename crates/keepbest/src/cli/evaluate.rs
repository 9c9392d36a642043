//! `keepbest evaluate`: a model measured on a split.

use std::collections::BTreeMap;
use std::path::Path;

use keepbest_core::classification::ClassificationOptions;
use keepbest_core::statistics::{Bootstrap, Interval, wilson};
use keepbest_data::{PrepareOptions, Prepared};
use keepbest_train::{Criterion, Evaluator, Measured, Model, SplitRecord};
use serde_json::json;

use crate::cli::args::{EvaluateArgs, Split};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::words::count;
use crate::cli::{model, output, report};

impl Split {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

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
    let data = prepare(&model, args.data.as_deref(), args.data_dir.as_deref())?;
    check_classes(&model, &data)?;
    let split = match args.split {
        Some(split) => split,
        None if data.test.is_some() => Split::Test,
        None => Split::Val,
    };
    let name = split.name();
    let images = data
        .split(name)
        .ok_or_else(|| Failure::new(Exit::Failed, format!("{} has no {name} split", data.name)))?;
    let criterion = criterion_of(&model);
    let batch_size = usize::from(args.compute.batch_size);
    let mut predictor = model.predictor(batch_size, args.compute.threads.map(usize::from))?;
    let evaluator = Evaluator {
        batch_size,
        options,
        keep_outcomes: args.intervals,
        ..Evaluator::new(&criterion, &model.preprocessing)
    };
    let measured = evaluator
        .measure(&mut predictor, images, |_| true)
        .map_err(Failure::from)?;
    let Some(measured) = measured else {
        return Err(Failure::new(Exit::Failed, "nothing was measured"));
    };

    let metrics = measured.metrics(name);
    let intervals = intervals(&measured, name)?;
    if args.json {
        output::json(&json!({
            "model": model.path,
            "digest": model.file.weights_digest(),
            "data": data.name,
            "split": name,
            "images": measured.report.count(),
            "metrics": metrics,
            "intervals": intervals,
            "classes": data.classes,
            "per_class": measured.report.classes(),
            "confusion": measured.report.confusion().rows(),
        }))?;
        return Ok(Exit::Done);
    }
    eprintln!(
        "{} on the {name} split of {} ({})",
        model.path.display(),
        data.name,
        count(measured.report.count(), "image"),
    );
    output::lines(&report::metrics(&metrics, &intervals))?;
    output::line("")?;
    output::lines(&report::classes(&data.classes, &measured.report))?;
    output::line("")?;
    output::lines(&report::confusion(
        &data.classes,
        measured.report.confusion(),
    ))?;
    Ok(Exit::Done)
}

/// Resamples of the images behind an interval.
const REPLICATES: u32 = 1000;

/// The bootstrap of every interval and paired test here, the same each time.
pub fn bootstrap() -> Bootstrap {
    Bootstrap {
        replicates: REPLICATES,
        ..Bootstrap::default()
    }
}

/// The interval of the accuracy, and of all other metrics when the outcomes were kept.
pub fn intervals(measured: &Measured, split: &str) -> Result<BTreeMap<String, Interval>, Failure> {
    if let Some(outcomes) = &measured.outcomes {
        return outcomes
            .intervals(split, &bootstrap())
            .map_err(|error| Failure::of(Exit::Failed, &error));
    }
    let matrix = measured.report.confusion();
    if measured.report.non_finite() > 0 {
        return Ok(BTreeMap::new());
    }
    let accuracy = wilson(matrix.correct(), matrix.total(), bootstrap().confidence)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    Ok(BTreeMap::from([(format!("{split}/accuracy"), accuracy)]))
}

/// The images to measure on: those that were named, split as recorded, or those of the training.
pub fn prepare(
    model: &Model,
    data: Option<&str>,
    data_dir: Option<&Path>,
) -> Result<Prepared, Failure> {
    let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
    let source = match (data, recorded) {
        (Some(data), _) => data,
        (None, Some(recorded)) => &*recorded.source,
        (None, None) => &*model::provenance(model)?.data.source,
    };
    let dir = data_dir.or_else(|| recorded.and_then(|recorded| recorded.dir.as_deref()));
    let bundle = keepbest_data::open(source, dir)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    let options = recorded.map_or_else(PrepareOptions::default, |recorded| {
        SplitRecord::options(&recorded.split)
    });
    let prepared = bundle.prepare_with(&options, model.preprocessing.clone());
    prepared.map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))
}

/// Whether the images' classes are the model's.
pub fn check_classes(model: &Model, data: &Prepared) -> Result<(), Failure> {
    // A file from elsewhere may name no classes: then their number is all there is to compare.
    let fits = if model.names_its_classes() {
        data.classes == model.classes
    } else {
        data.classes.len() == model.classes.len()
    };
    if !fits {
        let message = format!(
            "the images have {}, the model was trained on {}: {}",
            count(data.classes.len() as u64, "class").replace("classs", "classes"),
            model.classes.len(),
            first_difference(&model.classes, &data.classes),
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

/// The criterion that the model was trained with, plain cross entropy where that is not recorded.
pub fn criterion_of(model: &Model) -> Criterion {
    model
        .provenance
        .as_ref()
        .map(|provenance| provenance.criterion.criterion())
        .unwrap_or_default()
}

fn first_difference(expected: &[String], found: &[String]) -> String {
    match found
        .iter()
        .zip(expected)
        .find(|(found, expected)| found != expected)
    {
        Some((found, expected)) => format!("{found:?} where the model has {expected:?}"),
        None => "some are missing".into(),
    }
}
