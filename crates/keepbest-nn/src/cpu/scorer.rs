//! Inference on the CPU.

use super::context::{arena, context};
use crate::engine::{EngineError, ScoreError, Scorer};
use crate::memory;
use crate::network::Network;
use crate::ops::operation::{Predict, Prepared, Preparing, Weights};
use crate::params::{CpuSnapshot, WeightsError, copy_weights};
use crate::plan::{Plan, Purpose, Step};
use crate::spec::ModelSpec;
use keepbest_formats::check_setting;
use keepbest_formats::{SnapshotHandle, StateDict};
#[cfg(test)]
use keepbest_kernels::ActShape;
use keepbest_kernels::{Buffer, Context, Precision, activation};
use std::sync::Arc;

/// A network ready to score images.
///
/// ```
/// use keepbest_nn::{EngineConfig, build_engine, zoo};
/// let spec = zoo::spec("simple-cnn", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let engine = build_engine("cpu", &spec, EngineConfig { batch_size: 2, ..Default::default() })?;
/// let mut scorer = engine.scorer(2)?;
/// scorer.load_snapshot(&engine.snapshot())?;
/// let mut logits = Vec::new();
/// scorer.logits(&vec![0.0; 3 * 28 * 28], &mut logits)?;
/// assert_eq!(logits.len(), 3 * 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CpuScorer {
    network: Arc<Network>,
    ctx: Arc<Context>,
    plan: Plan,
    prepared: Vec<Prepared>,
    arena: Buffer,
    loaded: bool,
}

impl CpuScorer {
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
        Ok(CpuScorer {
            network,
            ctx,
            plan,
            prepared,
            arena,
            loaded: false,
        })
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

impl Scorer for CpuScorer {
    fn network(&self) -> &Network {
        &self.network
    }

    fn threads(&self) -> usize {
        self.ctx.pool().threads()
    }

    fn bytes(&self) -> u64 {
        // The weights are there once, packed as the kernels read them.
        let weights = self.network.layout().weights_len();
        4 * (self.plan.arena_len as u64 + weights as u64)
    }

    fn load(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        let layout = self.network.layout();
        layout.check(weights)?;
        let mut arena = Buffer::zeroed(layout.weights_len());
        copy_weights(layout, weights, &mut arena, &mut vec![0; layout.counters()]);
        self.take(&arena);
        Ok(())
    }

    fn load_snapshot(&mut self, snapshot: &SnapshotHandle) -> Result<(), WeightsError> {
        let Some(own) = snapshot.downcast_ref::<CpuSnapshot>() else {
            return self.load(&snapshot.weights());
        };
        self.network.layout().same(own.layout())?;
        self.take(own.floats());
        Ok(())
    }

    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) -> Result<(), ScoreError> {
        if !self.loaded {
            return Err(ScoreError::NoWeights);
        }
        let image_len = self.network.image_len();
        if !images.len().is_multiple_of(image_len) {
            return Err(ScoreError::ImagesLength {
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
