//! Averaging weights: the mean of several models, and the greedy soup (Wortsman et al., "Model soups", arXiv 2203.05482).

use keepbest_core::{Metrics, Objective, ObjectiveError};
use keepbest_data::{Epoch, LoadError, Loader, LoaderConfig, Prepared};
use keepbest_formats::{Dtype, StateDict, Tensor, TensorError};
use keepbest_nn::{CPU, Engine, EngineConfig, ModelSpec, Scorer, WhichWeights, build_engine};

use crate::criterion::Criterion;
use crate::evaluate::{EvaluateError, Evaluator};
use crate::watch::{Event, Watch};

/// Why models could not be averaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AverageError {
    /// The network cannot be made.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
    /// The weights are another network's.
    #[error(transparent)]
    Weights(#[from] keepbest_nn::WeightsError),
    /// The training images cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Batch norm cannot measure them.
    #[error(transparent)]
    Statistics(keepbest_nn::StepError),
    /// The val images cannot be measured on.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Whoever watched said to stop.
    #[error("interrupted before all was averaged")]
    Interrupted,
    /// What best means cannot be decided by what is measured.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
}

/// Weights, and what they are worth on val.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Measurement {
    /// The weights, batch norm's statistics with them.
    pub weights: StateDict,
    /// The metrics of val.
    pub metrics: Metrics,
}

/// Averages models of one network, and measures them.
pub struct Averager<'a> {
    data: &'a Prepared,
    criterion: Criterion,
    engine: Box<dyn Engine>,
    scorer: Box<dyn Scorer>,
    watch: Watch<'a>,
}

/// Images at a time, when batch norm's statistics are measured.
const BATCH: usize = 64;

impl<'a> Averager<'a> {
    /// For models of `spec` on these images.
    ///
    /// # Errors
    /// [`AverageError::Engine`].
    pub fn new(
        spec: &ModelSpec,
        data: &'a Prepared,
        criterion: Criterion,
        threads: Option<usize>,
    ) -> Result<Self, AverageError> {
        let config = EngineConfig {
            batch_size: BATCH.min(data.train.len()),
            threads,
            ..EngineConfig::default()
        };
        let engine = build_engine(CPU, spec, config)?;
        let scorer = engine.scorer(BATCH)?;
        Ok(Self {
            data,
            criterion,
            engine,
            scorer,
            watch: Watch::none(),
        })
    }

    /// Watched, and stopped, by this.
    #[must_use]
    pub fn watched(self, watch: Watch<'a>) -> Self {
        Self { watch, ..self }
    }

    /// Measures weights on val.
    ///
    /// # Errors
    /// [`AverageError`].
    pub fn measure(&mut self, weights: &StateDict) -> Result<Metrics, AverageError> {
        self.scorer.load(weights)?;
        let evaluator = Evaluator::new(&self.criterion, &self.data.preprocessing);
        let (watch, val) = (self.watch, &self.data.val);
        let go_on = |done| watch.measured(done, val.len());
        let measured = evaluator.measure(&mut *self.scorer, val, go_on)?;
        let measured = measured.ok_or(AverageError::Interrupted)?;
        Ok(measured.metrics("val"))
    }

    /// The mean of several models' weights, with batch norm's statistics measured anew on the training images; measured on
    /// val. One model is left as it is.
    ///
    /// # Errors
    /// [`AverageError`]; when models are not of the same network, too.
    pub fn average(&mut self, models: &[&StateDict]) -> Result<Measurement, AverageError> {
        let weights = match models {
            [one] => (*one).clone(),
            _ => {
                for model in models {
                    // Whatever does not belong to the network is named.
                    self.engine.load_weights(model)?;
                }
                self.engine.load_weights(&mean(models))?;
                let batches = statistics_batches(self.data, BATCH, self.engine.threads())?;
                for (seen, batch) in batches.enumerate() {
                    if !self.watch.tell(Event::Working) {
                        return Err(AverageError::Interrupted);
                    }
                    self.engine
                        .measure_statistics(WhichWeights::Trained, &batch?.images, seen as u64)
                        .map_err(AverageError::Statistics)?;
                }
                self.engine.snapshot().weights()
            }
        };
        let metrics = self.measure(&weights)?;
        Ok(Measurement { weights, metrics })
    }

    /// The greedy soup: beginning with the first, each model is added in turn and stays when the average is better on val by
    /// the objective. Gives the soup and which models are in it. `models` come best first.
    ///
    /// # Errors
    /// As [`average`](Self::average).
    pub fn soup(
        &mut self,
        models: &[&StateDict],
        objective: &Objective,
    ) -> Result<(Measurement, Vec<usize>), AverageError> {
        let mut members = vec![0];
        let mut soup = self.average(&models[..1])?;
        for candidate in 1..models.len() {
            let tried: Vec<&StateDict> = members
                .iter()
                .chain([&candidate])
                .map(|&i| models[i])
                .collect();
            let next = self.average(&tried)?;
            if better(objective, &next.metrics, &soup.metrics)? {
                members.push(candidate);
                soup = next;
            }
        }
        Ok((soup, members))
    }
}

/// The training images as they are, for the statistics of batch norm: `batch` at a time, where there are as many.
///
/// # Errors
/// When the images cannot be loaded.
pub fn statistics_batches(
    data: &Prepared,
    batch: usize,
    threads: usize,
) -> Result<Epoch, LoadError> {
    let config = LoaderConfig::training(batch.min(data.train.len()), 0).with_threads(threads);
    Ok(Loader::new(data.train.clone(), &data.preprocessing, config)?.epoch(0, 0))
}

/// Whether the first are better than the second.
///
/// # Errors
/// When a metric that the objective needs is missing.
pub fn better(objective: &Objective, a: &Metrics, b: &Metrics) -> Result<bool, ObjectiveError> {
    let (a, b) = (
        objective.judge(None, a)?.score,
        objective.judge(None, b)?.score,
    );
    Ok(match (a, b) {
        (Some(a), Some(b)) => objective.compare_total(&a, &b).is_gt(),
        (a, b) => a.is_some() && b.is_none(),
    })
}

/// The mean of every float tensor, in `f64`; others as the first model has them.
fn mean(models: &[&StateDict]) -> StateDict {
    let mut weights = StateDict::new();
    for (name, tensor) in models[0].iter() {
        let averaged = (tensor.dtype() == Dtype::F32)
            .then(|| mean_of(name, tensor, models).ok())
            .flatten();
        weights
            .insert(name, averaged.unwrap_or_else(|| tensor.clone()))
            .expect("names of a state dict are unique");
    }
    weights
}

fn mean_of(name: &str, first: &Tensor, models: &[&StateDict]) -> Result<Tensor, TensorError> {
    let mut sums = vec![0.0f64; first.shape().iter().product()];
    for model in models {
        let tensor = model.get(name).unwrap_or(first);
        for (sum, value) in sums.iter_mut().zip(tensor.as_f32()?.iter()) {
            *sum += f64::from(*value);
        }
    }
    let count = models.len() as f64;
    let values: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    Tensor::from_f32(first.shape(), &values)
}
