//! Training: one step is forward, loss, backward, update.

mod backward;
mod config;
mod error;
mod forward;
mod tuning;
mod update;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod optimizer_tests;

use crate::memory;
use crate::network::Network;
use crate::ops::operation::{LearningRates, Statistics, Weights};
use crate::params::average;
use crate::params::{
    ParamLayout, Role, Snapshot, StateCell, StateNames, TrainState, WeightsError, described,
};
use crate::plan::{Place, Plan, Purpose};
use crate::predictor::Predictor;
use crate::profile::{Part, Profile, Profiler};
use crate::random;
use crate::spec::ModelSpec;
use keepbest_formats::StateDict;
use keepbest_formats::check_setting;
use keepbest_kernels::loss::{self, Labels};
use keepbest_kernels::{Buffer, Context, Isa, Precision, activation, reduce};
use std::sync::Arc;

pub use config::{Averaging, EngineConfig, LossConfig};
pub use error::{EngineError, StepError};
pub(crate) use tuning::Rates;
pub use tuning::Tuning;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutput {
    /// Mean criterion of the batch, before the update.
    pub loss: f64,
    /// Images whose highest score was their label's.
    pub correct: u32,
    /// 2-norm of the gradient before clipping, when clipping is on.
    pub grad_norm: Option<f64>,
}

/// A training engine: what the trainer needs, whatever device computes it.
pub trait Engine {
    /// Takes one optimizer step on a batch.
    ///
    /// `images` is `[n, height, width, channels]`, dense, normalised; `labels` one label each (`&[u32]`), or two with
    /// their shares.
    ///
    /// # Errors
    /// [`StepError`]; the weights are then those from before the step.
    fn step<'a>(
        &mut self,
        images: &[f32],
        labels: impl Into<Labels<'a>>,
        learning_rate: f64,
    ) -> Result<StepOutput, StepError>;

    /// An immutable handle on the weights and training state as they are now. Costs a reference count.
    fn snapshot(&self) -> Snapshot;

    /// Steps taken.
    fn steps(&self) -> u64;
}

/// The CPU engine.
///
/// ```
/// use keepbest_nn::{CpuEngine, Engine, EngineConfig, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let mut engine = CpuEngine::new(&spec, EngineConfig { batch_size: 4, ..Default::default() })?;
/// let images = vec![0.5; 4 * 28 * 28];
/// let first = engine.step(&images, &[3, 3, 3, 3], 0.1)?;
/// let snapshot = engine.snapshot();
/// let second = engine.step(&images, &[3, 3, 3, 3], 0.1)?;
/// assert!(second.loss < first.loss);
/// assert_eq!((snapshot.step(), engine.snapshot().step()), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CpuEngine {
    network: Arc<Network>,
    config: EngineConfig,
    ctx: Arc<Context>,
    plan: Plan,
    rates: Rates,
    state: StateCell,
    names: Arc<StateNames>,
    memory: Memory,
    profiler: Profiler,
}

/// Memory of a training step, all of it allocated at the start.
struct Memory {
    arena: Buffer,
    gradients: Buffer,
    statistics: StatisticsMemory,
    indices: Vec<u8>,
    /// Partial sums of the gradient's norm.
    sums: Vec<f64>,
}

/// Statistics of the batch and the affine map made from them, for all batch norms in a row.
struct StatisticsMemory {
    mean: Buffer,
    variance: Buffer,
    inv_std: Buffer,
    scale: Buffer,
    shift: Buffer,
}

impl StatisticsMemory {
    fn zeroed(channels: usize) -> Self {
        StatisticsMemory {
            mean: Buffer::zeroed(channels),
            variance: Buffer::zeroed(channels),
            inv_std: Buffer::zeroed(channels),
            scale: Buffer::zeroed(channels),
            shift: Buffer::zeroed(channels),
        }
    }

    /// Those of one operation.
    fn of(&mut self, channels: &Place) -> Statistics<'_> {
        Statistics {
            mean: &mut self.mean[channels.clone()],
            variance: &mut self.variance[channels.clone()],
            inv_std: &mut self.inv_std[channels.clone()],
            scale: &mut self.scale[channels.clone()],
            shift: &mut self.shift[channels.clone()],
        }
    }
}

/// What every operation of a pass over a batch shares.
struct Pass<'a> {
    ctx: &'a Context,
    /// Images in the batch.
    n: usize,
    weights: Weights<'a>,
    rates: LearningRates<'a>,
    /// Key of this step's dropout.
    dropout: u64,
}

/// Purposes of random keys.
const STREAM_START: u64 = 1;
const STREAM_DROPOUT: u64 = 2;

/// Threads that a machine of `cores` may be asked for; what more would take is memory alone.
fn most_threads(cores: usize) -> usize {
    cores.saturating_mul(4).max(16)
}

/// A context of `threads` threads on the given instructions, or on what there is. Of fewer threads where cores are far fewer, or
/// the system starts no more: results do not depend on them.
pub(crate) fn context(
    threads: Option<usize>,
    isa: Option<Isa>,
    precision: Precision,
) -> Result<Arc<Context>, EngineError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match threads {
        Some(threads) => {
            check_setting("threads", threads as f64, threads > 0, "at least 1")?;
            threads.min(most_threads(cores))
        }
        None => cores,
    };
    let ctx = Context::new(isa.map_or_else(Isa::detect, Ok)?, threads)?;
    Ok(Arc::new(ctx.with_precision(precision)?))
}

/// Memory for the activations of a batch.
pub(crate) fn arena(plan: &Plan, batch: usize) -> Result<Buffer, EngineError> {
    Buffer::try_zeroed(plan.arena_len).ok_or(EngineError::Allocation {
        batch,
        bytes: (plan.arena_len as u64).saturating_mul(4),
    })
}

impl CpuEngine {
    /// Plans memory and kernels for a model, and draws its starting weights from the seed.
    ///
    /// # Errors
    /// [`EngineError`] for layers that do not fit, a setting outside its range, or an instruction set the
    /// machine lacks.
    pub fn new(spec: &ModelSpec, config: EngineConfig) -> Result<Self, EngineError> {
        Self::with_network(Network::new(spec)?, config)
    }

    fn with_network(network: Network, config: EngineConfig) -> Result<Self, EngineError> {
        let network = Arc::new(network);
        let batch = config.batch_size;
        check_setting("batch size", batch as f64, batch > 0, "at least 1")?;
        config.optimizer.validate()?;
        config.loss.validate(network.classes())?;
        if let Some(norm) = config.clip_grad_norm {
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
        memory::check_batch(&network, batch)?;
        let ctx = context(config.threads, config.isa, config.precision)?;
        let rates = Rates::new(&network, &config.tuning)?;
        let plan = Plan::new(&network, batch, Purpose::Training(&rates), &ctx)?;
        let layout = network.layout();
        let slots = config.optimizer.slots();
        // Weights, the block that a snapshot leaves behind, the moving average; gradients, and the optimizer's state in both blocks.
        let weights = std::iter::repeat_n(
            layout.weights_len(),
            2 + 2 * usize::from(config.averaging.is_some()),
        );
        let trained = std::iter::repeat_n(layout.trained_len(), 1 + 2 * slots.len());
        memory::check_floats(weights.chain(trained).chain([plan.arena_len]), batch)?;
        if let Some(Averaging::Ema(decay)) = config.averaging {
            check_setting(
                "ema",
                decay,
                (0.0..1.0).contains(&decay),
                "at least 0 and below 1",
            )?;
        }
        let mut state = TrainState::new(layout, slots.len(), config.averaging.is_some());
        start(layout, config.seed, &mut state);
        let memory = Memory {
            arena: arena(&plan, batch)?,
            gradients: Buffer::zeroed(layout.trained_len()),
            statistics: StatisticsMemory::zeroed(plan.channels_len),
            indices: vec![0; plan.indices_len],
            sums: vec![0.0; reduce::sum_squares_scratch_len(layout.trained_len())],
        };
        let names = Arc::new(StateNames {
            layout: layout.clone(),
            slots,
        });
        Ok(CpuEngine {
            config,
            ctx,
            plan,
            rates,
            state: StateCell::new(state),
            names,
            memory,
            network,
            profiler: Profiler::default(),
        })
    }

    /// The network being trained.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The instruction set it computes with.
    pub fn isa(&self) -> Isa {
        self.ctx.isa()
    }

    /// The threads it computes on.
    pub fn threads(&self) -> usize {
        self.ctx.pool().threads()
    }

    /// A predictor of the same network on the same threads; load a snapshot into it.
    ///
    /// # Errors
    /// [`EngineError::Setting`] for a batch size of 0.
    pub fn predictor(&self, batch_size: usize) -> Result<Predictor, EngineError> {
        Predictor::with_context(Arc::clone(&self.network), batch_size, Arc::clone(&self.ctx))
    }

    /// Replaces all weights and buffers, the moving average by them. The optimizer's state and the step stay.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors; nothing is changed then.
    pub fn load_weights(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        let layout = self.network.layout();
        layout.check(weights)?;
        self.state.update(layout, |next, old| {
            if let Some(old) = old {
                next.step = old.step;
                for (next, old) in next.slots.iter_mut().zip(&old.slots) {
                    next.copy_from_slice(old);
                }
            }
            copy_weights(layout, weights, &mut next.weights, &mut next.counters);
            next.average_from_weights();
        });
        Ok(())
    }

    /// Takes up where a snapshot was: its weights and training state, of either face, and its step. All that a resumed run
    /// needs.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors.
    pub fn restore(
        &mut self,
        weights: &StateDict,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError> {
        let (weights, training) = average::raw_first(weights, training);
        self.load_weights(&weights)?;
        self.load_training_state(&training, steps)
    }

    /// Replaces the optimizer's state and the number of steps taken.
    ///
    /// # Errors
    /// [`WeightsError`] listing missing, unexpected and mis-shaped tensors; nothing is changed then.
    pub fn load_training_state(
        &mut self,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError> {
        let layout = self.network.layout();
        let slots = self.names.slots;
        let expected = self.snapshot().training_state();
        WeightsError::compare(&described(&expected), &described(training), |_| false)?;
        // It is a view of the state: held any longer, it would make the update copy the whole.
        drop(expected);
        self.state.update(layout, |next, old| {
            if let Some(old) = old {
                next.weights.copy_from_slice(&old.weights);
                next.counters.copy_from_slice(&old.counters);
            }
            next.step = steps;
            for (slot, name) in next.slots.iter_mut().zip(slots) {
                for tensor in layout.tensors().iter().filter(|t| t.role == Role::Trained) {
                    let found = training.get(&format!("{name}.{}", tensor.name));
                    copy_f32(found, &mut slot[tensor.trained_range()]);
                }
            }
            if let Some(values) = &mut next.average {
                average::read(layout, training, values);
            }
        });
        Ok(())
    }

    /// Measures the statistics of all batch norms anew, for weights that were not trained with the ones they have (averages),
    /// as `torch.optim.swa_utils.update_bn`: they become the mean over the batches, of which `seen` were there before. The
    /// weights, the optimizer's state and the step stay.
    ///
    /// # Errors
    /// [`StepError`], as of a step.
    pub fn measure_statistics(&mut self, images: &[f32], seen: u64) -> Result<(), StepError> {
        let n = images.len() / self.network.image_len().max(1);
        self.check_batch(images, (&vec![0; n]).into(), 0.0)?;
        self.forward(n, images);
        let (network, plan, memory) = (&self.network, &self.plan, &self.memory);
        let rates = &self.rates;
        let batch = update::MixedIn {
            images: n,
            momentum: Some(1.0 / (seen as f64 + 1.0)),
        };
        self.state.change(network.layout(), |state| {
            update::running_statistics(network, plan, rates, memory, batch, state, None);
        });
        Ok(())
    }

    /// Takes the weights as they are into the mean of those of some steps, of which `taken` are in it; for
    /// [`Averaging::Swa`]. Batch norm's statistics are not those of the mean before they are measured anew
    /// ([`measure_average_statistics`](Self::measure_average_statistics)).
    pub fn average_weights(&mut self, taken: u64) {
        let ctx = &self.ctx;
        self.state.change(self.network.layout(), |state| {
            average::take(ctx, taken, state);
        });
    }

    /// [`measure_statistics`](Self::measure_statistics) of the average of the weights, where one is kept.
    ///
    /// # Errors
    /// [`StepError`], as of a step.
    pub fn measure_average_statistics(
        &mut self,
        images: &[f32],
        seen: u64,
    ) -> Result<(), StepError> {
        self.exchange_average();
        let measured = self.measure_statistics(images, seen);
        self.exchange_average();
        measured
    }

    /// Makes the average the weights, and the weights the average.
    fn exchange_average(&mut self) {
        self.state
            .change(self.network.layout(), TrainState::exchange_average);
    }

    /// Measures what the machine can do at most, for some 0.2 s, and times every layer of every step from now on.
    pub fn start_profile(&mut self) {
        self.profiler.start(self.plan.steps.len(), &self.ctx);
    }

    /// Time and work since [`CpuEngine::start_profile`]; `None` when it was not called.
    pub fn profile(&self) -> Option<Profile> {
        let slots = self.names.slots.len();
        let (network, plan) = (&self.network, &self.plan);
        self.profiler.profile(network, plan, slots, &self.ctx)
    }

    /// Bytes of memory planned for activations, their gradients and scratch.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_len * size_of::<f32>()
    }

    fn check_batch(
        &self,
        images: &[f32],
        labels: Labels<'_>,
        learning_rate: f64,
    ) -> Result<(), StepError> {
        let n = labels.own.len();
        if n == 0 || n > self.plan.batch {
            return Err(StepError::BatchSize {
                found: n,
                expected: self.plan.batch,
            });
        }
        let image_len = self.network.image_len();
        if images.len() != n * image_len {
            return Err(StepError::ImagesLength {
                found: images.len(),
                images: n,
                image_len,
            });
        }
        let classes = self.network.classes();
        let others = labels.mixed.map_or(&[][..], |mixed| mixed.others);
        for labels in [labels.own, others] {
            if let Some(index) = labels.iter().position(|l| *l as usize >= classes) {
                return Err(StepError::Label {
                    found: labels[index],
                    index,
                    classes,
                });
            }
        }
        if let Some(mixed) = labels.mixed {
            let shares = mixed.shares.iter();
            if mixed.others.len() != n
                || mixed.shares.len() != n
                || !shares.into_iter().all(|share| (0.0..=1.0).contains(share))
            {
                return Err(StepError::Shares { images: n });
            }
        }
        if n == 1
            && let Some(layer) = self.network.needs_two_images()
        {
            return Err(StepError::SingleValue {
                layer: layer.to_owned(),
            });
        }
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(StepError::LearningRate {
                found: learning_rate,
            });
        }
        Ok(())
    }

    /// From images to logits, in the arena.
    fn forward(&mut self, n: usize, images: &[f32]) {
        let (ctx, plan, state) = (&*self.ctx, &self.plan, self.state.get());
        let dropout = random::key(self.config.seed, &[STREAM_DROPOUT, state.step]);
        let pass = Pass {
            ctx,
            n,
            weights: Weights {
                layout: self.network.layout(),
                values: &state.weights,
            },
            rates: self.rates.all(),
            dropout,
        };
        let since = self.profiler.now();
        activation::pack_images(
            ctx,
            n,
            plan.input_shape,
            images,
            &mut self.memory.arena[plan.input.clone()],
        );
        self.profiler.add(Part::Input, since);
        for (index, step) in plan.steps.iter().enumerate() {
            let since = self.profiler.now();
            forward::run(&pass, step, &mut self.memory);
            self.profiler.add(Part::Forward(index), since);
        }
    }

    /// From the logits in the arena to the loss and the gradient of the logits.
    fn loss(&mut self, labels: Labels<'_>) -> loss::LossOutput {
        let plan = &self.plan;
        let gradient = plan
            .output_gradient
            .clone()
            .expect("a training plan has it");
        let [logits, gradient] = self
            .memory
            .arena
            .get_disjoint_mut([plan.output.clone(), gradient])
            .expect("the plan keeps logits and their gradient apart");
        loss::softmax_cross_entropy(
            &self.ctx,
            labels.own.len(),
            self.network.classes(),
            logits,
            plan.output_shape.image_stride(),
            labels,
            self.config.loss.label_smoothing,
            self.config.loss.class_weights.as_deref(),
            Some(gradient),
        )
    }

    /// From the gradient of the logits to the gradients of all parameters.
    fn backward(&mut self, n: usize) {
        let (ctx, plan, state) = (&*self.ctx, &self.plan, self.state.get());
        let dropout = random::key(self.config.seed, &[STREAM_DROPOUT, state.step]);
        let pass = Pass {
            ctx,
            n,
            weights: Weights {
                layout: self.network.layout(),
                values: &state.weights,
            },
            rates: self.rates.all(),
            dropout,
        };
        for (index, step) in plan.steps.iter().enumerate().rev() {
            let since = self.profiler.now();
            backward::run(&pass, step, &mut self.memory);
            self.profiler.add(Part::Backward(index), since);
        }
    }

    /// From the gradients of `n` images to the next state.
    fn update(&mut self, n: usize, learning_rate: f64, gradient_scale: f32) {
        let (ctx, network, plan, memory) = (&self.ctx, &self.network, &self.plan, &self.memory);
        let (rates, averaging) = (&self.rates, self.config.averaging);
        let step = update::OptimizerStep {
            config: &self.config.optimizer,
            rates,
            learning_rate,
            gradient_scale,
        };
        self.state.update(network.layout(), |next, old| {
            update::optimize(ctx, network.layout(), &step, &memory.gradients, next, old);
            let batch = update::MixedIn {
                images: n,
                momentum: None,
            };
            update::running_statistics(network, plan, rates, memory, batch, next, old);
            match averaging {
                Some(Averaging::Ema(decay)) => average::follow(ctx, decay, next, old),
                Some(Averaging::Swa) => average::keep(next, old),
                None => {}
            }
        });
    }

    /// The gradient of the last [`Engine::step`], before clipping, by parameter name. For tests and tools.
    pub fn gradients(&self) -> StateDict {
        let mut dict = StateDict::new();
        for tensor in self
            .network
            .layout()
            .tensors()
            .iter()
            .filter(|t| t.role == Role::Trained)
        {
            let values = &self.memory.gradients[tensor.trained_range()];
            let copy = keepbest_formats::Tensor::from_f32(&tensor.shape, values)
                .expect("a gradient has the length of its parameter");
            dict.insert(tensor.name.clone(), copy)
                .expect("names of a layout are unique");
        }
        dict
    }
}

impl Engine for CpuEngine {
    fn step<'a>(
        &mut self,
        images: &[f32],
        labels: impl Into<Labels<'a>>,
        learning_rate: f64,
    ) -> Result<StepOutput, StepError> {
        let labels = labels.into();
        self.check_batch(images, labels, learning_rate)?;
        let n = labels.own.len();
        self.forward(n, images);
        let since = self.profiler.now();
        let loss = self.loss(labels);
        self.profiler.add(Part::Loss, since);
        let step = self.steps() + 1;
        if !loss.loss.is_finite() {
            return Err(StepError::NonFiniteLoss {
                loss: loss.loss,
                step,
            });
        }
        self.backward(n);
        let since = self.profiler.now();
        let max_norm = self.config.clip_grad_norm;
        let (grad_norm, gradient_scale) =
            update::clip(&self.ctx, &mut self.memory, max_norm, step)?;
        self.update(n, learning_rate, gradient_scale);
        self.profiler.add(Part::Update, since);
        self.profiler.stepped(n);
        Ok(StepOutput {
            loss: loss.loss,
            correct: loss.correct,
            grad_norm,
        })
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot(&self.names)
    }

    fn steps(&self) -> u64 {
        self.state.get().step
    }
}

fn start(layout: &ParamLayout, seed: u64, state: &mut TrainState) {
    for (index, tensor) in layout.tensors().iter().enumerate() {
        if tensor.role != Role::Counter {
            let key = random::key(seed, &[STREAM_START, index as u64]);
            tensor.start.fill(key, &mut state.weights[tensor.range()]);
        }
    }
    state.average_from_weights();
}

/// Copies a checked state dict into the arena. A counter that is absent starts at 0.
pub(crate) fn copy_weights(
    layout: &ParamLayout,
    weights: &StateDict,
    arena: &mut [f32],
    counters: &mut [i64],
) {
    for tensor in layout.tensors() {
        let found = weights.get(&tensor.name);
        if tensor.role == Role::Counter {
            counters[tensor.offset] = found.map_or(0, |t| {
                let bytes = t.bytes().as_ref().try_into().expect("checked: one i64");
                i64::from_le_bytes(bytes)
            });
        } else {
            copy_f32(found, &mut arena[tensor.range()]);
        }
    }
}

pub(crate) fn copy_f32(found: Option<&keepbest_formats::Tensor>, out: &mut [f32]) {
    let tensor = found.expect("checked: the tensor is there");
    out.copy_from_slice(&tensor.as_f32().expect("checked: the tensor is f32"));
}
