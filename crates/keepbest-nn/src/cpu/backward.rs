//! The backward pass of one operation.

use super::memory::{Memory, Pass};
use crate::ops::operation::{Backward, Gradients};
use crate::plan::{Place, Step, Target};
use keepbest_kernels::add;

pub(super) fn run(pass: &Pass, step: &Step, memory: &mut Memory) {
    // Nothing before it learns.
    let Some(backward) = &step.backward else {
        return;
    };
    let n = pass.n;
    let layout = pass.weights.layout;
    // Activations the operation does not keep may have given their place to others by now: an operation
    // gets only what it reads.
    let reads = step.node.op.backward_reads();
    let second = step.other.clone().unwrap_or(0..0);
    let only_if = |reads: bool, place: &Place| if reads { place.clone() } else { 0..0 };
    let [x, y, other, dy, dx, dother, scratch] = memory
        .arena
        .get_disjoint_mut([
            only_if(reads.input, &step.input),
            only_if(reads.output, &step.output),
            only_if(reads.other, &second),
            backward.output_gradient.clone(),
            written(&backward.input_gradient),
            written(&backward.other_gradient),
            backward.scratch.clone(),
        ])
        .expect("the plan keeps the places of one operation apart");
    // A batch may be smaller than planned for: kernels see its images alone.
    let shapes = step.shapes;
    let (input_len, output_len) = (shapes.input.len(n), shapes.output.len(n));
    let other_len = shapes.other.len(n);
    let wanted = |target: &Option<Target>| target.is_some();
    step.node.op.backward(Backward {
        ctx: pass.ctx,
        n,
        shapes,
        conv: step.conv.as_ref(),
        weights: pass.weights,
        rates: pass.rates,
        gradients: Gradients {
            layout,
            values: &mut memory.gradients,
        },
        x: only(x, input_len),
        other,
        y: only(y, output_len),
        dy: &dy[..output_len],
        dx: wanted(&backward.input_gradient).then(|| only(dx, input_len)),
        dother: wanted(&backward.other_gradient).then(|| only(dother, other_len)),
        scratch,
        statistics: memory.statistics.of(&step.channels),
        indices: &memory.indices[step.indices.clone()],
        dropout: pass.dropout,
    });
    // Gradients that come with the input's: those of a frozen parameter are nobody's.
    let learned = step.node.op.learned();
    for id in learned.iter().filter(|_| learned.with_input) {
        if pass.rates.frozen(id) {
            memory.gradients[layout.tensors()[id].trained_range()].fill(0.0);
        }
    }
    for (target, len) in [
        (&backward.input_gradient, input_len),
        (&backward.other_gradient, other_len),
    ] {
        if let Some(target) = target
            && let Some(staging) = &target.staging
        {
            let [sum, part] = memory
                .arena
                .get_disjoint_mut([target.place.clone(), staging.clone()])
                .expect("the plan keeps a gradient and its staging apart");
            add::accumulate(pass.ctx, &mut sum[..len], &part[..len]);
        }
    }
}

/// The first `len` floats of a place, or all of one that is not used.
fn only(place: &mut [f32], len: usize) -> &mut [f32] {
    let len = len.min(place.len());
    &mut place[..len]
}

/// The place where the operation itself writes a gradient.
fn written(target: &Option<Target>) -> Place {
    match target {
        Some(Target {
            staging: Some(staging),
            ..
        }) => staging.clone(),
        Some(Target { place, .. }) => place.clone(),
        None => 0..0,
    }
}
