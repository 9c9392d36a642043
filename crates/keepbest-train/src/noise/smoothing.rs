//! A monitored value smoothed over the evaluations.

use keepbest_core::{Expression, History, Metrics};

use keepbest_model::{LATENCY, SMOOTHED_SUFFIX, is_timed};

/// The exponential moving average of what is monitored: `s = factor * s_before + (1 - factor) * value`, from the first finite
/// value on. A value that is not finite is left out of it, and its own evaluation is never best.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Smoothing {
    raw: Expression,
    factor: f64,
    name: String,
}

impl Smoothing {
    pub(crate) fn new(raw: Expression, factor: f64) -> Self {
        // An expression has no name that could end so.
        let name = match raw.as_metric() {
            Some(metric) => format!("{metric}{SMOOTHED_SUFFIX}"),
            // An average of a time is one, and tells it by its name.
            None if raw.metric_names().into_iter().any(is_timed) => {
                format!("{LATENCY}_monitor{SMOOTHED_SUFFIX}")
            }
            None => format!("monitor{SMOOTHED_SUFFIX}"),
        };
        Self { raw, factor, name }
    }

    /// The smoothed metric's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The metrics that it is an average of.
    pub(crate) fn metric_names(&self) -> Vec<&str> {
        self.raw.metric_names()
    }

    /// Adds the smoothed value to an evaluation, after those of `history`.
    pub(crate) fn add(
        &self,
        metrics: &mut Metrics,
        history: &History,
    ) -> Result<(), keepbest_core::expression::MissingMetric> {
        let value = self.raw.evaluate(metrics)?;
        let before = history
            .series(&self.name)
            .map(|(_, _, smoothed)| smoothed)
            .filter(|smoothed| smoothed.is_finite())
            .last();
        let smoothed = match before {
            Some(before) if value.is_finite() => self.factor * before + (1.0 - self.factor) * value,
            _ => value,
        };
        metrics.insert(self.name.clone(), smoothed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keepbest_core::{EvaluationRecord, Verdict};

    use super::*;

    #[test]
    fn what_is_smoothed_from_a_time_is_one() {
        for (raw, name, timed) in [
            ("val/loss", "val/loss_ema", false),
            ("latency_ms", "latency_ms_ema", true),
            ("val/loss + val/ece", "monitor_ema", false),
            (
                "val/loss + 0.001 * latency_ms",
                "latency_ms_monitor_ema",
                true,
            ),
        ] {
            let smoothing = Smoothing::new(raw.parse().unwrap(), 0.5);
            assert_eq!(
                (smoothing.name(), is_timed(smoothing.name())),
                (name, timed)
            );
        }
    }

    #[test]
    fn values_are_averaged_and_what_is_not_finite_is_passed_over() {
        let smoothing = Smoothing::new("val/accuracy".parse().unwrap(), 0.5);
        let mut history = History::new();
        let mut smoothed = Vec::new();
        for value in [f64::NAN, 0.8, 0.4, f64::INFINITY, 0.6] {
            let mut metrics = Metrics::from_iter([("val/accuracy", value)]);
            smoothing.add(&mut metrics, &history).unwrap();
            smoothed.push(metrics.get("val/accuracy_ema").unwrap());
            history.push(EvaluationRecord {
                step: 0,
                epoch: 0,
                metrics,
                verdict: Verdict::Rejected {
                    reason: String::new(),
                },
                score: None,
                value: 0.0,
                digest: None,
                others: Vec::new(),
                weights: None,
                unscheduled: false,
            });
        }
        assert!(smoothed[0].is_nan() && smoothed[3].is_infinite());
        assert_eq!((smoothed[1], smoothed[2]), (0.8, 0.5 * 0.8 + 0.5 * 0.4));
        assert_eq!(smoothed[4], 0.5 * smoothed[2] + 0.5 * 0.6);
    }
}
