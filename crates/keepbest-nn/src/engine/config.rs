//! What an engine is told.

use super::collective::{Alone, Collective};
use super::error::EngineError;
use super::precision::Precision;
use super::tuning::Tuning;
use crate::network::Network;
use keepbest_formats::{OptimizerConfig, check_setting};
use keepbest_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an engine is to do.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Most images in a step; memory is planned for this many.
    pub batch_size: usize,
    /// Threads to compute with; the machine's processors when absent. Results do not depend on it.
    pub threads: Option<usize>,
    /// Instructions to compute with; the best this machine has, or what `KEEPBEST_ISA` says, when absent.
    /// Results do not depend on it.
    pub isa: Option<Isa>,
    /// What training steps multiply in; sums, weights and everything outside of steps are `f32`. Results depend on it.
    pub precision: Precision,
    /// Seed of the starting weights and of dropout.
    pub seed: u64,
    /// Optimizer and its settings.
    pub optimizer: OptimizerConfig,
    /// The training criterion.
    pub loss: LossConfig,
    /// Which parts learn, and how fast.
    pub tuning: Tuning,
    /// Gradients are scaled down to this 2-norm over all parameters, as `clip_grad_norm_`.
    pub clip_grad_norm: Option<f64>,
    /// An average of the weights, kept beside them; `None` keeps none.
    pub averaging: Option<Averaging>,
    /// Whether an engine that can compile a network's code does; where kernels are compiled already, nothing changes.
    pub compile: bool,
    /// Whether an engine keeps to algorithms that give the same bits each time, as far as its device has them.
    pub deterministic: bool,
    /// The ranks that train together, of which this engine is one.
    pub collective: Arc<dyn Collective>,
}

/// The averaging of the weights over the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Averaging {
    /// A moving average with this decay, in `[0, 1)`, updated after each step.
    Ema(f64),
    /// The mean of the weights of some steps, those at which
    /// [`average_weights`](crate::Engine::average_weights) is called: stochastic weight averaging (Izmailov et al.,
    /// arXiv 1803.05407).
    Swa,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            batch_size: 64,
            threads: None,
            isa: None,
            precision: Precision::F32,
            seed: 0,
            optimizer: OptimizerConfig::sgd(0.9, 0.0),
            loss: LossConfig::default(),
            tuning: Tuning::default(),
            clip_grad_norm: None,
            averaging: None,
            compile: false,
            deterministic: true,
            collective: Arc::new(Alone),
        }
    }
}

impl EngineConfig {
    /// Checks every setting against its range and the network; what only an engine's own device can say is left to it.
    ///
    /// # Errors
    /// [`EngineError`] naming the first that does not hold.
    pub fn validate(&self, network: &Network) -> Result<(), EngineError> {
        let batch = self.batch_size;
        check_setting("batch size", batch as f64, batch > 0, "at least 1")?;
        self.optimizer.validate()?;
        self.loss.validate(network.classes())?;
        if let Some(norm) = self.clip_grad_norm {
            check_setting(
                "clip-grad-norm",
                norm,
                norm > 0.0 && norm.is_finite(),
                "above 0",
            )?;
        }
        if batch == 1
            && let Some(layer) = network.needs_two_images()
        {
            return Err(EngineError::SingleValue {
                layer: layer.to_owned(),
            });
        }
        if let Some(Averaging::Ema(decay)) = self.averaging {
            check_setting(
                "ema",
                decay,
                (0.0..1.0).contains(&decay),
                "at least 0 and below 1",
            )?;
        }
        Ok(())
    }
}

/// Cross entropy, `torch.nn.CrossEntropyLoss(reduction="mean")`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Share of the target spread over all classes, in `[0, 1]`.
    #[serde(default)]
    pub label_smoothing: f64,
    /// A weight for each class; all 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f32>>,
}

impl LossConfig {
    fn validate(&self, classes: usize) -> Result<(), EngineError> {
        let smoothing = self.label_smoothing;
        check_setting(
            "label smoothing",
            smoothing,
            (0.0..=1.0).contains(&smoothing),
            "within 0 and 1",
        )?;
        if let Some(weights) = &self.class_weights {
            if weights.len() != classes {
                return Err(EngineError::ClassWeights {
                    found: weights.len(),
                    expected: classes,
                });
            }
            for weight in weights {
                let holds = *weight >= 0.0 && weight.is_finite();
                check_setting("class weight", f64::from(*weight), holds, "at least 0")?;
            }
        }
        Ok(())
    }
}
