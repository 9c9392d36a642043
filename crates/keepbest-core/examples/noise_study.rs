//! How often the highest score on val picks an epoch that is truly worse, and what a significance rule and smoothing change:
//! the table of docs/noise.md. Prints it; the same every time.
//!
//! A run of 30 epochs is drawn: its true accuracy rises to a plateau near 0.90 and wanders there by some 0.4 points from epoch
//! to epoch, as a real one does. Each val image has a difficulty that stays, and luck that is drawn anew each epoch; so models of
//! different epochs err on many of the same images, as real ones do. What is chosen on val is then judged by its true accuracy.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use keepbest_core::statistics::{Bootstrap, mcnemar_exact, normal_quantile};

const EPOCHS: usize = 30;
/// The part of the variance that is the image's own. Of two epochs 0.90 accurate, each alone is right on 4 % of the images then.
const SHARED: f64 = 0.8;
/// How far below the truly best epoch a choice may be and still count as good.
const GOOD: f64 = 0.002;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller (1958).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * angle)
    }
}

struct Trial {
    truth: Vec<f64>,
    right: Vec<Vec<bool>>,
}

impl Trial {
    fn draw(random: &mut Random, images: usize) -> Self {
        let mut drift = 0.0;
        let truth: Vec<f64> = (1..=EPOCHS)
            .map(|epoch| {
                drift = 0.5 * drift + 0.0035 * random.normal();
                0.90 - 0.25 * libm::exp(-(epoch as f64) / 4.0) + drift
            })
            .collect();
        let difficulty: Vec<f64> = (0..images).map(|_| random.normal()).collect();
        let right = truth
            .iter()
            .map(|accuracy| {
                let limit = normal_quantile(*accuracy);
                let own = difficulty.iter();
                own.map(|own| {
                    let luck = (1.0 - SHARED).sqrt() * random.normal();
                    SHARED.sqrt() * own + luck < limit
                })
                .collect()
            })
            .collect();
        Self { truth, right }
    }

    fn score(&self, epoch: usize) -> f64 {
        let right = &self.right[epoch];
        right.iter().filter(|right| **right).count() as f64 / right.len() as f64
    }

    /// Goes through the epochs; `better` says whether one replaces the best so far. The choice, and how many replacements put a
    /// truly worse epoch in the place of a better one.
    fn choose(&self, mut better: impl FnMut(usize, usize) -> bool) -> (usize, usize) {
        let (mut best, mut for_worse) = (0, 0);
        for epoch in 1..EPOCHS {
            if better(epoch, best) {
                for_worse += usize::from(self.truth[epoch] < self.truth[best]);
                best = epoch;
            }
        }
        (best, for_worse)
    }

    fn significantly_better(&self, epoch: usize, best: usize) -> bool {
        let pairs = || self.right[epoch].iter().zip(&self.right[best]);
        let only_new = pairs().filter(|(new, old)| **new && !**old).count() as u64;
        let only_old = pairs().filter(|(new, old)| !**new && **old).count() as u64;
        only_new > only_old && mcnemar_exact(only_new, only_old) < 0.05
    }
}

#[derive(Default)]
struct Tally {
    worse: usize,
    lost: f64,
    for_worse: usize,
    optimism: f64,
}

fn main() {
    println!(
        "| val images | rule | picks an epoch truly worse by more than 0.2 points | points lost, mean | replacements for the worse, a run | score flatters by, points |"
    );
    println!("|---|---|---|---|---|---|");
    for (images, trials) in [(200, 1000), (1000, 600), (10_000, 200)] {
        let mut random = Random(images as u64);
        let mut tallies: [(&str, Tally); 3] = [
            ("highest", Tally::default()),
            ("`--significant 0.05`", Tally::default()),
            ("`--smooth ema:0.6`", Tally::default()),
        ];
        let mut estimated = 0.0;
        for seed in 0..trials {
            let trial = Trial::draw(&mut random, images);
            let scores: Vec<f64> = (0..EPOCHS).map(|epoch| trial.score(epoch)).collect();
            let mut smooth = scores.clone();
            for epoch in 1..EPOCHS {
                smooth[epoch] = 0.6 * smooth[epoch - 1] + 0.4 * scores[epoch];
            }
            let choices = [
                trial.choose(|epoch, best| scores[epoch] > scores[best]),
                trial.choose(|epoch, best| trial.significantly_better(epoch, best)),
                trial.choose(|epoch, best| smooth[epoch] > smooth[best]),
            ];
            let top = trial.truth.iter().copied().fold(0.0, f64::max);
            for ((_, tally), (choice, for_worse)) in tallies.iter_mut().zip(choices) {
                let lost = top - trial.truth[choice];
                tally.worse += usize::from(lost > GOOD);
                tally.lost += lost;
                tally.for_worse += for_worse;
                tally.optimism += scores[choice] - trial.truth[choice];
            }
            let bootstrap = Bootstrap {
                replicates: 50,
                seed,
                confidence: 0.95,
            };
            let values: Vec<Vec<f64>> = trial
                .right
                .iter()
                .map(|right| right.iter().map(|right| f64::from(*right)).collect())
                .collect();
            let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
            let found = bootstrap
                .selection_optimism(&values)
                .expect("finite values of equal number");
            estimated += found.optimism;
        }
        let trials = trials as f64;
        for (rule, tally) in tallies {
            let estimate = if rule == "highest" {
                format!(" (estimated {:.2})", 100.0 * estimated / trials)
            } else {
                String::new()
            };
            println!(
                "| {images} | {rule} | {:.0} % | {:.2} | {:.1} | {:.2}{estimate} |",
                100.0 * tally.worse as f64 / trials,
                100.0 * tally.lost / trials,
                tally.for_worse as f64 / trials,
                100.0 * tally.optimism / trials
            );
        }
    }
}
