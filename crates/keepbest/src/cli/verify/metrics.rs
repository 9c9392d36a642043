//! What was recorded of a model's metrics, measured again on the recorded images.

use std::collections::BTreeMap;

use keepbest_core::statistics::Interval;
use keepbest_core::{EvaluationRecord, Metrics};
use keepbest_data::DataError;
use keepbest_nn::Network;
use keepbest_store::RunStatus;
use keepbest_train::{DataRecord, MetricDifference, Model, fixed_costs, is_timed};
use serde_json::Value;

use super::Findings;
use super::record::Record;
use crate::cli::args::VerifyArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::measure::{How, Subject, located, resample};
use crate::cli::runs::recorded_intervals;
use crate::cli::words::count;

/// Figures with the intervals of those that have one.
type WithIntervals = (Metrics, BTreeMap<String, Interval>);

/// The evaluation in the file, or the journal's of the same weights, and with `--test` the run's test.
pub fn measured(
    args: &VerifyArgs,
    model: Model,
    record: Option<&Record>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let in_file = model
        .file
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.evaluation.clone())
        .map(serde_json::from_value::<EvaluationRecord>)
        .transpose()
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    let evaluation = in_file.or_else(|| record.and_then(Record::evaluation).cloned());
    let test = test_figures(args, &model, record, findings)?;
    if evaluation.is_none() {
        let told = "none are recorded for these weights (as at a resume point between evaluations)";
        findings.check("metrics", true, told);
        if test.is_none() {
            return Ok(());
        }
    }
    let Some(subject) = subject(args, model, findings)? else {
        return Ok(());
    };
    if let Some(evaluation) = evaluation
        && holds(&subject, "val", findings)?
    {
        val(args, &subject, &evaluation.metrics, findings)?;
    }
    if let Some((figures, intervals)) = test
        && holds(&subject, "test", findings)?
    {
        self::test(args, &subject, &figures, &intervals, findings)?;
    }
    Ok(())
}

/// The images; none when what is where they were to be is something else, which is a check that does not hold.
fn subject(
    args: &VerifyArgs,
    model: Model,
    findings: &mut Findings,
) -> Result<Option<Subject>, Failure> {
    let images = &args.of.images;
    let (data, dir) = located(&model, images.data.as_deref(), &images.sets)?;
    let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
    let unreadable = recorded.map_or_else(Default::default, DataRecord::unreadable);
    if let Err(error) = keepbest_data::open_with(&data, dir.as_deref(), unreadable)
        && is_absent(&error)
    {
        return Err(Failure::of(Exit::Failed, &error).with_hint(error.hint()));
    }
    match Subject::new(model, images.data.as_deref(), &images.sets) {
        Ok(subject) => Ok(Some(subject)),
        Err(failure) => {
            let words: Vec<String> = std::iter::once(failure.message)
                .chain(failure.causes)
                .collect();
            let told = format!(
                "{data} does not hold the recorded images: {}",
                words.join(": ")
            );
            findings.check("data", false, told);
            Ok(None)
        }
    }
}

/// Whether there is nothing to compare, rather than something else than was recorded. A table whose images are all elsewhere is
/// nothing.
fn is_absent(error: &DataError) -> bool {
    matches!(
        error,
        DataError::NotFound { .. }
            | DataError::UnknownSource { .. }
            | DataError::FashionMnistMissing { .. }
            | DataError::Io { .. }
    ) || matches!(error, DataError::MissingImages { missing, listed, .. } if missing == listed)
}

/// Whether the images of a split are those recorded.
fn holds(subject: &Subject, split: &'static str, findings: &mut Findings) -> Result<bool, Failure> {
    let name = &subject.data.name;
    let Ok(images) = subject.images(split) else {
        findings.check("data", false, format!("{name} has no {split} split"));
        return Ok(false);
    };
    let changed = subject.changed_split(&[split])?;
    let told = match &changed {
        Some(changed) => changed.words(),
        None => format!(
            "the {split} split of {name} is the recorded one ({})",
            count(images.len() as u64, "image")
        ),
    };
    findings.check("data", changed.is_none(), told);
    Ok(changed.is_none())
}

fn val(
    args: &VerifyArgs,
    subject: &Subject,
    recorded: &Metrics,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let known = fixed_costs(
        &Network::new(&subject.model.spec).map_err(|error| Failure::of(Exit::Failed, &error))?,
        &subject.model.file.weights,
    );
    let costs: Vec<(String, f64)> = known
        .into_iter()
        .filter(|(name, _)| recorded.contains(name))
        .collect();
    let how = How {
        threads: args.of.threads.count(),
        ..How::default()
    };
    let mut found = subject.measure("val", how)?.metrics("val");
    let own = count(found.len() as u64, "val metric");
    let names: String = costs
        .iter()
        .map(|(name, _)| format!(" and {name}"))
        .collect();
    found.extend(costs);
    let others = recorded.names().filter(|name| !found.contains(name));
    let (times, others): (Vec<&str>, Vec<&str>) = others.partition(|name| is_timed(name));
    // Another measurement takes another time.
    let timed = match times[..] {
        [] => String::new(),
        _ => format!("; {}, a time, is not compared", times.join(", ")),
    };
    match MetricDifference::first("val", &found, recorded) {
        Some(difference) => findings.check("metrics", false, difference.to_string()),
        None => {
            let told = format!("{own}{names} are equal to the last bit{timed}");
            findings.check("metrics", true, told);
        }
    }
    if !others.is_empty() {
        let others = others.join(", ");
        findings.unchecked(format!("{others}: `keepbest reproduce` makes them again"));
    }
    Ok(())
}

/// The run's test, where it is to be measured again.
fn test_figures(
    args: &VerifyArgs,
    model: &Model,
    record: Option<&Record>,
    findings: &mut Findings,
) -> Result<Option<WithIntervals>, Failure> {
    let summary = record
        .filter(|record| record.is_best(model))
        .and_then(|record| match &record.view.state().status {
            RunStatus::Finished(summary) if summary["test"].is_object() => Some(summary),
            _ => None,
        });
    match (args.test, summary) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            findings.unchecked("the test figures: --test measures them again");
            Ok(None)
        }
        (true, None) => {
            let message = "no test figures are recorded of this model".to_owned();
            let hint =
                "they are of the best of a run that has come to its end, on data with a test split";
            Err(Failure::new(Exit::Failed, message).with_hint(hint.to_owned()))
        }
        (true, Some(summary)) => {
            let figures = serde_json::from_value(summary["test"].clone())
                .map_err(|error| Failure::of(Exit::Failed, &error))?;
            Ok(Some((figures, recorded_intervals(summary))))
        }
    }
}

fn test(
    args: &VerifyArgs,
    subject: &Subject,
    recorded: &Metrics,
    intervals: &BTreeMap<String, Interval>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let how = How {
        threads: args.of.threads.count(),
        keep_outcomes: true,
        ..How::default()
    };
    let measured = subject.measure("test", how)?;
    let found = measured.metrics("test");
    if let Some(difference) = MetricDifference::first("test", &found, recorded) {
        findings.check("test", false, difference.to_string());
        return Ok(());
    }
    let mut told = format!(
        "{} are equal to the last bit",
        count(found.len() as u64, "test metric")
    );
    if !intervals.is_empty()
        && let Some(outcomes) = &measured.outcomes
    {
        let again = resample(outcomes, "test")?.intervals().metrics;
        let json =
            |of: &BTreeMap<String, Interval>| serde_json::to_value(of).unwrap_or(Value::Null);
        if json(&again) != json(intervals) {
            findings.check(
                "test",
                false,
                "the intervals of the test metrics are others",
            );
            return Ok(());
        }
        told.push_str(", and so are their intervals");
    }
    findings.check("test", true, told);
    Ok(())
}
