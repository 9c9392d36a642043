//! The test that tells two evaluations of a run apart, image by image.

use std::fmt;

use keepbest_core::classification::DecisionMetric;
use keepbest_core::statistics::{Bootstrap, Replicates, StatisticsError, mcnemar_exact};
use keepbest_core::{Direction, Expression, Metrics, Objective};

use keepbest_model::SMOOTHED_SUFFIX;

use super::{REPLICATES, Trace};

/// A paired test of what is monitored: McNemar's exact test of the accuracy, or the paired bootstrap of a metric of decisions
/// (F1, recall, Matthews, ...), of the mean log loss, or of an expression over these.
///
/// A [`Trace`] does not know enough of all else (rankings, calibration, costs): then the test is that of the accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedTest {
    scored: Scored,
    direction: Direction,
}

#[derive(Debug, Clone, PartialEq)]
enum Scored {
    Accuracy,
    Metric(Term),
    Expression(Expression, Vec<(String, Term)>),
}

/// A metric that follows from traces.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Term {
    /// The mean log loss, which also stands for the criterion.
    LogLoss,
    Decisions(DecisionMetric),
}

impl Term {
    fn of(metric: &str) -> Option<Self> {
        match metric.strip_prefix("val/")? {
            "loss" | "log_loss" => Some(Self::LogLoss),
            metric => metric.parse().ok().map(Self::Decisions),
        }
    }

    /// The value on some of the images; NaN when it cannot be had.
    fn measure(self, trace: &Trace, images: &[u32]) -> f64 {
        match self {
            Self::LogLoss => trace.mean_loss(images),
            Self::Decisions(metric) => metric.measure(trace.classes(), trace.decisions(images)),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogLoss => f.write_str("log_loss"),
            Self::Decisions(metric) => metric.fmt(f),
        }
    }
}

impl fmt::Display for PairedTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scored {
            Scored::Accuracy => f.write_str("McNemar exact"),
            _ => write!(f, "paired bootstrap of {}", self.scored()),
        }
    }
}

impl PairedTest {
    /// The test for an objective. A smoothed value is tested as it was measured.
    #[must_use]
    pub fn of(objective: &Objective) -> Self {
        let monitor = objective.monitor();
        let scored = match monitor.as_metric() {
            Some(name) => match name.strip_suffix(SMOOTHED_SUFFIX).unwrap_or(name) {
                "val/accuracy" => None,
                raw => Term::of(raw).map(Scored::Metric),
            },
            None => {
                let names = monitor.metric_names().into_iter();
                let terms: Option<Vec<_>> = names
                    .map(|name| Some((name.to_owned(), Term::of(name)?)))
                    .collect();
                terms.map(|terms| Scored::Expression(monitor.clone(), terms))
            }
        };
        match scored {
            Some(scored) => Self {
                scored,
                direction: objective.direction(),
            },
            None => Self {
                scored: Scored::Accuracy,
                direction: Direction::Maximise,
            },
        }
    }

    /// The compared score: a metric without its split, such as `accuracy` and `f1_macro`, or an expression.
    #[must_use]
    pub fn scored(&self) -> String {
        match &self.scored {
            Scored::Accuracy => "accuracy".into(),
            Scored::Metric(term) => term.to_string(),
            Scored::Expression(expression, _) => expression.to_string(),
        }
    }

    /// 1 when more of it is better, -1 when less is.
    pub(super) fn sign(&self) -> f64 {
        match self.direction {
            Direction::Maximise => 1.0,
            Direction::Minimise => -1.0,
        }
    }

    /// The scores of evaluations on all images, and on draws of them; higher is better.
    pub(super) fn replicate(
        &self,
        traces: &[&Trace],
        replicates: u32,
    ) -> Result<Vec<Replicates>, StatisticsError> {
        let bootstrap = Bootstrap {
            replicates,
            ..Bootstrap::default()
        };
        let images = traces.first().map_or(0, |trace| trace.len());
        bootstrap.replicate(images, traces.len(), |draw, scores| {
            for (score, trace) in scores.iter_mut().zip(traces) {
                *score = self.sign() * self.score(trace, draw);
            }
            Ok(())
        })
    }

    fn score(&self, trace: &Trace, images: &[u32]) -> f64 {
        match &self.scored {
            Scored::Accuracy => trace.accuracy(images),
            Scored::Metric(term) => term.measure(trace, images),
            Scored::Expression(expression, terms) => {
                let metrics: Metrics = terms
                    .iter()
                    .map(|(name, term)| (name.clone(), term.measure(trace, images)))
                    .collect();
                // Every metric in it is a term.
                expression.evaluate(&metrics).unwrap_or(f64::NAN)
            }
        }
    }

    /// The two-sided p-value that two evaluations are equally good, to be compared with `limit`, and whether the first came out
    /// better.
    ///
    /// # Errors
    /// [`StatisticsError`] when they are not of the same images, or have no value.
    pub fn compare(
        &self,
        first: &Trace,
        second: &Trace,
        limit: f64,
    ) -> Result<(f64, bool), StatisticsError> {
        if first.len() != second.len() {
            return Err(StatisticsError::NotPaired {
                first: first.len(),
                second: second.len(),
            });
        }
        if self.scored == Scored::Accuracy {
            return Ok(mcnemar(first, second));
        }
        // Of fewer no p-value could be well below the limit.
        let needed = (20.0 / limit).clamp(f64::from(REPLICATES), 200_000.0);
        let scores = self.replicate(&[first, second], needed as u32)?;
        self.tell_apart((first, &scores[0]), (second, &scores[1]))
    }

    /// The same from scores that there are already.
    pub(super) fn tell_apart(
        &self,
        (first, of_first): (&Trace, &Replicates),
        (second, of_second): (&Trace, &Replicates),
    ) -> Result<(f64, bool), StatisticsError> {
        if self.scored == Scored::Accuracy {
            return Ok(mcnemar(first, second));
        }
        let found = of_first.minus(of_second)?;
        let found = found.ok_or_else(|| StatisticsError::NotFinite {
            example: first.undecided().or(second.undecided()).unwrap_or(0),
            value: f64::NAN,
        })?;
        Ok((found.p_value, found.difference > 0.0))
    }
}

/// The p-value, and whether the first alone is right more often.
fn mcnemar(first: &Trace, second: &Trace) -> (f64, bool) {
    let pairs = || first.right().zip(second.right());
    let only_first = pairs().filter(|(a, b)| *a && !*b).count() as u64;
    let only_second = pairs().filter(|(a, b)| !*a && *b).count() as u64;
    let p_value = mcnemar_exact(only_first, only_second);
    (p_value, only_first > only_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten images a class; `wrong` of each class are taken for the next.
    fn trace(wrong: [usize; 3]) -> Trace {
        let labels: Vec<u32> = (0..30).map(|image| image / 10).collect();
        let decided = labels
            .iter()
            .enumerate()
            .map(|(image, label)| {
                let is_wrong = image % 10 < wrong[*label as usize];
                (label + u32::from(is_wrong)) % 3
            })
            .collect();
        let losses = labels
            .iter()
            .map(|label| 0.1 * (*label as f32 + 1.0))
            .collect();
        Trace::from_parts(3, labels, decided, losses)
    }

    fn test_of(monitor: &str) -> PairedTest {
        PairedTest::of(&Objective::new(monitor).unwrap())
    }

    #[test]
    fn each_monitor_has_its_test() {
        for (monitor, test, scored) in [
            ("val/accuracy", "McNemar exact", "accuracy"),
            ("max:val/accuracy_ema", "McNemar exact", "accuracy"),
            ("val/loss", "paired bootstrap of log_loss", "log_loss"),
            ("val/f1_macro", "paired bootstrap of f1_macro", "f1_macro"),
            (
                "max:val/f1_macro_ema",
                "paired bootstrap of f1_macro",
                "f1_macro",
            ),
            // The images alone do not give these.
            ("max:val/ece", "McNemar exact", "accuracy"),
            ("max:val/f1_macro - val/ece", "McNemar exact", "accuracy"),
            ("max:latency_ms", "McNemar exact", "accuracy"),
        ] {
            let found = test_of(monitor);
            assert_eq!(
                (&*found.to_string(), &*found.scored()),
                (test, scored),
                "{monitor}"
            );
        }
        let both = test_of("max:val/recall_macro - 0.5 * val/loss");
        assert_eq!(
            both.to_string(),
            format!("paired bootstrap of {}", both.scored())
        );
        assert!(
            both.scored().contains("val/recall_macro"),
            "{}",
            both.scored()
        );
    }

    #[test]
    fn the_value_is_that_of_the_metric() {
        let all: Vec<u32> = (0..30).collect();
        let some = trace([1, 2, 3]);
        let score = |monitor: &str| test_of(monitor).score(&some, &all);
        assert!((score("val/recall_macro") - 0.8).abs() < 1e-12);
        assert!((score("val/loss") - 0.2).abs() < 1e-6);
        assert!((score("max:val/recall_macro - 0.5 * val/loss") - 0.7).abs() < 1e-6);
        // Twice the first image, which is wrong, and one that is right.
        assert!((test_of("val/accuracy").score(&some, &[0, 0, 9]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn better_is_better_by_what_is_monitored() {
        let (good, bad) = (trace([1, 1, 1]), trace([6, 5, 4]));
        for monitor in ["val/accuracy", "val/f1_macro", "min:1 - val/matthews"] {
            let test = test_of(monitor);
            let (p, better) = test.compare(&good, &bad, 0.05).unwrap();
            assert!(better && p < 0.01, "{monitor}: {p}");
            let (p, better) = test.compare(&bad, &good, 0.05).unwrap();
            assert!(!better && p < 0.01, "{monitor}: {p}");
            assert_eq!(test.compare(&good, &good, 0.05).unwrap(), (1.0, false));
        }
        // However strict the rule is, it can be met.
        let (p, better) = test_of("val/f1_macro")
            .compare(&trace([0, 0, 0]), &trace([9, 9, 9]), 0.0001)
            .unwrap();
        assert!(better && p < 0.0001, "{p}");
        // The losses are the same.
        let (p, better) = test_of("val/loss").compare(&good, &bad, 0.05).unwrap();
        assert_eq!((p, better), (1.0, false));
    }

    #[test]
    fn no_decision_is_no_value() {
        let (mut none, some) = (trace([0, 0, 0]), trace([1, 0, 0]));
        none.undecide(7);
        let error = test_of("val/f1_macro")
            .compare(&some, &none, 0.05)
            .unwrap_err();
        assert!(
            matches!(error, StatisticsError::NotFinite { example: 7, .. }),
            "{error}"
        );
    }
}
