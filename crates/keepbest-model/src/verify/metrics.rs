//! What was recorded of a model's metrics, measured again on the recorded images.

use std::collections::BTreeMap;

use keepbest_core::statistics::Interval;
use keepbest_core::{EvaluationRecord, Metrics};
use keepbest_data::{DataError, Subset};
use keepbest_nn::{CPU, Network};
use serde_json::Value;

use super::record::Record;
use super::report::{Findings, VerifyError, VerifyOptions};
use crate::costs::{fixed_costs, is_timed};
use crate::difference::{MetricDifference, engine_tolerance};
use crate::environment::Environment;
use crate::images::{MeasureError, MeasureOptions, RecordedImages, locate, resample};
use crate::model::Model;
use crate::provenance::DataRecord;
use crate::run_summary::RunSummary;
use crate::watch::Watch;
use crate::words::count;
use keepbest_core::text::with_causes;

/// Figures with the intervals of those that have one.
type WithIntervals = (Metrics, BTreeMap<String, Interval>);

/// The evaluation in the file, or the journal's of the same weights, and with `--test` the run's test.
pub(super) fn measured(
    options: &VerifyOptions<'_>,
    model: &Model,
    record: Option<&Record>,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<(), VerifyError> {
    let in_file = model
        .file
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.evaluation.clone())
        .map(serde_json::from_value::<EvaluationRecord>)
        .transpose()?;
    let evaluation = in_file.or_else(|| record.and_then(Record::evaluation).cloned());
    let test = test_figures(options, model, record, findings)?;
    if evaluation.is_none() {
        let told = "none are recorded for these weights (as at a resume point between evaluations)";
        findings.check("metrics", true, told);
        if test.is_none() {
            return Ok(());
        }
    }
    let Some(images) = images(options, model, findings, watch)? else {
        return Ok(());
    };
    if let Some(evaluation) = evaluation
        && holds(&images, "val", findings)?
    {
        val(options, &images, &evaluation.metrics, findings, watch)?;
    }
    if let Some((figures, intervals)) = test
        && holds(&images, "test", findings)?
    {
        self::test(options, &images, &figures, &intervals, findings, watch)?;
    }
    Ok(())
}

/// The images; none when what is where they were to be is something else, which is a check that does not hold.
fn images<'m>(
    options: &VerifyOptions<'_>,
    model: &'m Model,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<Option<RecordedImages<'m>>, VerifyError> {
    let (data, dir) = locate(model, &options.images)?;
    let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
    let unreadable = recorded.map_or_else(Default::default, DataRecord::unreadable);
    if let Err(error) = keepbest_data::open_with(&data, dir.as_deref(), unreadable)
        && is_absent(&error)
    {
        return Err(MeasureError::from(error).into());
    }
    match RecordedImages::open(model, &options.images, watch) {
        Ok(images) => Ok(Some(images)),
        Err(error) if error.is_interrupted() => Err(error.into()),
        Err(error) => {
            let told = format!(
                "{data} does not hold the recorded images: {}",
                with_causes(&error)
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
            | DataError::BrokenLink { .. }
            | DataError::Io { .. }
    ) || matches!(error, DataError::MissingImages { missing, listed, .. } if missing == listed)
}

/// Whether the images of a split are those recorded.
fn holds(
    images: &RecordedImages<'_>,
    split: &'static str,
    findings: &mut Findings,
) -> Result<bool, VerifyError> {
    let name = &images.data.name;
    let Ok(own) = images.split(split) else {
        findings.check("data", false, format!("{name} has no {split} split"));
        return Ok(false);
    };
    let changed = images.changed_split(&[split])?;
    let told = match &changed {
        Some(changed) => changed.words(),
        None => format!(
            "the {split} split of {name} is the recorded one ({})",
            count(own.len() as u64, "image")
        ),
    };
    findings.check("data", changed.is_none(), told);
    Ok(changed.is_none())
}

fn val(
    options: &VerifyOptions<'_>,
    images: &RecordedImages<'_>,
    recorded: &Metrics,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<(), VerifyError> {
    let network = Network::new(&images.model.spec)?;
    let known = fixed_costs(&network, &images.model.file.weights);
    let costs: Vec<(String, f64)> = known
        .into_iter()
        .filter(|(name, _)| recorded.contains(name))
        .collect();
    let how = MeasureOptions {
        threads: options.threads,
        device: options.device.clone(),
        ..MeasureOptions::default()
    };
    let mut found = images.measure("val", how, watch)?.metrics("val");
    let engines = Engines::of(options, images.model, images.split("val")?);
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
    match engines.agree("val", &found, recorded) {
        Err(differs) => findings.check("metrics", false, differs),
        Ok(how) => findings.check("metrics", true, format!("{own}{names} {how}{timed}")),
    }
    if !others.is_empty() {
        let others = others.join(", ");
        findings.unchecked(format!("{others}: `keepbest reproduce` makes them again"));
    }
    Ok(())
}

/// The run's test, where it is to be measured again.
fn test_figures(
    options: &VerifyOptions<'_>,
    model: &Model,
    record: Option<&Record>,
    findings: &mut Findings,
) -> Result<Option<WithIntervals>, VerifyError> {
    let summary = record
        .filter(|record| record.is_best(model))
        .and_then(|record| RunSummary::of(&record.view));
    let figures = summary.and_then(|summary| Some((summary.test?, summary.test_intervals)));
    match (options.test, figures) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            findings.unchecked("the test figures: --test measures them again");
            Ok(None)
        }
        (true, None) => Err(VerifyError::NoTest),
        (true, Some((test, intervals))) => Ok(Some((test, intervals.unwrap_or_default()))),
    }
}

fn test(
    options: &VerifyOptions<'_>,
    images: &RecordedImages<'_>,
    recorded: &Metrics,
    intervals: &BTreeMap<String, Interval>,
    findings: &mut Findings,
    watch: Watch<'_>,
) -> Result<(), VerifyError> {
    let how = MeasureOptions {
        threads: options.threads,
        device: options.device.clone(),
        keep_outcomes: true,
        ..MeasureOptions::default()
    };
    let measured = images.measure("test", how, watch)?;
    let found = measured.metrics("test");
    let engines = Engines::of(options, images.model, images.split("test")?);
    let how = match engines.agree("test", &found, recorded) {
        Ok(how) => how,
        Err(differs) => {
            findings.check("test", false, differs);
            return Ok(());
        }
    };
    let mut told = format!("{} {how}", count(found.len() as u64, "test metric"));
    if engines.same_bits
        && !intervals.is_empty()
        && let Some(outcomes) = &measured.outcomes
    {
        let again = resample(outcomes, "test", watch)?.intervals().metrics;
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

/// What measured what was recorded, and what measures it again.
struct Engines {
    /// Whether both are keepbest's own on the CPU, which promises the same bits.
    same_bits: bool,
    recorded: String,
    found: String,
    images: usize,
}

impl Engines {
    fn of(options: &VerifyOptions<'_>, model: &Model, images: &Subset) -> Self {
        let device = options.device.as_deref().unwrap_or(CPU);
        let recorded = model.provenance.as_ref();
        let recorded = recorded.and_then(|of| of.environment.as_ref());
        let own = recorded.is_none_or(|on| on.device == CPU);
        Self {
            same_bits: own && device == CPU,
            recorded: recorded.map_or_else(|| "keepbest on cpu".into(), Environment::engine),
            found: match device {
                CPU => "keepbest on cpu".into(),
                _ => format!("PyTorch on {device}"),
            },
            images: images.len(),
        }
    }

    /// How far the figures agree, or the first that does not, in words.
    fn agree(&self, split: &str, found: &Metrics, recorded: &Metrics) -> Result<String, String> {
        let Some(difference) = MetricDifference::first(split, found, recorded) else {
            return Ok(match self.same_bits {
                true => "are equal to the last bit".into(),
                false => format!("are equal to the last bit, {}", self.words()),
            });
        };
        if self.same_bits {
            return Err(difference.to_string());
        }
        let tolerance = engine_tolerance(self.images);
        match MetricDifference::first_beyond(tolerance, split, found, recorded) {
            None => Ok(format!(
                "agree to {tolerance:.4}, {}; another engine takes sums in another order",
                self.words()
            )),
            Some(difference) => Err(format!(
                "{difference}, which is more than {tolerance:.4} apart, {}",
                self.words()
            )),
        }
    }

    fn words(&self) -> String {
        format!(
            "measured by {} where {} had measured",
            self.found, self.recorded
        )
    }
}
