//! Batch normalisation over images and pixels.

use super::flatten;
use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::max_pool::MaxPoolOp;
use super::norm_affine::NormAffine;
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, FixedNorm, Forward, Learned, Needs, Operation, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, Statistics, ValueId, Weights, Work, as_a,
};
use crate::params::{Role, Start};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::batch_norm::Upstream;
use keepbest_kernels::{PoolShape, ShapeError, batch_norm, max_pool};
use serde::{Deserialize, Serialize};

/// Settings of a batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the variance before its square root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
    /// Share of the batch's statistics in the running ones.
    #[serde(
        default = "values::default_momentum",
        skip_serializing_if = "values::is_default_momentum"
    )]
    pub momentum: f64,
    /// Whether there are trained factors and summands.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub affine: bool,
}

/// Adds a batch norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &BatchNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    let x = flatten::with_channels(lowering, place, x);
    let shape = lowering.shape(x);
    check_eps(place, l.eps)?;
    if !(0.0..=1.0).contains(&l.momentum) {
        let found = l.momentum;
        return Err(place.error(format!("momentum must be within 0 and 1, found {found}")));
    }
    let affine = NormAffine::new(lowering, place, l.affine, shape.c)?;
    let mut buffer = |part, start| {
        let start = Start::Constant(start);
        lowering.param(place, part, &[shape.c], Role::Buffer, start)
    };
    let (mean, variance) = (buffer("running_mean", 0.0)?, buffer("running_var", 1.0)?);
    let counter = "num_batches_tracked";
    lowering.param(place, counter, &[], Role::Counter, Start::Constant(0.0))?;
    let op = BatchNormOp {
        norm: FixedNorm {
            affine,
            mean,
            variance,
            eps: l.eps,
            momentum: l.momentum,
        },
        residual: None,
        relu: false,
        pool: None,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Batch norm with what is fused into it.
#[derive(Clone, Debug)]
pub(crate) struct BatchNormOp {
    pub norm: FixedNorm,
    pub residual: Option<ValueId>,
    pub relu: bool,
    /// Max pooling that was the next operation, when this one takes it along.
    pub pool: Option<PoolShape>,
}

impl Operation for BatchNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let mut name = "batch_norm2d".to_owned();
        if self.residual.is_some() {
            name += " + residual";
        }
        if self.relu {
            name += " + relu";
        }
        Work::new(name, 2 * shapes.input.values() as u64)
    }

    fn learned(&self) -> Learned {
        self.norm.affine.learned()
    }

    fn other(&self) -> Option<ValueId> {
        self.residual
    }

    fn backward_reads(&self) -> Reads {
        Reads {
            output: self.relu,
            ..Reads::INPUT
        }
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let Shapes { input, output, .. } = planning.shapes;
        // What stands for parameters that are not there comes first.
        let spare = self.norm.affine.spare_len();
        let scratch = batch_norm::scratch_len(planning.batch, input);
        let indices = max_pool::indices_len(planning.batch, output);
        Ok(Needs {
            conv: None,
            forward_scratch: spare + scratch,
            backward_scratch: 2 * spare + scratch,
            channels: input.c,
            indices: if self.pool.is_some() { indices } else { 0 },
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let Forward {
            ctx,
            n,
            shapes,
            x,
            y,
            weights,
            ..
        } = pass;
        let norm = &self.norm;
        let Statistics {
            mean,
            variance,
            inv_std,
            scale,
            shift,
        } = pass.statistics;
        let (spare, scratch) = pass.scratch.split_at_mut(norm.affine.spare_len());
        if pass.rates.frozen(norm.mean) {
            mean.copy_from_slice(weights.of(norm.mean));
            variance.copy_from_slice(weights.of(norm.variance));
        } else {
            batch_norm::statistics(ctx, n, shapes.input, x, scratch, mean, variance);
        }
        inverse_deviation(variance, norm.eps, inv_std);
        let [gamma, beta] = norm.affine.of(weights, spare);
        affine(mean, inv_std, gamma, beta, scale, shift);
        if let Some(pool) = &self.pool {
            max_pool::forward_normalised(ctx, n, pool, x, scale, shift, y, pass.indices);
        } else {
            let residual = self.residual.map(|_| pass.other);
            batch_norm::apply(
                ctx,
                n,
                shapes.output,
                x,
                scale,
                shift,
                residual,
                self.relu,
                y,
            );
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward {
            dy,
            y,
            indices,
            mut gradients,
            ..
        } = pass;
        let norm = &self.norm;
        let spare = norm.affine.spare_len();
        let (of_norm, rest) = pass.scratch.split_at_mut(spare);
        let (of_gradients, scratch) = rest.split_at_mut(spare);
        let [gamma, _] = norm.affine.of(pass.weights, of_norm);
        let [dgamma, dbeta] = norm.affine.gradients(&mut gradients, of_gradients);
        let backward = if pass.rates.frozen(norm.mean) {
            batch_norm::backward_frozen
        } else {
            batch_norm::backward
        };
        let upstream = match &self.pool {
            Some(pool) => Upstream::Pooled {
                pool,
                dy,
                y,
                indices,
            },
            None => Upstream::Output {
                dy,
                y: self.relu.then_some(y),
            },
        };
        backward(
            pass.ctx,
            pass.n,
            pass.shapes.input,
            pass.x,
            upstream,
            pass.statistics.mean,
            pass.statistics.inv_std,
            gamma,
            scratch,
            dgamma,
            dbeta,
            pass.dx.expect("it comes with the parameters' gradients"),
            pass.dother,
        );
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        (prepared.scale, prepared.shift) = fixed_map(&self.norm, from.weights);
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (shape, residual) = (pass.shapes.output, self.residual.map(|_| pass.other));
        let (ctx, n, relu) = (pass.ctx, pass.n, self.relu);
        batch_norm::apply(ctx, n, shape, pass.x, scale, shift, residual, relu, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let norm = &self.norm;
        let Value { name: mut x, flat } = writer.value(at.input);
        if writer.folded(at.input).is_none() {
            let mut inputs = vec![x];
            inputs.extend(norm.affine.onnx(writer)?);
            for id in [norm.mean, norm.variance] {
                inputs.push(writer.initializer(id)?);
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let eps = vec![("epsilon", Attribute::Float(norm.eps as f32))];
            x = writer.op("BatchNormalization", at.layer, &inputs, eps);
        }
        if let Some(other) = self.residual {
            let other = writer.value(other).name;
            x = writer.op("Add", at.layer, &[&x, &other], vec![]);
        }
        let name = writer.relu_if(self.relu, at.layer, x);
        Ok(Value { name, flat })
    }

    fn backward_flops(&self, forward: u64, _through: bool) -> u64 {
        forward * 2
    }

    fn fixed_norm(&self) -> Option<FixedNorm> {
        Some(self.norm)
    }

    fn take_relu(&mut self) -> bool {
        self.relu = true;
        true
    }

    fn take_residual(&mut self, residual: ValueId) -> bool {
        let takes = !self.relu && self.residual.is_none();
        if takes {
            self.residual = Some(residual);
        }
        takes
    }

    /// With a ReLU it takes along the max pooling that follows. The normalised map, the largest of the three, is then never
    /// written.
    fn join_in_training(&mut self, next: &dyn Operation) -> bool {
        let alone = self.relu && self.residual.is_none() && self.pool.is_none();
        match as_a::<MaxPoolOp>(next) {
            Some(MaxPoolOp(pool)) if alone && pool.tiles_input() => {
                self.pool = Some(*pool);
                true
            }
            _ => false,
        }
    }
}

/// The affine map of a norm with its fixed statistics: scale and shift of each channel.
pub(super) fn fixed_map(norm: &FixedNorm, weights: Weights<'_>) -> (Vec<f32>, Vec<f32>) {
    let mean = weights.of(norm.mean);
    let mut inv_std = vec![0.0; mean.len()];
    inverse_deviation(weights.of(norm.variance), norm.eps, &mut inv_std);
    let (mut scale, mut shift) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
    let mut spare = vec![0.0; norm.affine.spare_len()];
    let [gamma, beta] = norm.affine.of(weights, &mut spare);
    affine(mean, &inv_std, gamma, beta, &mut scale, &mut shift);
    (scale, shift)
}

/// `1 / sqrt(variance + eps)` of each channel, rounded once.
fn inverse_deviation(variance: &[f32], eps: f64, inv_std: &mut [f32]) {
    for (inv_std, variance) in inv_std.iter_mut().zip(variance) {
        *inv_std = (1.0 / libm::sqrt(f64::from(*variance) + eps)) as f32;
    }
}

/// `scale = gamma * inv_std` and `shift = beta - mean * scale` of each channel.
fn affine(
    mean: &[f32],
    inv_std: &[f32],
    gamma: &[f32],
    beta: &[f32],
    scale: &mut [f32],
    shift: &mut [f32],
) {
    for c in 0..mean.len() {
        scale[c] = gamma[c] * inv_std[c];
        shift[c] = (f64::from(beta[c]) - f64::from(mean[c]) * f64::from(scale[c])) as f32;
    }
}
