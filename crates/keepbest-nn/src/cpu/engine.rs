//! The CPU engine: one step is forward, loss, backward, update.

#[cfg(test)]
pub(super) mod golden_tests;

use super::context::context;
use super::memory::{Memory, Pass};
use super::scorer::CpuScorer;
use super::{backward, forward, update};
use crate::engine::{
    Averaging, Batch, CPU, Determinism, Engine, EngineConfig, EngineError, Precision, Rates,
    Scorer, StepError, StepOutput, WhichWeights,
};
use crate::memory;
use crate::network::Network;
use crate::ops::operation::Weights;
use crate::params::{
    CpuSnapshot, Role, StateCell, StateNames, TrainState, WeightsError, average, copy_f32,
    copy_weights, start, trained_first,
};
use crate::plan::{Plan, Purpose};
use crate::profile::{Part, Profile, Profiler};
use crate::random;
use crate::spec::ModelSpec;
use keepbest_formats::{Snapshot as _, SnapshotHandle, StateDict};
use keepbest_kernels::loss::{self, Labels};
use keepbest_kernels::{Context, Isa, activation};
use std::sync::Arc;

/// Purpose of the random keys of dropout.
const STREAM_DROPOUT: u64 = 2;

/// The CPU engine.
///
/// ```
/// use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let mut engine = CpuEngine::new(&spec, EngineConfig { batch_size: 4, ..Default::default() })?;
/// let images = vec![0.5; 4 * 28 * 28];
/// let first = engine.step(Batch::new(&images, &[3, 3, 3, 3]), 0.1)?;
/// let snapshot = engine.snapshot();
/// let second = engine.step(Batch::new(&images, &[3, 3, 3, 3]), 0.1)?;
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

impl CpuEngine {
    /// Plans memory and kernels for a model, and draws its starting weights from the seed.
    ///
    /// # Errors
    /// [`EngineError`] for layers that do not fit, a setting outside its range, or an instruction set the
    /// machine lacks.
    pub fn new(spec: &ModelSpec, config: EngineConfig) -> Result<Self, EngineError> {
        Self::with_network(Network::new(spec)?, config)
    }

    pub(super) fn with_network(
        network: Network,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        let network = Arc::new(network);
        let batch = config.batch_size;
        config.validate(&network)?;
        if config.collective.ranks() > 1 {
            return Err(EngineError::Ranks {
                ranks: config.collective.ranks(),
            });
        }
        memory::check_batch(&network, batch)?;
        let precision = config.precision;
        let precision = precision.kernels().ok_or(EngineError::Precision {
            precision: precision.name(),
            device: CPU.to_owned(),
        })?;
        let ctx = context(config.threads, config.isa, precision)?;
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
        let mut state = TrainState::new(layout, slots.len(), config.averaging.is_some());
        start(layout, config.seed, &mut state);
        let memory = Memory::new(&plan, batch, layout.trained_len())?;
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

    /// The instruction set it computes with.
    pub fn isa(&self) -> Isa {
        self.ctx.isa()
    }

    fn own_snapshot(&self) -> CpuSnapshot {
        self.state.snapshot(&self.names)
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
        let expected = self.own_snapshot().training_state();
        WeightsError::check(&expected, training)?;
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

    /// [`Engine::measure_statistics`] of the weights as they are.
    fn measure_own_statistics(&mut self, images: &[f32], seen: u64) -> Result<(), StepError> {
        let n = images.len() / self.network.image_len().max(1);
        let labels = vec![0; n];
        Batch::new(images, &labels).check(&self.network, self.plan.batch, 0.0)?;
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

    /// Makes the average the weights, and the weights the average.
    fn exchange_average(&mut self) {
        self.state
            .change(self.network.layout(), TrainState::exchange_average);
    }

    /// Bytes of memory planned for activations, their gradients and scratch.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_len * size_of::<f32>()
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
    fn network(&self) -> &Network {
        &self.network
    }

    fn processor(&self) -> String {
        self.isa().name().to_owned()
    }

    fn threads(&self) -> usize {
        self.ctx.pool().threads()
    }

    fn determinism(&self) -> Determinism {
        match self.config.precision {
            Precision::F32 => Determinism::Everywhere,
            Precision::Bf16 | Precision::F16 => Determinism::SameMachine,
        }
    }

    fn steps(&self) -> u64 {
        self.state.get().step
    }

    fn step(&mut self, batch: Batch<'_>, learning_rate: f64) -> Result<StepOutput, StepError> {
        batch.check(&self.network, self.plan.batch, learning_rate)?;
        let n = batch.len();
        self.forward(n, batch.images);
        let since = self.profiler.now();
        let loss = self.loss(batch.labels);
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
            images: n,
            grad_norm,
        })
    }

    /// Costs a reference count.
    fn snapshot(&self) -> SnapshotHandle {
        SnapshotHandle::new(self.own_snapshot())
    }

    fn averaged(&self) -> Option<SnapshotHandle> {
        self.own_snapshot().averaged().map(SnapshotHandle::new)
    }

    fn load_weights(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
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

    fn restore(
        &mut self,
        weights: &StateDict,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError> {
        let (weights, training) = trained_first(weights, training);
        self.load_weights(&weights)?;
        self.load_training_state(&training, steps)
    }

    fn average_weights(&mut self, taken: u64) {
        let ctx = &self.ctx;
        self.state.change(self.network.layout(), |state| {
            average::take(ctx, taken, state);
        });
    }

    fn measure_statistics(
        &mut self,
        of: WhichWeights,
        images: &[f32],
        seen: u64,
    ) -> Result<(), StepError> {
        match of {
            WhichWeights::Trained => self.measure_own_statistics(images, seen),
            WhichWeights::Average => {
                self.exchange_average();
                let measured = self.measure_own_statistics(images, seen);
                self.exchange_average();
                measured
            }
        }
    }

    fn scorer(&self, batch_size: usize) -> Result<Box<dyn Scorer>, EngineError> {
        let (network, ctx) = (Arc::clone(&self.network), Arc::clone(&self.ctx));
        Ok(Box::new(CpuScorer::with_context(network, batch_size, ctx)?))
    }

    /// Measuring what the machine can do at most takes some 0.2 s.
    fn start_profile(&mut self) {
        self.profiler.start(self.plan.steps.len(), &self.ctx);
    }

    fn profile(&self) -> Option<Profile> {
        let slots = self.names.slots.len();
        let (network, plan) = (&self.network, &self.plan);
        self.profiler.profile(network, plan, slots, &self.ctx)
    }
}
