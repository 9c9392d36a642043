//! The backward pass of one operation.

use super::{Memory, Pass};
use crate::network::Op;
use crate::plan::{Place, Step, Target};
use crate::random;
use keepbest_kernels::batch_norm::Upstream;
use keepbest_kernels::{
    adaptive_avg_pool, add, avg_pool, batch_norm, concat, dropout, gate, global_avg_pool,
    group_norm, layer_norm, max_pool, pointwise, relu,
};

pub(super) fn run(pass: &Pass, step: &Step, memory: &mut Memory) {
    let &Pass {
        ctx,
        n,
        network,
        dropout: dropout_key,
        ..
    } = pass;
    // Nothing before it learns.
    let Some(backward) = &step.backward else {
        return;
    };
    let tensor = |id: usize| &network.layout().tensors()[id];
    let param = |id| pass.param(id);
    // Activations the operation does not keep may have given their place to others by now: an operation
    // asks only for what it reads.
    let (reads_x, reads_y) = step.node.op.backward_reads();
    let second = step.other.clone().unwrap_or(0..0);
    let only_if = |reads: bool, place: &Place| if reads { place.clone() } else { 0..0 };
    let [x, y, second, dy, dx, other, scratch] = memory
        .arena
        .get_disjoint_mut([
            only_if(reads_x, &step.input),
            only_if(reads_y, &step.output),
            only_if(step.node.op.backward_reads_other(), &second),
            backward.output_gradient.clone(),
            written(&backward.input_gradient),
            written(&backward.other_gradient),
            backward.scratch.clone(),
        ])
        .expect("the plan keeps the places of one operation apart");
    // A batch may be smaller than planned for: kernels see its images alone.
    let shape = step.output_shape;
    let (input_len, output_len) = (step.input_shape.len(n), shape.len(n));
    let (x, y, dy) = (only(x, input_len), only(y, output_len), &dy[..output_len]);
    let other_len = step.other_shape.len(n);
    let (dx, other) = (only(dx, input_len), only(other, other_len));
    let wanted = backward.input_gradient.is_some();
    let other_wanted = backward.other_gradient.is_some();
    match &step.node.op {
        Op::Conv { weight, bias, .. } => {
            let conv = step.conv.as_ref().expect("a convolution has its plan");
            if !pass.rates.frozen(*weight) {
                let gradient = &mut memory.gradients[tensor(*weight).trained_range()];
                conv.backward_weights(ctx, n, x, dy, scratch, gradient);
            }
            if let Some(bias) = bias
                && !pass.rates.frozen(*bias)
            {
                let gradient = &mut memory.gradients[tensor(*bias).trained_range()];
                conv.backward_bias(ctx, n, dy, scratch, gradient);
            }
            if wanted {
                let weights = conv.pack_backward(ctx, param(*weight), scratch);
                conv.backward_data(ctx, n, dy, weights, dx);
            }
        }
        Op::BatchNorm(bn) => {
            let channels = step.channels.clone();
            let [dgamma, dbeta] = memory
                .gradients
                .get_disjoint_mut([
                    tensor(bn.weight).trained_range(),
                    tensor(bn.bias).trained_range(),
                ])
                .expect("parameters have places of their own");
            let backward = if pass.rates.frozen(bn.running_mean) {
                batch_norm::backward_frozen
            } else {
                batch_norm::backward
            };
            let upstream = match &bn.pool {
                Some(pool) => Upstream::Pooled {
                    pool,
                    dy,
                    y,
                    indices: &memory.indices[step.indices.clone()],
                },
                None => Upstream::Output {
                    dy,
                    y: bn.relu.then_some(y),
                },
            };
            backward(
                ctx,
                n,
                step.input_shape,
                x,
                upstream,
                &memory.mean[channels.clone()],
                &memory.inv_std[channels],
                param(bn.weight),
                scratch,
                dgamma,
                dbeta,
                dx,
                other_wanted.then_some(other),
            );
        }
        Op::Relu if wanted => relu::backward(ctx, y, dy, dx),
        Op::MaxPool(pool) if wanted => {
            max_pool::backward(ctx, n, pool, dy, &memory.indices[step.indices.clone()], dx);
        }
        Op::AvgPool {
            pool,
            count_include_pad,
        } if wanted => {
            avg_pool::backward(ctx, n, pool, *count_include_pad, dy, dx);
        }
        Op::GlobalAvgPool if wanted => {
            global_avg_pool::backward(ctx, n, step.input_shape, dy, dx);
        }
        Op::AdaptiveAvgPool(size) if wanted => {
            adaptive_avg_pool::backward(ctx, n, step.input_shape, *size, dy, dx);
        }
        Op::Pointwise(kind) if wanted => pointwise::backward(ctx, *kind, x, dy, dx),
        Op::LayerNorm(norm) | Op::GroupNorm { norm, .. } => {
            let [dgamma, dbeta] = memory
                .gradients
                .get_disjoint_mut([
                    tensor(norm.weight).trained_range(),
                    tensor(norm.bias).trained_range(),
                ])
                .expect("parameters have places of their own");
            let (gamma, eps) = (param(norm.weight), norm.eps);
            match step.node.op {
                Op::GroupNorm { groups, .. } => group_norm::backward(
                    ctx, n, shape, groups, x, dy, gamma, eps, scratch, dgamma, dbeta, dx,
                ),
                _ => layer_norm::backward(
                    ctx, n, shape, x, dy, gamma, eps, scratch, dgamma, dbeta, dx,
                ),
            }
        }
        Op::LayerScale { weight } => {
            let channels = step.channels.clone();
            batch_norm::backward_frozen(
                ctx,
                n,
                shape,
                x,
                Upstream::Output { dy, y: None },
                &memory.mean[channels.clone()],
                &memory.inv_std[channels.clone()],
                param(*weight),
                scratch,
                &mut memory.gradients[tensor(*weight).trained_range()],
                // It has no shift: the gradient of one goes where nobody looks.
                &mut memory.variance[channels],
                dx,
                None,
            );
        }
        Op::Dropout { p, stream } if wanted => {
            let key = random::key(dropout_key, &[*stream]);
            dropout::backward(ctx, n, shape, *p, key, dy, dx);
        }
        Op::StochasticDepth { p, stream } if wanted => {
            let key = random::key(dropout_key, &[*stream]);
            dropout::whole_images(ctx, n, shape, *p, key, dy, dx);
        }
        Op::Gate { .. } => {
            if wanted {
                gate::forward(ctx, n, shape, dy, second, dx);
            }
            gate::backward_factors(ctx, n, shape, x, dy, other);
        }
        Op::Concat { .. } => {
            let first = step.input_shape.c;
            for (target, from, of, wanted) in [
                (dx, 0, step.input_shape, wanted),
                (other, first, step.other_shape, other_wanted),
            ] {
                if wanted {
                    concat::backward(ctx, n, (shape, dy), from, (of, target));
                }
            }
        }
        Op::Add { relu, .. } => {
            for (target, wanted) in [(dx, wanted), (other, other_wanted)] {
                if wanted && *relu {
                    relu::backward(ctx, y, dy, target);
                } else if wanted {
                    target.copy_from_slice(dy);
                }
            }
        }
        // The gradient with respect to the images is of no use.
        _ => {}
    }
    // A norm's gradients come with its input's: those of a frozen one are nobody's.
    for id in step
        .node
        .op
        .norm_parameters()
        .unwrap_or_default()
        .into_iter()
        .flatten()
    {
        if pass.rates.frozen(id) {
            memory.gradients[tensor(id).trained_range()].fill(0.0);
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
            add::accumulate(ctx, &mut sum[..len], &part[..len]);
        }
    }
}

/// The first `len` floats of a place, or all of one that is not used.
fn only(place: &mut [f32], len: usize) -> &mut [f32] {
    let len = len.min(place.len());
    &mut place[..len]
}

/// Where the operation itself writes a gradient.
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
