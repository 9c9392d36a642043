//! Inference: running statistics, no dropout, so an image's scores do not depend on its batch.

use crate::engine::{EngineError, arena, context, copy_weights};
use crate::memory;
use crate::network::Network;
use crate::ops::operation::{Predict, Prepared, Preparing, Weights};
use crate::params::{Snapshot, WeightsError};
use crate::plan::{Plan, Purpose, Step};
use crate::spec::ModelSpec;
use keepbest_formats::StateDict;
use keepbest_formats::check_setting;
#[cfg(test)]
use keepbest_kernels::ActShape;
use keepbest_kernels::{Buffer, Context, Precision, activation};
use std::sync::Arc;

/// A network ready to score images.
///
/// ```
/// use keepbest_nn::{CpuEngine, Engine, EngineConfig, zoo};
/// let spec = zoo::spec("simple-cnn", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let engine = CpuEngine::new(&spec, EngineConfig { batch_size: 2, ..Default::default() })?;
/// let mut predictor = engine.predictor(2)?;
/// predictor.load_snapshot(&engine.snapshot())?;
/// let mut logits = Vec::new();
/// predictor.logits(&vec![0.0; 3 * 28 * 28], &mut logits)?;
/// assert_eq!(logits.len(), 3 * 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Predictor {
    network: Arc<Network>,
    ctx: Arc<Context>,
    plan: Plan,
    prepared: Vec<Prepared>,
    arena: Buffer,
    loaded: bool,
}

/// Why images could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// No weights have been loaded.
    #[error("the predictor has no weights yet")]
    NoWeights,
    /// The floats are no whole number of images.
    #[error("{found} floats are no whole number of images of {image_len} floats")]
    ImagesLength {
        /// Floats given.
        found: usize,
        /// Floats of one image.
        image_len: usize,
    },
}

impl Predictor {
    /// Plans memory and kernels for batches of up to `batch_size` images on `threads` threads (the machine's
    /// processors when absent).
    ///
    /// # Errors
    /// [`EngineError`] for layers that do not fit, a batch size of 0, or an instruction set the machine lacks.
    pub fn new(
        spec: &ModelSpec,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Self, EngineError> {
        Self::with_context(
            Arc::new(Network::new(spec)?),
            batch_size,
            context(threads, None, Precision::F32)?,
        )
    }

    pub(crate) fn with_context(
        network: Arc<Network>,
        batch_size: usize,
        ctx: Arc<Context>,
    ) -> Result<Self, EngineError> {
        check_setting(
            "batch size",
            batch_size as f64,
            batch_size > 0,
            "at least 1",
        )?;
        memory::check_batch(&network, batch_size)?;
        let plan = Plan::new(&network, batch_size, Purpose::Inference, &ctx)?;
        memory::check_floats([plan.arena_len, network.layout().weights_len()], batch_size)?;
        let prepared = plan.steps.iter().map(|_| Prepared::default()).collect();
        let arena = arena(&plan, batch_size)?;
        Ok(Predictor {
            network,
            ctx,
            plan,
            prepared,
            arena,
            loaded: false,
        })
    }

    /// The threads it computes on.
    pub fn threads(&self) -> usize {
        self.ctx.pool().threads()
    }

    /// The network this predicts with.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Takes the weights of a state dict.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors; the weights before stay.
    pub fn load(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        let layout = self.network.layout();
        layout.check(weights)?;
        let mut arena = Buffer::zeroed(layout.weights_len());
        copy_weights(layout, weights, &mut arena, &mut vec![0; layout.counters()]);
        self.take(&arena);
        Ok(())
    }

    /// Takes the weights of a snapshot, without a copy of the whole.
    ///
    /// # Errors
    /// [`WeightsError`] when the snapshot is of another network.
    pub fn load_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WeightsError> {
        self.network.layout().same(snapshot.layout())?;
        self.take(snapshot.weights());
        Ok(())
    }

    fn take(&mut self, weights: &[f32]) {
        let weights = Weights {
            layout: self.network.layout(),
            values: weights,
        };
        for (step, prepared) in self.plan.steps.iter().zip(&mut self.prepared) {
            let from = Preparing {
                ctx: &self.ctx,
                conv: step.conv.as_ref(),
                weights,
            };
            step.node.op.prepare(&from, prepared);
        }
        self.loaded = true;
    }

    /// Scores any number of images: `images` is `[n, height, width, channels]`, dense and normalised;
    /// `logits` becomes `[n, classes]`.
    ///
    /// # Errors
    /// [`PredictError`] when no weights are loaded or `images` is no whole number of images.
    pub fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) -> Result<(), PredictError> {
        if !self.loaded {
            return Err(PredictError::NoWeights);
        }
        let image_len = self.network.image_len();
        if !images.len().is_multiple_of(image_len) {
            return Err(PredictError::ImagesLength {
                found: images.len(),
                image_len,
            });
        }
        let classes = self.network.classes();
        logits.clear();
        for chunk in images.chunks(self.plan.batch * image_len) {
            let n = chunk.len() / image_len;
            self.forward(n, chunk);
            let stride = self.plan.output_shape.image_stride();
            for scores in self.arena[self.plan.output.clone()].chunks(stride).take(n) {
                logits.extend_from_slice(&scores[..classes]);
            }
        }
        Ok(())
    }

    /// The output of a part of a network, for tests.
    #[cfg(test)]
    pub(crate) fn output_of(&mut self, n: usize, images: &[f32]) -> (ActShape, &[f32]) {
        self.forward(n, images);
        (
            self.plan.output_shape,
            &self.arena[self.plan.output.clone()],
        )
    }

    fn forward(&mut self, n: usize, images: &[f32]) {
        let plan = &self.plan;
        activation::pack_images(
            &self.ctx,
            n,
            plan.input_shape,
            images,
            &mut self.arena[plan.input.clone()],
        );
        for (step, prepared) in plan.steps.iter().zip(&self.prepared) {
            run(&self.ctx, n, step, prepared, &mut self.arena);
        }
    }
}

fn run(ctx: &Context, n: usize, step: &Step, prepared: &Prepared, arena: &mut Buffer) {
    let other = step.other.clone().unwrap_or(0..0);
    let [x, y, other] = arena
        .get_disjoint_mut([step.input.clone(), step.output.clone(), other])
        .expect("the plan keeps the places of one operation apart");
    let shapes = step.shapes;
    step.node.op.predict(Predict {
        ctx,
        n,
        shapes,
        conv: step.conv.as_ref(),
        prepared,
        x: &x[..shapes.input.len(n)],
        other,
        y: &mut y[..shapes.output.len(n)],
    });
}
