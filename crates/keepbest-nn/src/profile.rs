//! The time of training steps: by layer and phase, with the work done.

mod table;

use crate::network::Network;
use crate::plan::Plan;
use keepbest_kernels::{Context, Peak};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Time and work of training steps, beside what the machine can do. Displayed, it is a table of 80 columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// Instructions computed with.
    pub isa: &'static str,
    /// Threads computed on.
    pub threads: usize,
    /// Most `f32` operations a second, measured on registers.
    pub peak_flops: f64,
    /// Most bytes read and written a second, measured by copying memory.
    pub peak_bytes: f64,
    /// Steps profiled.
    pub steps: u64,
    /// Images in them.
    pub images: u64,
    /// Every phase of every layer, in the order of computation.
    pub entries: Vec<ProfileEntry>,
}

/// Time and work of one phase of one layer, summed over all steps profiled.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProfileEntry {
    /// The layer's dotted name; empty for what belongs to no layer (input, loss, optimizer).
    pub layer: String,
    /// What is computed, such as `conv2d 3x3`.
    pub op: String,
    /// Part of the step.
    pub phase: Phase,
    /// Time, in seconds.
    pub seconds: f64,
    /// Floating-point operations of the plain method; Winograd's convolutions need fewer.
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
    /// Loss and its gradient.
    Loss,
    /// Gradients of scores to gradients of everything.
    Backward,
    /// Gradients to new parameters.
    Update,
}

impl Phase {
    /// All of them, in the order of a step.
    pub const ALL: [Phase; 4] = [Phase::Forward, Phase::Loss, Phase::Backward, Phase::Update];
}

/// What is timed at a time; layers by their place in the plan.
pub(crate) enum Part {
    Input,
    Forward(usize),
    Loss,
    Backward(usize),
    Update,
}

/// Stopwatch of an engine; does nothing until switched on.
#[derive(Debug, Default)]
pub(crate) struct Profiler {
    peak: Option<Peak>,
    steps: u64,
    images: u64,
    /// Copying images into the arena.
    input: Duration,
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    loss: Duration,
    update: Duration,
}

impl Profiler {
    /// Measures the machine, and counts from zero.
    pub(crate) fn start(&mut self, layers: usize, ctx: &Context) {
        *self = Profiler {
            peak: Some(Peak::measure(ctx)),
            forward: vec![Duration::ZERO; layers],
            backward: vec![Duration::ZERO; layers],
            ..Default::default()
        };
    }

    /// The time now, when someone wants to know.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.peak.is_some().then(Instant::now)
    }

    /// A step on `images` images has come to its end.
    pub(crate) fn stepped(&mut self, images: usize) {
        self.steps += 1;
        self.images += images as u64;
    }

    pub(crate) fn add(&mut self, part: Part, since: Option<Instant>) {
        let Some(since) = since else { return };
        let total = match part {
            Part::Input => &mut self.input,
            Part::Forward(layer) => &mut self.forward[layer],
            Part::Loss => &mut self.loss,
            Part::Backward(layer) => &mut self.backward[layer],
            Part::Update => &mut self.update,
        };
        *total += since.elapsed();
    }

    /// What was counted; `slots` is how many values the optimizer keeps beside each parameter.
    pub(crate) fn profile(
        &self,
        network: &Network,
        plan: &Plan,
        slots: usize,
        ctx: &Context,
    ) -> Option<Profile> {
        let peak = self.peak?;
        let float = size_of::<f32>() as u64;
        // Work and floats of activations come by image, floats of weights by step.
        let entry = |(layer, op): (&str, &str), phase, time: Duration, flops, floats, weights| {
            let moved: u64 = floats * self.images + weights * self.steps;
            ProfileEntry {
                layer: layer.to_owned(),
                op: op.to_owned(),
                phase,
                seconds: time.as_secs_f64(),
                flops: flops * self.images,
                bytes: float * moved,
            }
        };
        let input = 2 * plan.input_shape.values() as u64;
        let mut entries = vec![entry(
            ("", "images"),
            Phase::Forward,
            self.input,
            0,
            input,
            0,
        )];
        let mut backward = vec![];
        let summary = network.summary();
        for (index, step) in plan.steps.iter().enumerate() {
            let layers = &summary[step.layers.clone()];
            let x = step.shapes.input.values() as u64;
            let y = step.shapes.output.values() as u64;
            let other = if step.other.is_some() { y } else { 0 };
            let weights: u64 = layers.iter().map(|layer| layer.parameters as u64).sum();
            let op: Vec<&str> = layers.iter().map(|layer| &*layer.op).collect();
            let (op, work) = (op.join(" + "), layers.iter().map(|layer| layer.flops).sum());
            let name = (&*layers[0].name, &*op);
            entries.push(entry(
                name,
                Phase::Forward,
                self.forward[index],
                work,
                x + y + other,
                weights,
            ));
            let Some(places) = &step.backward else {
                continue;
            };
            let through = places.input_gradient.is_some();
            let dx = if through { x } else { 0 };
            let flops = step.node.op.backward_flops(work, through);
            let reads = step.node.op.backward_reads();
            let kept = u64::from(reads.input) * x + u64::from(reads.output) * y;
            backward.push(entry(
                name,
                Phase::Backward,
                self.backward[index],
                flops,
                y + dx + kept + other,
                weights * (1 + u64::from(through)),
            ));
        }
        let logits = 2 * network.classes() as u64;
        let loss = ("", "cross entropy");
        entries.push(entry(loss, Phase::Loss, self.loss, 0, logits, 0));
        entries.extend(backward.into_iter().rev());
        // Parameters and their slots read and written, gradients read.
        let values = (2 * (1 + slots as u64) + 1) * network.parameter_count() as u64;
        let optimizer = ("", "optimizer");
        entries.push(entry(optimizer, Phase::Update, self.update, 0, 0, values));
        Some(Profile {
            isa: ctx.isa().name(),
            threads: ctx.pool().threads(),
            peak_flops: peak.flops,
            peak_bytes: peak.bytes,
            steps: self.steps,
            images: self.images,
            entries,
        })
    }
}
