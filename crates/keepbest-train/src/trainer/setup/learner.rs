//! The network of a run, and what trains and scores it.

use keepbest_data::{Dataset as _, LoadError, Prepared, Subset};
use keepbest_model::{Costs, CriterionRecord, architecture, is_model_file};
use keepbest_nn::zoo::ZooOptions;
use keepbest_nn::{
    Averaging, Engine, EngineConfig, EngineError, LossConfig, ModelSpec, Precision, Scorer, Tuning,
    build_engine, collective,
};

use super::decided::Decided;
use crate::settings::Config;
use crate::settings::{ClassWeights, PrecisionKind};
use crate::trainer::carry::Carried;
use crate::trainer::error::TrainError;
use crate::trainer::goals::Goals;
use crate::trainer::heed::Heed;
use crate::trainer::parent::{better_network, start_from, told};

/// The network of a run, and what trains and scores it.
pub(super) struct Learner {
    pub spec: ModelSpec,
    pub config: EngineConfig,
    pub engine: Box<dyn Engine>,
    pub scorer: Box<dyn Scorer>,
    pub criterion: CriterionRecord,
    /// What was taken over from the model it starts from.
    pub carried: Option<Carried>,
}

impl Learner {
    /// Builds the network and its engine, with the weights that it starts from.
    pub(super) fn build(
        config: &Config,
        decided: &Decided,
        data: &Prepared,
        heed: &Heed<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, TrainError> {
        let input = data.preprocessing.input;
        let (channels, classes) = (input.channels, data.classes.len());
        let size = ZooOptions::new(channels, input.height, input.width, classes);
        let spec = architecture(&config.model, &size)?;
        // Before memory is taken for a batch of so many.
        if config.batch_size > data.train.len() {
            return Err(TrainError::Load(LoadError::BatchLargerThanData {
                batch_size: config.batch_size,
                images: data.train.len(),
            }));
        }
        heed.check()?;
        let class_weights = class_weights(&config.class_weights, &data.train);
        let engine_config = engine_config(config, class_weights.as_deref());
        let engine = build_engine(&config.device, &spec, engine_config.clone());
        let mut engine = engine.map_err(|error| match error {
            // The networks of the zoo are right but for the size; a model file may be wrong in itself.
            source @ (EngineError::Layer(_) | EngineError::Shape(_))
                if !is_model_file(&config.model) =>
            {
                TrainError::ImageSize {
                    height: input.height,
                    width: input.width,
                    given: decided.given.image_size.is_some(),
                    source,
                }
            }
            error => error.into(),
        })?;
        if let Some(asked) = config.threads.filter(|asked| *asked > engine.threads()) {
            notes.push(format!(
                "{asked} threads were asked for, {} compute: this machine has no use for more, or starts no more",
                engine.threads()
            ));
        }
        let mut carried = None;
        if let Some(parent) = &decided.parent {
            let taken = start_from(&mut *engine, parent, &data.classes)?;
            notes.extend(told(parent));
            notes.extend(better_network(engine.network(), parent, &taken, &size));
            carried = Some(taken);
        }
        Ok(Self {
            scorer: engine.scorer(config.batch_size.max(64))?,
            engine,
            spec,
            config: engine_config,
            criterion: CriterionRecord {
                label_smoothing: config.label_smoothing,
                class_weights,
            },
            carried,
        })
    }

    /// The costs that something goes by.
    pub(super) fn costs(&self, goals: &Goals, data: &Prepared) -> Result<Costs, TrainError> {
        let weights = self.engine.snapshot().weights();
        let network = self.engine.network();
        Ok(Costs::new(&goals.metric_names(), network, &weights, data)?)
    }

    /// Loads the weights as they are into the scorer.
    pub(super) fn load_scorer(&mut self) {
        self.scorer
            .load_snapshot(&self.engine.snapshot())
            .expect("a snapshot fits its own network");
    }
}

fn class_weights(how: &ClassWeights, train: &Subset) -> Option<Vec<f64>> {
    match how {
        ClassWeights::None => None,
        ClassWeights::List(weights) => Some(weights.clone()),
        ClassWeights::Balanced => {
            let mut counts = vec![0u64; train.classes().len()];
            for label in train.labels() {
                counts[label as usize] += 1;
            }
            let per_class = train.len() as f64 / counts.len() as f64;
            Some(
                counts
                    .iter()
                    .map(|count| {
                        if *count == 0 {
                            0.0
                        } else {
                            per_class / *count as f64
                        }
                    })
                    .collect(),
            )
        }
    }
}

fn engine_config(config: &Config, class_weights: Option<&[f64]>) -> EngineConfig {
    EngineConfig {
        batch_size: config.batch_size,
        threads: config.threads,
        precision: match config.precision {
            PrecisionKind::F32 => Precision::F32,
            PrecisionKind::Bf16 => Precision::Bf16,
            PrecisionKind::F16 => Precision::F16,
        },
        compile: config.compile.unwrap_or(false),
        deterministic: config.deterministic.unwrap_or(true),
        seed: config.seed,
        optimizer: config
            .optimizer
            .config(config.momentum.zip(config.nesterov), config.weight_decay),
        loss: LossConfig {
            label_smoothing: config.label_smoothing,
            class_weights: class_weights
                .map(|weights| weights.iter().map(|weight| *weight as f32).collect()),
        },
        clip_grad_norm: config.clip_grad_norm,
        averaging: match (config.ema, config.swa) {
            (Some(decay), _) => Some(Averaging::Ema(decay)),
            (None, Some(_)) => Some(Averaging::Swa),
            (None, None) => None,
        },
        tuning: Tuning {
            freeze: config.freeze.clone(),
            body_rate: config.body_rate,
            freeze_statistics: config.freeze_statistics,
        },
        collective: collective(),
        ..EngineConfig::default()
    }
}
