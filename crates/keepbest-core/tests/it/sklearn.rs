//! Every metric against scikit-learn's value, from `tests/golden/sklearn_metrics.json` beside the script that wrote it.
//! With `KEEPBEST_CORE_GOLDEN=DIR` the file is read from there, so that a fresh one can be held against.

use std::path::PathBuf;

use keepbest_core::{
    ClassificationReport, Metrics,
    classification::{ClassificationAccumulator, ClassificationOptions},
};
use serde::Deserialize;

/// What is asked for is 1e-9; what is reached is this.
const TOLERANCE: f64 = 1e-13;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    classes: usize,
    bins: usize,
    labels: Vec<u32>,
    numbers: Vec<Vec<f64>>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    metrics: Metrics,
    per_class: PerClass,
    confusion: Vec<Vec<u64>>,
    calibration: Vec<(u64, u64, f64)>,
}

#[derive(Deserialize)]
struct PerClass {
    support: Vec<u64>,
    predicted: Vec<u64>,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    fbeta2: Vec<f64>,
    roc_auc: Vec<Number>,
    average_precision: Vec<f64>,
}

#[derive(Deserialize)]
struct Number(#[serde(with = "keepbest_core::metrics::nonfinite")] f64);

impl Case {
    fn probabilities(&self) -> Vec<f64> {
        let row = |row: &Vec<f64>| {
            let sum: f64 = row.iter().sum();
            row.iter().map(|number| number / sum).collect::<Vec<_>>()
        };
        let doubles = self.numbers.iter().flat_map(row);
        match self.kind.as_str() {
            "double" => doubles.collect(),
            "single" => doubles.map(|p| f64::from(p as f32)).collect(),
            other => panic!("unknown kind {other}"),
        }
    }

    fn report(&self) -> ClassificationReport {
        let options = ClassificationOptions::default()
            .with_top_k(&[1, 2, 3, 5])
            .and_then(|options| options.with_betas(&[0.5, 2.0]))
            .and_then(|options| options.with_calibration_bins(self.bins))
            .unwrap();
        let mut accumulator = ClassificationAccumulator::with_options(self.classes, options);
        // In batches, as a loader would hand them over.
        for (batch, labels) in self.labels.chunks(32).enumerate() {
            let rows = batch * 32 * self.classes..(batch * 32 + labels.len()) * self.classes;
            if self.kind == "logits" {
                let logits: Vec<f32> = self
                    .numbers
                    .iter()
                    .flatten()
                    .map(|number| (number / 8.0) as f32)
                    .collect();
                accumulator.update_logits(&logits[rows], labels).unwrap();
            } else {
                accumulator
                    .update(&self.probabilities()[rows], labels)
                    .unwrap();
            }
        }
        accumulator.finish().unwrap()
    }
}

fn same(found: f64, expected: f64) -> bool {
    found.is_nan() && expected.is_nan()
        || (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0)
}

fn assert_same(found: f64, expected: f64, what: &str) {
    assert!(
        same(found, expected),
        "{what}: {found} instead of {expected}"
    );
}

fn golden() -> Golden {
    let folder = std::env::var_os("KEEPBEST_CORE_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")),
        PathBuf::from,
    );
    let path = folder.join("sklearn_metrics.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_metric_equals_scikit_learns() {
    let cases = golden().cases;
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    for case in &cases {
        let report = case.report();
        let found = report.metrics("");
        let names = |metrics: &Metrics| metrics.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            names(&found),
            names(&case.expected.metrics),
            "{}",
            case.name
        );
        for (name, expected) in case.expected.metrics.iter() {
            assert_same(
                found.get(name).unwrap(),
                expected,
                &format!("{}: {name}", case.name),
            );
        }
    }
}

#[test]
fn tables_equal_scikit_learns() {
    for case in golden().cases {
        let report = case.report();
        assert_eq!(report.count() as usize, case.labels.len());
        assert_eq!(
            report.confusion().rows(),
            case.expected.confusion,
            "{}",
            case.name
        );
        let expected = &case.expected.per_class;
        assert_eq!(report.classes().len(), case.classes);
        for (i, class) in report.classes().iter().enumerate() {
            assert_eq!(
                (class.support, class.predicted),
                (expected.support[i], expected.predicted[i]),
                "{}",
                case.name
            );
            for (what, found, expected) in [
                ("precision", class.precision, expected.precision[i]),
                ("recall", class.recall, expected.recall[i]),
                ("f1", class.f1, expected.f1[i]),
                ("fbeta2", class.f_beta[1].1, expected.fbeta2[i]),
                ("roc auc", class.roc_auc.unwrap(), expected.roc_auc[i].0),
                (
                    "average precision",
                    class.average_precision.unwrap(),
                    expected.average_precision[i],
                ),
            ] {
                assert_same(
                    found,
                    expected,
                    &format!("{}: {what} of class {i}", case.name),
                );
            }
        }
        assert_eq!(report.calibration().len(), case.bins);
        for (bin, (count, correct, confidence)) in
            report.calibration().iter().zip(&case.expected.calibration)
        {
            assert_eq!(
                (bin.count, bin.correct),
                (*count, *correct),
                "{}",
                case.name
            );
            assert_same(bin.confidence, *confidence, &case.name);
        }
    }
}

/// Reading is not believing: a wrong expectation would be seen.
#[test]
fn a_changed_expectation_is_noticed() {
    assert!(!same(0.5, 0.5 + 1e-9));
    assert!(!same(f64::NAN, 0.0));
    assert!(!same(0.0, f64::NAN));
}

#[test]
fn report_survives_json() {
    for case in golden().cases {
        let report = case.report();
        let json = serde_json::to_string(&report).unwrap();
        let back: ClassificationReport = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json, "{}", case.name);
        assert_eq!(back.metrics("val"), report.metrics("val"));
    }
}

#[test]
fn every_metric_has_a_direction() {
    for name in golden().cases[0].report().metrics("val").names() {
        assert!(
            keepbest_core::Direction::of_metric(name).is_some(),
            "{name}"
        );
    }
}
