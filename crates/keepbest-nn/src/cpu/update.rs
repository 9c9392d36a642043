//! The end of a step: clip, then old state and gradients to new state.

use super::memory::Memory;
use crate::engine::{Rates, StepError};
use crate::network::Network;
use crate::params::{ParamLayout, ParamTensor, Role, TrainState};
use crate::plan::Plan;
use keepbest_formats::OptimizerConfig;
use keepbest_kernels::{Context, optim, reduce};
use std::ops::Range;

/// The gradient's 2-norm, and the factor that brings it down to `max_norm` exactly as PyTorch's
/// `clip_grad_norm_` does; a factor of 1 and no norm without clipping.
pub(super) fn clip(
    ctx: &Context,
    memory: &mut Memory,
    max_norm: Option<f64>,
    step: u64,
) -> Result<(Option<f64>, f32), StepError> {
    let Some(max_norm) = max_norm else {
        return Ok((None, 1.0));
    };
    let norm = libm::sqrt(reduce::sum_squares(
        ctx,
        &memory.gradients,
        &mut memory.sums,
    ));
    if !norm.is_finite() {
        return Err(StepError::NonFiniteGradient { norm, step });
    }
    let factor = (max_norm / (norm + 1e-6)).min(1.0);
    Ok((Some(norm), factor as f32))
}

/// What an optimizer step reads besides parameters and gradients.
pub(super) struct OptimizerStep<'a> {
    pub config: &'a OptimizerConfig,
    pub rates: &'a Rates,
    pub learning_rate: f64,
    /// Factor on the gradient, from [`clip`].
    pub gradient_scale: f32,
}

/// Makes `next` the state after an optimizer step: from itself in place, or from `old`. Buffers that the
/// optimizer does not train are left to [`running_statistics`].
pub(super) fn optimize(
    ctx: &Context,
    layout: &ParamLayout,
    step: &OptimizerStep,
    gradients: &[f32],
    next: &mut TrainState,
    old: Option<&TrainState>,
) {
    if let Some(old) = old {
        next.step = old.step;
        next.counters.copy_from_slice(&old.counters);
    }
    next.step += 1;
    let &OptimizerStep {
        config,
        rates,
        learning_rate,
        gradient_scale,
    } = step;
    for (id, tensor) in layout.tensors().iter().enumerate() {
        match tensor.role {
            Role::Trained if rates.frozen(id) => {
                keep(tensor, next, old);
                continue;
            }
            Role::Trained => {}
            Role::Counter => {
                next.counters[tensor.offset] += i64::from(!rates.frozen(id));
                continue;
            }
            Role::Buffer => continue,
        }
        let learning_rate = learning_rate * rates.of(id);
        let trained = tensor.trained_range();
        let gradient = &gradients[trained.clone()];
        let parameters = pair(
            old.map(|o| &o.weights[..]),
            &mut next.weights,
            tensor.range(),
        );
        let mut slots = next
            .slots
            .iter_mut()
            .enumerate()
            .map(|(i, new)| pair(old.map(|o| &o.slots[i][..]), new, trained.clone()));
        match *config {
            OptimizerConfig::Sgd {
                momentum,
                dampening,
                nesterov,
                weight_decay,
            } => {
                let settings = optim::Sgd {
                    learning_rate,
                    momentum,
                    dampening,
                    nesterov,
                    weight_decay,
                    first_step: next.step == 1,
                    gradient_scale,
                };
                optim::sgd(ctx, &settings, gradient, parameters, slots.next());
            }
            OptimizerConfig::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            }
            | OptimizerConfig::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            } => {
                let settings = optim::Adam {
                    learning_rate,
                    beta1,
                    beta2,
                    eps,
                    weight_decay,
                    decoupled: matches!(config, OptimizerConfig::AdamW { .. }),
                    step: next.step,
                    gradient_scale,
                };
                let (Some(mean), Some(square)) = (slots.next(), slots.next()) else {
                    unreachable!("Adam has two slots")
                };
                optim::adam(ctx, &settings, gradient, parameters, mean, square);
            }
        }
    }
}

/// Leaves a tensor and its optimizer's state as they were.
fn keep(tensor: &ParamTensor, next: &mut TrainState, old: Option<&TrainState>) {
    let Some(old) = old else { return };
    next.weights[tensor.range()].copy_from_slice(&old.weights[tensor.range()]);
    let place = tensor.trained_range();
    for (next, old) in next.slots.iter_mut().zip(&old.slots) {
        next[place.clone()].copy_from_slice(&old[place.clone()]);
    }
}

/// One tensor's values before and after.
fn pair<'a>(old: Option<&'a [f32]>, new: &'a mut [f32], range: Range<usize>) -> optim::Update<'a> {
    match old {
        Some(old) => optim::Update::Copy {
            old: &old[range.clone()],
            new: &mut new[range],
        },
        None => optim::Update::InPlace(&mut new[range]),
    }
}

/// The batch whose statistics are mixed into the running ones.
#[derive(Clone, Copy)]
pub(super) struct MixedIn {
    pub images: usize,
    /// Its share; each batch norm's own momentum when absent.
    pub momentum: Option<f64>,
}

/// Mixes the statistics of a batch into the running ones, with the unbiased variance as PyTorch does.
pub(super) fn running_statistics(
    network: &Network,
    plan: &Plan,
    rates: &Rates,
    memory: &Memory,
    batch: MixedIn,
    next: &mut TrainState,
    old: Option<&TrainState>,
) {
    let statistics = &memory.statistics;
    for step in &plan.steps {
        let Some(norm) = step.node.op.fixed_norm() else {
            continue;
        };
        let shape = step.shapes.input;
        let momentum = batch.momentum.unwrap_or(norm.momentum);
        let values = (batch.images * shape.h * shape.w) as f64;
        // One value a channel is refused before the step, so this is finite.
        let unbiased = values / (values - 1.0);
        let channels = step.channels.clone();
        let parts = [
            (norm.mean, &statistics.mean[channels.clone()], 1.0),
            (norm.variance, &statistics.variance[channels], unbiased),
        ];
        for (id, batch, factor) in parts {
            let place = network.layout().tensors()[id].range();
            if let Some(old) = old {
                next.weights[place.clone()].copy_from_slice(&old.weights[place.clone()]);
            }
            if rates.frozen(id) {
                continue;
            }
            for (running, batch) in next.weights[place].iter_mut().zip(batch) {
                let mixed =
                    (1.0 - momentum) * f64::from(*running) + momentum * factor * f64::from(*batch);
                *running = mixed as f32;
            }
        }
    }
}
