//! Inference: running statistics, no dropout, so an image's scores do not depend on its batch.

use crate::affine::{affine, inverse_deviation};
use crate::engine::{EngineError, arena, context, copy_weights};
use crate::memory;
use crate::network::{BatchNorm, Network, Op, Then};
use crate::optimizer::check;
use crate::params::{Snapshot, WeightsError};
use crate::plan::{Plan, Purpose, Step};
use crate::spec::ModelSpec;
use keepbest_formats::StateDict;
#[cfg(test)]
use keepbest_kernels::ActShape;
use keepbest_kernels::{
    Buffer, Context, Epilogue, Precision, activation, adaptive_avg_pool, add, avg_pool, batch_norm,
    concat, gate, global_avg_pool, group_norm, layer_norm, max_pool, pointwise, relu,
};
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
    layers: Vec<LayerWeights>,
    arena: Buffer,
    loaded: bool,
}

/// What one operation needs of the weights, in the form its kernel reads.
enum LayerWeights {
    None,
    Conv {
        packed: Buffer,
        bias: Option<Vec<f32>>,
        relu: bool,
    },
    /// `x * scale + shift` of each channel, after the norm where the operation is one; batch norm with its fixed
    /// statistics is this alone.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
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
        check(
            "batch size",
            batch_size as f64,
            batch_size > 0,
            "at least 1",
        )?;
        memory::check_batch(&network, batch_size)?;
        let plan = Plan::new(&network, batch_size, Purpose::Inference, &ctx)?;
        memory::check_floats([plan.arena_len, network.layout().weights_len()], batch_size)?;
        let layers = plan.steps.iter().map(LayerWeights::new).collect();
        let arena = arena(&plan, batch_size)?;
        Ok(Predictor {
            network,
            ctx,
            plan,
            layers,
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
        let layout = self.network.layout();
        let param = |id: usize| &weights[layout.tensors()[id].range()];
        for (step, layer) in self.plan.steps.iter().zip(&mut self.layers) {
            match (&step.node.op, layer) {
                (
                    Op::Conv {
                        weight, bias, then, ..
                    },
                    LayerWeights::Conv {
                        packed, bias: own, ..
                    },
                ) => {
                    let conv = step.conv.as_ref().expect("a convolution has its plan");
                    let bias = bias.map(param);
                    if let Some(Then::BatchNorm(bn)) = then {
                        let (scale, mut shift) = map_of(bn, param);
                        let weights = scaled(param(*weight), &scale);
                        conv.pack_forward(&self.ctx, &weights, packed);
                        for ((shift, scale), bias) in
                            shift.iter_mut().zip(&scale).zip(bias.into_iter().flatten())
                        {
                            *shift = bias.mul_add(*scale, *shift);
                        }
                        *own = Some(shift);
                    } else {
                        conv.pack_forward(&self.ctx, param(*weight), packed);
                        *own = bias.map(<[f32]>::to_vec);
                    }
                }
                (Op::BatchNorm(bn), LayerWeights::Affine { scale, shift }) => {
                    (*scale, *shift) = map_of(bn, param);
                }
                (
                    Op::LayerNorm(norm) | Op::GroupNorm { norm, .. },
                    LayerWeights::Affine { scale, shift },
                ) => {
                    scale.copy_from_slice(param(norm.weight));
                    shift.copy_from_slice(param(norm.bias));
                }
                (Op::LayerScale { weight }, LayerWeights::Affine { scale, .. }) => {
                    scale.copy_from_slice(param(*weight));
                }
                _ => {}
            }
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
        for (step, layer) in plan.steps.iter().zip(&self.layers) {
            run(&self.ctx, n, step, layer, &mut self.arena);
        }
    }
}

/// The affine map of a batch norm with its fixed statistics: scale and shift of each channel.
fn map_of<'a>(bn: &BatchNorm, param: impl Fn(usize) -> &'a [f32]) -> (Vec<f32>, Vec<f32>) {
    let (mean, gamma, beta) = (param(bn.running_mean), param(bn.weight), param(bn.bias));
    let mut inv_std = vec![0.0; mean.len()];
    inverse_deviation(param(bn.running_var), bn.eps, &mut inv_std);
    let (mut scale, mut shift) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
    affine(mean, &inv_std, gamma, beta, &mut scale, &mut shift);
    (scale, shift)
}

/// Weights, output channel by output channel, times the channel's scale.
fn scaled(weights: &[f32], scale: &[f32]) -> Vec<f32> {
    let channels = weights.chunks_exact(weights.len() / scale.len());
    let scaled = channels
        .zip(scale)
        .flat_map(|(weights, &scale)| weights.iter().map(move |w| w * scale));
    scaled.collect()
}

impl LayerWeights {
    fn new(step: &Step) -> Self {
        match (&step.node.op, &step.conv) {
            (Op::Conv { then, .. }, Some(conv)) => LayerWeights::Conv {
                packed: Buffer::zeroed(conv.packed_forward_len()),
                bias: None,
                relu: match then {
                    Some(Then::BatchNorm(bn)) => bn.relu,
                    Some(Then::Relu) => true,
                    None => false,
                },
            },
            (
                Op::BatchNorm(_) | Op::LayerNorm(_) | Op::GroupNorm { .. } | Op::LayerScale { .. },
                _,
            ) => {
                let zeros = vec![0.0; step.output_shape.c];
                LayerWeights::Affine {
                    scale: zeros.clone(),
                    shift: zeros,
                }
            }
            _ => LayerWeights::None,
        }
    }
}

fn run(ctx: &Context, n: usize, step: &Step, layer: &LayerWeights, arena: &mut Buffer) {
    let other = step.other.clone().unwrap_or(0..0);
    let [x, y, other] = arena
        .get_disjoint_mut([step.input.clone(), step.output.clone(), other])
        .expect("the plan keeps the places of one operation apart");
    let shape = step.output_shape;
    let (x, y) = (&x[..step.input_shape.len(n)], &mut y[..shape.len(n)]);
    match (&step.node.op, layer) {
        (Op::Conv { .. }, LayerWeights::Conv { packed, bias, relu }) => {
            let conv = step.conv.as_ref().expect("a convolution has its plan");
            let epilogue = Epilogue {
                bias: bias.as_deref(),
                residual: step.other.is_some().then_some(&*other),
                relu: *relu,
            };
            conv.forward(ctx, n, x, packed, epilogue, y);
        }
        (Op::BatchNorm(bn), LayerWeights::Affine { scale, shift }) => {
            let residual = bn.residual.map(|_| &*other);
            batch_norm::apply(ctx, n, shape, x, scale, shift, residual, bn.relu, y);
        }
        (Op::LayerScale { .. }, LayerWeights::Affine { scale, shift }) => {
            batch_norm::apply(ctx, n, shape, x, scale, shift, None, false, y);
        }
        (Op::LayerNorm(norm), LayerWeights::Affine { scale, shift }) => {
            layer_norm::forward(ctx, n, shape, x, scale, shift, norm.eps, y);
        }
        (Op::GroupNorm { norm, groups }, LayerWeights::Affine { scale, shift }) => {
            group_norm::forward(ctx, n, shape, *groups, x, scale, shift, norm.eps, y);
        }
        (Op::Relu, _) => relu::forward(ctx, x, y),
        (Op::Pointwise(kind), _) => pointwise::forward(ctx, *kind, x, y),
        (Op::MaxPool(pool), _) => max_pool::forward(ctx, n, pool, x, y, None),
        (
            Op::AvgPool {
                pool,
                count_include_pad,
            },
            _,
        ) => {
            avg_pool::forward(ctx, n, pool, *count_include_pad, x, y);
        }
        (Op::GlobalAvgPool, _) => global_avg_pool::forward(ctx, n, step.input_shape, x, y),
        (Op::AdaptiveAvgPool(size), _) => {
            adaptive_avg_pool::forward(ctx, n, step.input_shape, *size, x, y);
        }
        // The dropout of a trained network passes everything.
        (Op::Dropout { .. } | Op::StochasticDepth { .. }, _) => y.copy_from_slice(x),
        (Op::Gate { .. }, _) => gate::forward(ctx, n, shape, x, other, y),
        (Op::Concat { .. }, _) => {
            concat::forward(ctx, n, (step.input_shape, x), (step.other_shape, other), y);
        }
        (Op::Add { relu, .. }, _) => add::forward(ctx, x, &other[..shape.len(n)], *relu, y),
        (
            Op::Conv { .. }
            | Op::BatchNorm(_)
            | Op::LayerNorm(_)
            | Op::GroupNorm { .. }
            | Op::LayerScale { .. },
            _,
        ) => {
            unreachable!("weights are made for the operation they stand beside")
        }
    }
}
