//! Search for the thresholds by which a metric of decisions is as high as it can be.

mod tally;

use self::tally::Tally;
use super::averages::ClassCounts;
use super::batch::{ClassificationError, check_batch};
use super::decision::DecisionMetric;
use super::row::first_highest;
use super::thresholds::Thresholds;

/// Rounds over all classes, at most. Most ascents end after two or three: when a round changes nothing.
const ROUNDS: usize = 10;

/// The result of tuning.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tuned {
    /// The thresholds; they sum to 1.
    pub thresholds: Thresholds,
    /// The metric of argmax.
    pub before: f64,
    /// The metric of the thresholds: never below, on the examples it was tuned on.
    pub after: f64,
}

/// Finds thresholds by which `metric` is high on these examples: probabilities `[n, classes]`, row-major, and n labels.
///
/// Exact coordinate ascent from thresholds that are alike. For each class in turn, with the others as they are, the
/// decisions change only at as many thresholds as there are examples; all are looked at, and the best is taken: halfway
/// between two examples, of equals the nearest to where it was, and nothing changes unless the metric rises. With two classes
/// this is the best there is. With more it need not be: it ends where no single threshold can be bettered.
///
/// A round costs O(classes * n log n). The result depends on the examples alone.
///
/// When a probability is not finite, every metric is NaN, and the thresholds are alike.
///
/// ```
/// use keepbest_core::classification::tune;
///
/// // Class 1 is rare, and never the likeliest.
/// let probabilities = [0.9, 0.1, 0.8, 0.2, 0.6, 0.4, 0.7, 0.3];
/// let tuned = tune(2, &probabilities, &[0, 0, 1, 1], "f1_macro".parse()?)?;
/// assert_eq!(tuned.after, 1.0);
/// assert_eq!(tuned.thresholds.values(), [0.75, 0.25]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`ClassificationAccumulator::update`](crate::ClassificationAccumulator::update), and when there are no examples.
pub fn tune(
    classes: usize,
    probabilities: &[f64],
    labels: &[u32],
    metric: DecisionMetric,
) -> Result<Tuned, ClassificationError> {
    tune_while(classes, probabilities, labels, metric, &mut || true)
}

/// As [`tune`]; before each class `go_on` is asked, and when it says no, the thresholds are those found until then.
///
/// # Errors
/// As [`tune`].
pub fn tune_while(
    classes: usize,
    probabilities: &[f64],
    labels: &[u32],
    metric: DecisionMetric,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tuned, ClassificationError> {
    check_batch(classes, probabilities, labels)?;
    if labels.is_empty() {
        return Err(ClassificationError::NoExamples);
    }
    let alike = Thresholds::alike(classes);
    if !probabilities.iter().all(|p| p.is_finite()) {
        return Ok(Tuned {
            thresholds: alike,
            before: f64::NAN,
            after: f64::NAN,
        });
    }
    let before = metric.of(&counts(classes, probabilities, labels, &alike));
    if classes > 1 {
        let mut ascent = Ascent::new(classes, probabilities, labels, metric);
        'rounds: for _ in 0..ROUNDS {
            let mut changed = false;
            for class in 0..classes {
                if !go_on() {
                    break 'rounds;
                }
                changed |= ascent.better(class);
            }
            if !changed {
                break;
            }
        }
        if let Ok(thresholds) = Thresholds::new(ascent.normalised()) {
            // What counts is what these very numbers decide.
            let after = metric.of(&counts(classes, probabilities, labels, &thresholds));
            if after > before || before.is_nan() && after.is_finite() {
                return Ok(Tuned {
                    thresholds,
                    before,
                    after,
                });
            }
        }
    }
    Ok(Tuned {
        thresholds: alike,
        before,
        after: before,
    })
}

fn counts(
    classes: usize,
    probabilities: &[f64],
    labels: &[u32],
    thresholds: &Thresholds,
) -> Vec<ClassCounts> {
    let rows = probabilities.chunks_exact(classes);
    count(classes, labels, rows.map(|row| thresholds.decide(row)))
}

fn count(classes: usize, labels: &[u32], decisions: impl Iterator<Item = u32>) -> Vec<ClassCounts> {
    let none = ClassCounts {
        support: 0,
        predicted: 0,
        hits: 0,
    };
    let mut counts = vec![none; classes];
    for (label, decision) in labels.iter().zip(decisions) {
        counts[*label as usize].support += 1;
        counts[decision as usize].predicted += 1;
        counts[decision as usize].hits += u64::from(*label == decision);
    }
    counts
}

/// A class and how many times its threshold its probability is.
#[derive(Debug, Clone, Copy)]
struct Claim {
    class: u32,
    multiple: f64,
}

impl Claim {
    /// Whether it is decided for rather than the other.
    fn beats(self, other: Self) -> bool {
        self.multiple > other.multiple
            || self.multiple == other.multiple && self.class < other.class
    }
}

/// An example's two strongest claims, the strongest first.
#[derive(Debug, Clone, Copy)]
struct Claims([Claim; 2]);

impl Claims {
    fn of(row: &[f64], thresholds: &[f64]) -> Self {
        let nothing = Claim {
            class: u32::MAX,
            multiple: f64::NEG_INFINITY,
        };
        let mut claims = [nothing; 2];
        for (class, (p, threshold)) in (0..).zip(row.iter().zip(thresholds)) {
            let claim = Claim {
                class,
                multiple: p / threshold,
            };
            if claim.beats(claims[0]) {
                claims = [claim, claims[0]];
            } else if claim.beats(claims[1]) {
                claims[1] = claim;
            }
        }
        Self(claims)
    }

    /// The strongest of the others.
    fn rival_of(&self, class: u32) -> Claim {
        let [first, second] = self.0;
        if first.class == class { second } else { first }
    }

    /// A class's threshold has changed. Only where it was among the two and is weaker now, all have to be looked at again.
    fn changed(&mut self, class: u32, row: &[f64], thresholds: &[f64]) {
        let [first, second] = self.0;
        let claim = Claim {
            class,
            multiple: row[class as usize] / thresholds[class as usize],
        };
        if first.class == class {
            if claim.beats(second) {
                self.0[0] = claim;
            } else {
                *self = Self::of(row, thresholds);
            }
        } else if claim.beats(first) {
            self.0 = [claim, first];
        } else if second.class == class && !claim.beats(second) {
            *self = Self::of(row, thresholds);
        } else if second.class == class || claim.beats(second) {
            self.0[1] = claim;
        }
    }
}

/// The ascent under way. Its thresholds sum to anything: only their ratios matter.
struct Ascent<'a> {
    classes: usize,
    probabilities: &'a [f64],
    labels: &'a [u32],
    thresholds: Vec<f64>,
    claims: Vec<Claims>,
    tally: Tally,
}

impl<'a> Ascent<'a> {
    fn new(
        classes: usize,
        probabilities: &'a [f64],
        labels: &'a [u32],
        metric: DecisionMetric,
    ) -> Self {
        let thresholds = vec![1.0; classes];
        let rows = probabilities.chunks_exact(classes);
        let claims: Vec<Claims> = rows
            .clone()
            .map(|row| Claims::of(row, &thresholds))
            .collect();
        let counts = count(classes, labels, rows.map(|row| first_highest(row).0));
        Self {
            classes,
            probabilities,
            labels,
            thresholds,
            claims,
            tally: Tally::new(metric, counts),
        }
    }

    /// Takes the best threshold of one class. Whether that changes it.
    ///
    /// With the other classes' thresholds brought to a sum of 1, and the strongest of their claims S, the class is decided
    /// for when its own threshold, as a part of 1, is below p / (p + S): the example's cut point.
    fn better(&mut self, class: usize) -> bool {
        let own = class as u32;
        let (below, rest) = self.thresholds.split_at(class);
        let others: f64 = below.iter().chain(&rest[1..]).sum();
        let now = self.thresholds[class] / (self.thresholds[class] + others);
        let mut tally = self.tally.clone();
        let mut cuts: Vec<(f64, u32)> = Vec::with_capacity(self.labels.len());
        for (example, (claims, label)) in (0..).zip(self.claims.iter().zip(self.labels)) {
            let p = self.probabilities[example as usize * self.classes + class];
            let rival = claims.rival_of(own);
            tally.moved(*label, claims.0[0].class, rival.class);
            if p > 0.0 {
                cuts.push((p / (p + rival.multiple * others), example));
            }
        }
        cuts.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));

        // From a threshold that none reaches downwards: at each cut point its examples come to the class.
        let start = self.tally.rank();
        let mut best: Option<(i64, f64)> = None;
        let mut above = 1.0;
        let mut at = 0;
        loop {
            let below = cuts.get(at).map_or(0.0, |cut| cut.0);
            let between = 0.5 * (above + below);
            if below < between && between < above {
                let rank = tally.rank();
                let nearer = |threshold: f64| (between - now).abs() < (threshold - now).abs();
                if rank > start
                    && best.is_none_or(|(highest, threshold)| {
                        rank > highest || rank == highest && nearer(threshold)
                    })
                {
                    best = Some((rank, between));
                }
            }
            let Some(&(cut, _)) = cuts.get(at) else {
                break;
            };
            while let Some((_, example)) = cuts.get(at).filter(|next| next.0 == cut) {
                let example = *example as usize;
                let rival = self.claims[example].rival_of(own);
                tally.moved(self.labels[example], rival.class, own);
                at += 1;
            }
            above = cut;
        }
        let Some((_, threshold)) = best else {
            return false;
        };
        let threshold = threshold / (1.0 - threshold) * others;
        if !RANGE.contains(&threshold) {
            return false;
        }
        self.take(class, threshold);
        true
    }

    fn take(&mut self, class: usize, threshold: f64) {
        self.thresholds[class] = threshold;
        let rows = self.probabilities.chunks_exact(self.classes);
        for ((claims, row), label) in self.claims.iter_mut().zip(rows).zip(self.labels) {
            let was = claims.0[0].class;
            claims.changed(class as u32, row, &self.thresholds);
            self.tally.moved(*label, was, claims.0[0].class);
        }
    }

    fn normalised(&self) -> Vec<f64> {
        let all: f64 = self.thresholds.iter().sum();
        self.thresholds
            .iter()
            .map(|threshold| threshold / all)
            .collect()
    }
}

/// Thresholds beyond these would leave the doubles in the end.
const RANGE: std::ops::Range<f64> = 1e-60..1e60;

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that look random and are the same each time.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// The claims that follow changes are those of the thresholds that came of them.
    #[test]
    fn claims_follow_every_change() {
        for classes in 2..6 {
            let mut next = noise(classes as u64);
            let row: Vec<f64> = (0..classes).map(|_| (next() * 4.0).round() / 4.0).collect();
            let mut thresholds = vec![1.0; classes];
            let mut claims = Claims::of(&row, &thresholds);
            for _ in 0..300 {
                let class = (next() * classes as f64) as usize;
                thresholds[class] = (1.0 + (next() * 4.0).floor()) / 4.0;
                claims.changed(class as u32, &row, &thresholds);
                let anew = Claims::of(&row, &thresholds);
                let parts = |claims: Claims| claims.0.map(|claim| (claim.class, claim.multiple));
                assert_eq!(parts(claims), parts(anew), "{row:?} {thresholds:?}");
            }
        }
    }

    #[test]
    fn wrong_input_is_refused() {
        let metric = "accuracy".parse().unwrap();
        assert_eq!(
            tune(2, &[], &[], metric),
            Err(ClassificationError::NoExamples)
        );
        assert!(matches!(
            tune(2, &[0.5, 0.5, 1.0], &[0], metric),
            Err(ClassificationError::Length { .. })
        ));
        assert!(matches!(
            tune(2, &[0.5, 0.5], &[2], metric),
            Err(ClassificationError::Label { .. })
        ));
        assert!(matches!(
            tune(2, &[3.0, -2.0], &[0], metric),
            Err(ClassificationError::NotAProbability { .. })
        ));
        assert!(tune(0, &[], &[0], metric).is_err());
    }

    #[test]
    fn a_diverged_model_has_nothing_to_tune() {
        let tuned = tune(
            2,
            &[f64::NAN, 0.5, 0.1, 0.9],
            &[0, 1],
            "f1_macro".parse().unwrap(),
        );
        let tuned = tuned.unwrap();
        assert!(tuned.thresholds.are_alike() && tuned.before.is_nan() && tuned.after.is_nan());
    }

    #[test]
    fn one_class_is_always_right() {
        let tuned = tune(1, &[1.0, 1.0], &[0, 0], "f1_macro".parse().unwrap()).unwrap();
        assert_eq!((tuned.thresholds.values(), tuned.after), (&[1.0][..], 1.0));
    }

    /// Probabilities of 0 and 1, which have no ratio.
    #[test]
    fn certain_answers_are_no_trouble() {
        let rows = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
        for name in DecisionMetric::names() {
            let tuned = tune(3, &rows, &[0, 0, 1, 2], name.parse().unwrap()).unwrap();
            assert!(tuned.after >= tuned.before, "{name}: {tuned:?}");
        }
    }
}
