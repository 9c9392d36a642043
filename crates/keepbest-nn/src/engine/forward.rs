//! The forward pass of one operation in training.

use super::{Memory, Pass};
use crate::affine::{affine, inverse_deviation};
use crate::network::Op;
use crate::plan::Step;
use crate::random;
use keepbest_kernels::{
    adaptive_avg_pool, add, avg_pool, batch_norm, concat, dropout, gate, global_avg_pool,
    group_norm, layer_norm, max_pool, pointwise, relu,
};

pub(super) fn run(pass: &Pass, step: &Step, memory: &mut Memory) {
    let &Pass {
        ctx,
        n,
        dropout: dropout_key,
        ..
    } = pass;
    let param = |id| pass.param(id);
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
    let shape = step.output_shape;
    let (x, y) = (&x[..step.input_shape.len(n)], &mut y[..shape.len(n)]);
    match &step.node.op {
        Op::Conv { weight, bias, .. } => {
            let conv = step.conv.as_ref().expect("a convolution has its plan");
            let weights = conv.pack_forward(ctx, param(*weight), scratch);
            conv.forward(ctx, n, x, weights, bias.map(param).into(), y);
        }
        Op::BatchNorm(bn) => {
            let channels = step.channels.clone();
            let mean = &mut memory.mean[channels.clone()];
            let variance = &mut memory.variance[channels.clone()];
            let inv_std = &mut memory.inv_std[channels.clone()];
            let scale = &mut memory.scale[channels.clone()];
            let shift = &mut memory.shift[channels];
            if pass.rates.frozen(bn.running_mean) {
                mean.copy_from_slice(param(bn.running_mean));
                variance.copy_from_slice(param(bn.running_var));
            } else {
                batch_norm::statistics(ctx, n, step.input_shape, x, scratch, mean, variance);
            }
            inverse_deviation(variance, bn.eps, inv_std);
            affine(
                mean,
                inv_std,
                param(bn.weight),
                param(bn.bias),
                scale,
                shift,
            );
            if let Some(pool) = &bn.pool {
                let indices = &mut memory.indices[step.indices.clone()];
                max_pool::forward_normalised(ctx, n, pool, x, scale, shift, y, indices);
            } else {
                let residual = bn.residual.map(|_| &*other);
                batch_norm::apply(ctx, n, shape, x, scale, shift, residual, bn.relu, y);
            }
        }
        Op::Relu => relu::forward(ctx, x, y),
        Op::MaxPool(pool) => {
            let indices = &mut memory.indices[step.indices.clone()];
            max_pool::forward(ctx, n, pool, x, y, Some(indices));
        }
        Op::AvgPool {
            pool,
            count_include_pad,
        } => avg_pool::forward(ctx, n, pool, *count_include_pad, x, y),
        Op::GlobalAvgPool => global_avg_pool::forward(ctx, n, step.input_shape, x, y),
        Op::AdaptiveAvgPool(size) => {
            adaptive_avg_pool::forward(ctx, n, step.input_shape, *size, x, y);
        }
        Op::Pointwise(kind) => pointwise::forward(ctx, *kind, x, y),
        Op::LayerNorm(norm) => {
            let (gamma, beta) = (param(norm.weight), param(norm.bias));
            layer_norm::forward(ctx, n, shape, x, gamma, beta, norm.eps, y);
        }
        Op::GroupNorm { norm, groups } => {
            let (gamma, beta) = (param(norm.weight), param(norm.bias));
            group_norm::forward(ctx, n, shape, *groups, x, gamma, beta, norm.eps, y);
        }
        Op::LayerScale { weight } => {
            // A batch norm whose statistics are those of a standard normal, and stay so.
            let channels = step.channels.clone();
            memory.inv_std[channels.clone()].fill(1.0);
            let shift = &memory.shift[channels];
            batch_norm::apply(ctx, n, shape, x, param(*weight), shift, None, false, y);
        }
        Op::Dropout { p, stream } => {
            let key = random::key(dropout_key, &[*stream]);
            dropout::forward(ctx, n, shape, *p, key, x, y);
        }
        Op::StochasticDepth { p, stream } => {
            let key = random::key(dropout_key, &[*stream]);
            dropout::whole_images(ctx, n, shape, *p, key, x, y);
        }
        Op::Gate { .. } => gate::forward(ctx, n, shape, x, other, y),
        Op::Concat { .. } => {
            concat::forward(ctx, n, (step.input_shape, x), (step.other_shape, other), y);
        }
        Op::Add { relu, .. } => add::forward(ctx, x, &other[..shape.len(n)], *relu, y),
    }
}
