//! Decision thresholds against scikit-learn's metrics, from `tests/golden/sklearn_thresholds.json` beside the script that wrote
//! it, and what must hold whatever the probabilities.

use keepbest_core::Metrics;
use keepbest_core::classification::{
    ClassificationAccumulator, ClassificationOptions, DecisionMetric, Thresholds, first_highest,
    tune,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    two: Vec<Two>,
    given: Vec<Given>,
    tuned: Vec<Tuned>,
}

#[derive(Deserialize)]
struct Examples {
    name: String,
    classes: usize,
    labels: Vec<u32>,
    numbers: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Two {
    #[serde(flatten)]
    examples: Examples,
    before: Metrics,
    best: Metrics,
}

#[derive(Deserialize)]
struct Given {
    #[serde(flatten)]
    examples: Examples,
    thresholds: Thresholds,
    decisions: Vec<u32>,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Tuned {
    #[serde(flatten)]
    examples: Examples,
    metric: DecisionMetric,
    thresholds: Vec<f64>,
    before: f64,
    after: f64,
    grid: f64,
}

impl Examples {
    fn probabilities(&self) -> Vec<f64> {
        let row = |row: &Vec<f64>| {
            let sum: f64 = row.iter().sum();
            row.iter().map(|number| number / sum).collect::<Vec<_>>()
        };
        self.numbers.iter().flat_map(row).collect()
    }

    fn tuned(&self, metric: DecisionMetric) -> keepbest_core::classification::Tuned {
        tune(self.classes, &self.probabilities(), &self.labels, metric).unwrap()
    }
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/sklearn_thresholds.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn assert_same(found: f64, expected: f64, what: &str) {
    let same = found.is_nan() && expected.is_nan() || (found - expected).abs() < 1e-12;
    assert!(same, "{what}: {found} instead of {expected}");
}

#[track_caller]
fn metrics_by(
    thresholds: Option<Thresholds>,
    classes: usize,
    p: &[f64],
    labels: &[u32],
) -> Metrics {
    let options = ClassificationOptions::default()
        .with_betas(&[2.0])
        .unwrap()
        .with_thresholds(thresholds);
    let mut accumulator = ClassificationAccumulator::with_options(classes, options);
    accumulator.update(p, labels).unwrap();
    accumulator.finish().unwrap().metrics("")
}

#[test]
fn of_two_classes_the_best_cut_is_found() {
    for case in golden().two {
        for (name, best) in case.best.iter() {
            let tuned = case.examples.tuned(name.parse().unwrap());
            let what = format!("{}: {name}", case.examples.name);
            assert_same(tuned.before, case.before.get(name).unwrap(), &what);
            assert_same(tuned.after, best, &what);
            // One number says it all: class 1 above its threshold.
            let [zero, one] = tuned.thresholds.values() else {
                panic!("{what}")
            };
            assert!((zero + one - 1.0).abs() < 1e-12);
            for row in case.examples.probabilities().chunks(2) {
                let decision = tuned.thresholds.decide(row);
                assert_eq!(decision, u32::from(row[1] > *one), "{what}: {row:?}");
            }
        }
    }
}

#[test]
fn decisions_and_their_metrics_are_scikit_learns() {
    for case in golden().given {
        let Examples {
            name,
            classes,
            labels,
            ..
        } = &case.examples;
        let p = case.examples.probabilities();
        let decisions: Vec<u32> = p
            .chunks(*classes)
            .map(|row| case.thresholds.decide(row))
            .collect();
        assert_eq!(decisions, case.decisions, "{name}");
        let plain = metrics_by(None, *classes, &p, labels);
        let found = metrics_by(Some(case.thresholds), *classes, &p, labels);
        for (metric, expected) in case.metrics.iter() {
            let value = found.get(metric).unwrap();
            assert_same(value, expected, &format!("{name}: {metric}"));
        }
        // What is of the probabilities is not moved.
        for metric in ["log_loss", "roc_auc_ovr", "average_precision", "ece"] {
            assert_eq!(found.get(metric), plain.get(metric), "{name}: {metric}");
        }
        assert_ne!(found.get("accuracy"), plain.get("accuracy"), "{name}");
    }
}

#[test]
fn of_three_classes_the_metric_is_as_said_and_as_good_as_a_grids() {
    for case in golden().tuned {
        let tuned = case.examples.tuned(case.metric);
        let what = format!("{}: {}", case.examples.name, case.metric);
        assert_eq!(tuned.thresholds.classes(), case.thresholds.len());
        for (found, expected) in tuned.thresholds.values().iter().zip(&case.thresholds) {
            assert_same(*found, *expected, &what);
        }
        assert_same(tuned.before, case.before, &what);
        assert_same(tuned.after, case.after, &what);
        assert!(
            tuned.after >= case.grid && tuned.after > tuned.before,
            "{what}: {} {}",
            tuned.after,
            case.grid
        );
    }
}

/// Rows of small whole numbers, so that ties and zeros abound.
fn any_examples() -> impl Strategy<Value = (usize, Vec<f64>, Vec<u32>)> {
    (2usize..6, 1usize..25).prop_flat_map(|(classes, n)| {
        let row = proptest::collection::vec(0u32..6, classes);
        let rows = proptest::collection::vec(row, n);
        let labels = proptest::collection::vec(0..classes as u32, n);
        (Just(classes), rows, labels).prop_map(|(classes, rows, labels)| {
            let probabilities = rows.into_iter().flat_map(|mut row| {
                if row.iter().all(|number| *number == 0) {
                    row[0] = 1;
                }
                let sum: u32 = row.iter().sum();
                row.into_iter()
                    .map(move |number| f64::from(number) / f64::from(sum))
            });
            (classes, probabilities.collect(), labels)
        })
    })
}

proptest! {
    #[test]
    fn tuned_is_never_worse((classes, p, labels) in any_examples(), which in 0..DecisionMetric::names().len()) {
        let name = DecisionMetric::names()[which];
        let tuned = tune(classes, &p, &labels, name.parse().unwrap()).unwrap();
        let value = |thresholds| metrics_by(thresholds, classes, &p, &labels).get(name).unwrap();
        // Both are what a report says.
        let (before, after) = (value(None), value(Some(tuned.thresholds.clone())));
        prop_assert!(before == tuned.before || before.is_nan() && tuned.before.is_nan());
        prop_assert!(after == tuned.after || after.is_nan() && tuned.after.is_nan());
        prop_assert!(after >= before || before.is_nan(), "{} {}", before, after);
        prop_assert!((tuned.thresholds.values().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // The same again.
        let again = tune(classes, &p, &labels, name.parse().unwrap()).unwrap();
        prop_assert_eq!(again.thresholds, tuned.thresholds);
    }

    #[test]
    fn thresholds_that_are_alike_decide_as_argmax((classes, p, _) in any_examples(), t in 0.001..=1.0f64) {
        let alike = Thresholds::new(vec![t; classes]).unwrap();
        for row in p.chunks(classes) {
            prop_assert_eq!(alike.decide(row), first_highest(row).0);
        }
    }

    /// With two classes no cut is better.
    #[test]
    fn of_two_classes_none_is_better(numbers in proptest::collection::vec((0u32..9, 0u32..2), 1..20), which in 0..DecisionMetric::names().len()) {
        let name = DecisionMetric::names()[which];
        let p: Vec<f64> = numbers.iter().flat_map(|(n, _)| [1.0 - f64::from(*n) / 8.0, f64::from(*n) / 8.0]).collect();
        let labels: Vec<u32> = numbers.iter().map(|(_, label)| *label).collect();
        let tuned = tune(2, &p, &labels, name.parse().unwrap()).unwrap();
        for cut in 1..16 {
            let one = f64::from(cut) / 16.0;
            let cut = Thresholds::new(vec![1.0 - one, one]).unwrap();
            let value = metrics_by(Some(cut), 2, &p, &labels).get(name).unwrap();
            prop_assert!(value.is_nan() || value <= tuned.after + 1e-12, "{}: {} {}", name, value, tuned.after);
        }
    }
}

/// Ten thousand examples of ten classes, and four hundred classes, in no time to speak of.
#[test]
fn many_examples_take_little_time() {
    for (n, classes) in [(10_000, 10), (1_000, 400)] {
        let mut state = 1u64;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f64 / 16_777_216.0
        };
        let (mut p, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let label = (next() * next() * classes as f64) as usize;
            let mut row: Vec<f64> = (0..classes).map(|_| next()).collect();
            row[label] += 0.4;
            let sum: f64 = row.iter().sum();
            p.extend(row.iter().map(|number| number / sum));
            labels.push(label as u32);
        }
        let begun = std::time::Instant::now();
        let tuned = tune(classes, &p, &labels, "f1_macro".parse().unwrap()).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{n} x {classes}: {seconds:.3} s, {} to {}",
            tuned.before, tuned.after
        );
        assert!(tuned.after > tuned.before);
        assert!(seconds < 60.0, "{seconds} s");
    }
}
