//! What a model costs: metrics that say nothing of how good it is.

use std::time::{Duration, Instant};

use keepbest_core::Metrics;
use keepbest_data::{Loader, LoaderConfig, Prepared};
use keepbest_formats::StateDict;
use keepbest_nn::{Network, Scorer};

use crate::evaluate::EvaluateError;

/// Median time to predict one image, in milliseconds.
pub const LATENCY: &str = "latency_ms";
/// Bytes of the weights, as saved.
const MODEL_BYTES: &str = "model_bytes";
/// Parameters that are trained.
const PARAMETERS: &str = "parameters";

/// Predictions before those that count: memory is touched, clocks are up.
const WARM_UP: usize = 3;
/// Predictions that count, unless they take longer than [`ENOUGH`].
const TIMES: usize = 25;
/// Predictions that count in any case.
const LEAST_TIMES: usize = 5;
const ENOUGH: Duration = Duration::from_millis(500);

/// What is known of the costs without measuring: `model_bytes` and `parameters`.
#[must_use]
pub fn fixed_costs(network: &Network, weights: &StateDict) -> Metrics {
    Metrics::from_iter([
        (MODEL_BYTES, weights.total_bytes() as f64),
        (PARAMETERS, network.parameter_count() as f64),
    ])
}

/// Whether a metric is a time that was measured, or an average of such: another measurement gives another value.
/// The name says it: the monitored expression's average, too, is named so where a time is in it.
#[must_use]
pub fn is_timed(metric: &str) -> bool {
    metric.starts_with(LATENCY)
}

/// The costs that a run asks for; no others are recorded.
#[derive(Debug, Default)]
pub struct Costs {
    fixed: Metrics,
    /// What the latency is measured on, when it is.
    image: Option<Vec<f32>>,
}

impl Costs {
    /// Every name there is.
    pub const NAMES: [&str; 3] = [LATENCY, MODEL_BYTES, PARAMETERS];

    /// The costs that are among `named`. The latency is of the first val image.
    ///
    /// # Errors
    /// When that image cannot be read.
    pub fn new(
        named: &[String],
        network: &Network,
        weights: &StateDict,
        data: &Prepared,
    ) -> Result<Self, EvaluateError> {
        let asked = |name: &str| named.iter().any(|it| it == name);
        let fixed = fixed_costs(network, weights).into_iter();
        let mut image = None;
        if asked(LATENCY) {
            let one = LoaderConfig::evaluation(1);
            let loader = Loader::new(data.val.take(1), &data.preprocessing, one)?;
            image = loader.epoch(0, 0).next().transpose()?;
        }
        Ok(Self {
            fixed: fixed.filter(|(name, _)| asked(name)).collect(),
            image: image.map(|batch| batch.images.to_vec()),
        })
    }

    /// Adds them, of the weights in `scorer`.
    ///
    /// # Errors
    /// When the network cannot predict.
    pub fn add(&self, metrics: &mut Metrics, scorer: &mut dyn Scorer) -> Result<(), EvaluateError> {
        metrics.extend(self.fixed.iter());
        if let Some(image) = &self.image {
            let latency = latency(scorer, image)?;
            metrics.insert(LATENCY, latency.as_secs_f64() * 1000.0);
        }
        Ok(())
    }
}

/// The median time of a prediction of one image that is in memory, normalised: that of a program which has just predicted others.
fn latency(scorer: &mut dyn Scorer, image: &[f32]) -> Result<Duration, EvaluateError> {
    let mut logits = Vec::new();
    for _ in 0..WARM_UP {
        scorer.logits(image, &mut logits)?;
    }
    let mut times = Vec::with_capacity(TIMES);
    let begun = Instant::now();
    while times.len() < TIMES && (times.len() < LEAST_TIMES || begun.elapsed() < ENOUGH) {
        let from = Instant::now();
        scorer.logits(image, &mut logits)?;
        times.push(from.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
