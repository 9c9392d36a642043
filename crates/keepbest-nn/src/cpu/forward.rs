//! The forward pass of one operation in training.

use super::memory::{Memory, Pass};
use crate::ops::operation::Forward;
use crate::plan::Step;

pub(super) fn run(pass: &Pass, step: &Step, memory: &mut Memory) {
    let n = pass.n;
    let other = step.other.clone().unwrap_or(0..0);
    let [x, y, other, scratch] = memory
        .arena
        .get_disjoint_mut([
            step.input.clone(),
            step.output.clone(),
            other,
            step.scratch.clone(),
        ])
        .expect("the plan keeps the places of one operation apart");
    let shapes = step.shapes;
    step.node.op.forward(Forward {
        ctx: pass.ctx,
        n,
        shapes,
        conv: step.conv.as_ref(),
        weights: pass.weights,
        rates: pass.rates,
        x: &x[..shapes.input.len(n)],
        other,
        y: &mut y[..shapes.output.len(n)],
        scratch,
        statistics: memory.statistics.of(&step.channels),
        indices: &mut memory.indices[step.indices.clone()],
        dropout: pass.dropout,
    });
}
