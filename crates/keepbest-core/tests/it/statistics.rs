//! Intervals and tests against scipy, and against simulations in which the truth is known.

use keepbest_core::statistics::{
    Bootstrap, StatisticsError, mcnemar_exact, normal_quantile, wilson,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    wilson: Vec<(u64, u64, f64, f64, f64)>,
    mcnemar: Vec<(u64, u64, f64)>,
    paired: Vec<Paired>,
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
