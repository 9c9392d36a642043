//! Intervals and tests against scipy, and against simulations in which the truth is known.

use keepbest_core::classification::{
    ClassificationExamples, ClassificationOptions, DecisionMetric,
};
use keepbest_core::statistics::{
    Bootstrap, Interval, StatisticsError, mcnemar_exact, normal_quantile, wilson,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    wilson: Vec<(u64, u64, f64, f64, f64)>,
    mcnemar: Vec<(u64, u64, f64)>,
    paired: Vec<Paired>,
    decided: Vec<Decided>,
}

#[derive(Deserialize)]
struct Decided {
    metric: DecisionMetric,
    classes: usize,
    labels: Vec<u32>,
    first: Vec<u32>,
    second: Vec<u32>,
    difference: f64,
    low: f64,
    high: f64,
    standard_error: f64,
}

#[derive(Deserialize)]
struct Paired {
    first: Vec<f64>,
    second: Vec<f64>,
    low: f64,
    high: f64,
    standard_error: f64,
}

/// SplitMix64, to draw from.
struct Random(u64);

impl Random {
    /// Evenly from 0 to below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn is(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/scipy_statistics.json")).unwrap()
}

#[test]
fn wilson_agrees_with_scipy() {
    for (successes, trials, confidence, low, high) in golden().wilson {
        let found = wilson(successes, trials, confidence).unwrap();
        let what = format!("{successes} of {trials} at {confidence}: {found:?}");
        assert!((found.low - low).abs() < 1e-12, "{what}, expected {low}");
        assert!((found.high - high).abs() < 1e-12, "{what}, expected {high}");
    }
}

#[test]
fn mcnemar_agrees_with_scipy() {
    for (first, second, p) in golden().mcnemar {
        let found = mcnemar_exact(first, second);
        assert!(
            (found - p).abs() < 1e-8,
            "{first} against {second}: {found}, expected {p}"
        );
    }
}

#[test]
fn the_bootstrap_agrees_with_scipy_within_its_monte_carlo_error() {
    let bootstrap = Bootstrap {
        replicates: 20_000,
        ..Bootstrap::default()
    };
    for case in golden().paired {
        let found = bootstrap
            .paired_difference(&case.first, &case.second)
            .unwrap();
        // An end of the interval, from so many replicates, has a standard error of 0.019 of theirs.
        let room = 5.0 * 0.019 * case.standard_error + 0.005;
        assert!(
            (found.interval.low - case.low).abs() < room,
            "{found:?} {}",
            case.low
        );
        assert!(
            (found.interval.high - case.high).abs() < room,
            "{found:?} {}",
            case.high
        );
        // A sample this large is nearly normal, so both tests must see the same.
        let z = found.difference.abs() / case.standard_error;
        let normal = 2.0 * normal_tail(z);
        assert!(
            (found.p_value - normal).abs() < 0.02,
            "{} {normal}",
            found.p_value
        );
    }
}

#[test]
fn the_bootstrap_of_decisions_agrees_with_scipy_within_its_monte_carlo_error() {
    let bootstrap = Bootstrap {
        replicates: 5000,
        ..Bootstrap::default()
    };
    for case in golden().decided {
        let of = |decided: &[u32], draw: &[u32]| {
            let drawn = draw.iter().map(|at| *at as usize);
            let pairs = drawn.map(|at| (case.labels[at], decided[at]));
            case.metric.measure(case.classes, pairs)
        };
        let found = bootstrap.replicate(case.labels.len(), 2, |draw, values| {
            (values[0], values[1]) = (of(&case.first, draw), of(&case.second, draw));
            Ok::<(), StatisticsError>(())
        });
        let found = found.unwrap();
        let found = found[0].minus(&found[1]).unwrap().unwrap();
        let metric = case.metric;
        assert!(
            (found.difference - case.difference).abs() < 1e-12,
            "{metric}"
        );
        // An end of an interval from 5,000 draws has a standard error of 0.038 of theirs, and there are two such.
        let room = 5.0 * 0.038 * f64::sqrt(2.0) * case.standard_error + 0.0005;
        let Interval { low, high, .. } = found.interval;
        assert!(
            (low - case.low).abs() < room,
            "{metric}: {low} {}",
            case.low
        );
        assert!(
            (high - case.high).abs() < room,
            "{metric}: {high} {}",
            case.high
        );
    }
}

fn normal_tail(z: f64) -> f64 {
    // By bisection on the quantile, which has its own test.
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if -normal_quantile(middle) > z {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

/// The 95 % intervals hold the truth in 93 to 97 % of simulated splits.
#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let mut random = Random(1);
    for (n, accuracy) in [(200, 0.9), (600, 0.8), (1000, 0.97)] {
        let (mut inside, trials) = (0, 4000);
        for _ in 0..trials {
            let right = (0..n).filter(|_| random.is(accuracy)).count() as u64;
            inside += u32::from(wilson(right, n, 0.95).unwrap().contains(accuracy));
        }
        let coverage = f64::from(inside) / f64::from(trials);
        assert!(
            (0.93..=0.97).contains(&coverage),
            "wilson, n {n}: {coverage}"
        );
    }
    // Losses are skewed: exponential with mean 1.
    for n in [200, 1000] {
        let (mut inside, trials) = (0, 1000);
        for trial in 0..trials {
            let losses: Vec<f64> = (0..n).map(|_| -f64::ln(1.0 - random.unit())).collect();
            let bootstrap = Bootstrap {
                replicates: 400,
                seed: trial,
                confidence: 0.95,
            };
            let interval = bootstrap
                .replicate(n, 1, |draw, mean| {
                    mean[0] = draw.iter().map(|&at| losses[at as usize]).sum::<f64>() / n as f64;
                    Ok::<(), StatisticsError>(())
                })
                .unwrap()[0]
                .interval()
                .unwrap();
            inside += u32::from(interval.contains(1.0));
        }
        let coverage = f64::from(inside) / trials as f64;
        assert!(
            (0.93..=0.97).contains(&coverage),
            "bootstrap, n {n}: {coverage}"
        );
    }
}

/// The same for metrics that are no means, of a classifier of two classes whose scores are normal, so that the truth is known.
#[test]
fn intervals_of_f1_and_auc_cover_the_truth_as_often_as_they_say() {
    let mut random = Random(3);
    let (n, positives, apart, trials) = (400, 0.3, 1.6, 500);
    // A score is above or below 0, halfway between the classes, on the wrong side so often.
    let wrong = normal_tail(apart / 2.0);
    let f1 = |share: f64| {
        let (hits, misses, others) = (share * (1.0 - wrong), share * wrong, (1.0 - share) * wrong);
        2.0 * hits / (2.0 * hits + misses + others)
    };
    let truth = [
        ("f1_macro", (f1(positives) + f1(1.0 - positives)) / 2.0),
        ("roc_auc_ovr", 1.0 - normal_tail(apart / f64::sqrt(2.0))),
    ];
    let mut inside = [0u32; 2];
    for trial in 0..trials {
        let labels: Vec<u32> = (0..n).map(|_| u32::from(random.is(positives))).collect();
        let probabilities: Vec<f64> = labels
            .iter()
            .flat_map(|label| {
                let middle = (f64::from(*label) - 0.5) * apart;
                let score = middle + normal_quantile(random.unit().clamp(1e-12, 1.0 - 1e-12));
                let p = 1.0 / (1.0 + f64::exp(-score));
                [1.0 - p, p]
            })
            .collect();
        let options = ClassificationOptions::default();
        let examples = ClassificationExamples::new(2, &options, &probabilities, &labels).unwrap();
        let bootstrap = Bootstrap {
            replicates: 400,
            seed: trial,
            confidence: 0.95,
        };
        let found = bootstrap.replicate(n, 2, |draw, values| {
            let report = examples.report(draw).unwrap();
            for (value, (name, _)) in values.iter_mut().zip(truth) {
                *value = report.metric(name).unwrap();
            }
            Ok::<(), StatisticsError>(())
        });
        for ((inside, (_, truth)), found) in inside.iter_mut().zip(truth).zip(found.unwrap()) {
            *inside += u32::from(found.interval().unwrap().contains(truth));
        }
    }
    for (inside, (name, _)) in inside.into_iter().zip(truth) {
        let coverage = f64::from(inside) / trials as f64;
        assert!((0.93..=0.97).contains(&coverage), "{name}: {coverage}");
    }
}

/// Candidates of one true accuracy: all that the best is better is flattery, and the estimate is about right on average.
#[test]
fn selection_optimism_is_about_the_true_one() {
    let mut random = Random(2);
    let (n, candidates, accuracy, trials) = (300, 12, 0.85, 60);
    let (mut truth, mut estimate) = (0.0, 0.0);
    for trial in 0..trials {
        // Half of the images are decided the same way by all, as images are easy or hard.
        let shared: Vec<bool> = (0..n).map(|_| random.is(0.5)).collect();
        let common: Vec<bool> = (0..n).map(|_| random.is(accuracy)).collect();
        let values: Vec<Vec<f64>> = (0..candidates)
            .map(|_| {
                (0..n)
                    .map(|at| {
                        let own = random.is(accuracy);
                        f64::from(u8::from(if shared[at] { common[at] } else { own }))
                    })
                    .collect()
            })
            .collect();
        let views: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        let bootstrap = Bootstrap {
            replicates: 200,
            seed: trial,
            confidence: 0.95,
        };
        let found = bootstrap.selection_optimism(&views).unwrap();
        truth += found.score - accuracy;
        estimate += found.optimism;
    }
    let ratio = estimate / truth;
    assert!(
        (0.8..1.25).contains(&ratio),
        "estimated {estimate}, true {truth}"
    );
    let alone = Bootstrap::default()
        .selection_optimism(&[&[1.0, 0.0]])
        .unwrap();
    assert_eq!((alone.optimism, alone.agreement), (0.0, 1.0));
}
