//! Where the time of a training step goes: by layer and phase, with the work done.

use crate::network::{BatchNorm, Network, Op};
use crate::plan::Plan;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Time and work of one phase of one layer, summed over all steps profiled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProfileEntry {
    /// The layer's dotted name; empty for what belongs to no layer (loss, optimizer).
    pub layer: String,
    /// What is computed, such as `conv2d 3x3`.
    pub op: String,
    /// Part of the step.
    pub phase: Phase,
    /// Time, in seconds.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that must at least be read and written, each tensor once.
    pub bytes: u64,
}

/// Part of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Images to scores.
    Forward,
    /// Gradients of scores to gradients of everything.
    Backward,
    /// Loss and its gradient.
    Loss,
    /// Gradients to new parameters.
    Update,
}

/// Stopwatch of an engine; does nothing until switched on.
#[derive(Debug, Default)]
pub(crate) struct Profiler {
    on: bool,
    images: u64,
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    loss: Duration,
    update: Duration,
}

impl Profiler {
    pub(crate) fn start(&mut self, layers: usize) {
        *self = Profiler {
            on: true,
            forward: vec![Duration::ZERO; layers],
            backward: vec![Duration::ZERO; layers],
            ..Default::default()
        };
    }

    /// The time now, when someone wants to know.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.on.then(Instant::now)
    }

    pub(crate) fn images(&mut self, n: usize) {
        self.images += n as u64;
    }

    pub(crate) fn add(&mut self, phase: Phase, layer: usize, since: Option<Instant>) {
        let Some(since) = since else { return };
        let total = match phase {
            Phase::Forward => &mut self.forward[layer],
            Phase::Backward => &mut self.backward[layer],
            Phase::Loss => &mut self.loss,
            Phase::Update => &mut self.update,
        };
        *total += since.elapsed();
    }

    pub(crate) fn entries(&self, network: &Network, plan: &Plan) -> Vec<ProfileEntry> {
        if !self.on {
            return vec![];
        }
        let mut entries = vec![];
        let summary = network.summary();
        for (index, step) in plan.steps.iter().enumerate() {
            let layer = &summary[step.layer];
            let x = step.input_shape.values() as u64;
            let y = step.output_shape.values() as u64;
            let other = if step.other.is_some() { y } else { 0 };
            let input_gradient = step
                .backward
                .as_ref()
                .is_some_and(|b| b.input_gradient.is_some());
            let dx = if input_gradient { x } else { 0 };
            // A convolution's two gradients are each as much work as its forward pass; what else there is
            // reads and writes about once more than forward.
            let (backward_flops, kept) = match step.node.op {
                Op::Conv { .. } => (layer.flops * (1 + u64::from(input_gradient)), x),
                Op::BatchNorm(_) => (layer.flops * 2, x + y),
                _ => (layer.flops, 0),
            };
            let weights = 4 * layer.parameters as u64;
            let op = match step.node.op {
                Op::BatchNorm(BatchNorm { pool: Some(_), .. }) => {
                    format!("{} + {}", layer.op, summary[step.layer + 1].op)
                }
                _ => layer.op.clone(),
            };
            let mut entry = |phase, time: Duration, flops: u64, floats: u64| {
                entries.push(ProfileEntry {
                    layer: layer.name.clone(),
                    op: op.clone(),
                    phase,
                    seconds: time.as_secs_f64(),
                    flops: flops * self.images,
                    bytes: 4 * floats * self.images + weights,
                });
            };
            entry(
                Phase::Forward,
                self.forward[index],
                layer.flops,
                x + y + other,
            );
            let moved = y + dx + kept + other;
            entry(Phase::Backward, self.backward[index], backward_flops, moved);
        }
        let parameters = network.parameter_count() as u64;
        for (op, phase, time, bytes) in [
            ("cross entropy", Phase::Loss, self.loss, 0),
            // Weights and one state arena read and written, gradients read.
            ("optimizer", Phase::Update, self.update, 20 * parameters),
        ] {
            entries.push(ProfileEntry {
                layer: String::new(),
                op: op.to_owned(),
                phase,
                seconds: time.as_secs_f64(),
                flops: 0,
                bytes,
            });
        }
        entries
    }
}
