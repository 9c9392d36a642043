//! `input * weight + bias` with one trained number a channel, or one for all.

use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Weights, Work,
};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::ShapeError;
use keepbest_kernels::batch_norm::{self, Upstream};

/// A batch norm whose statistics are those of a standard normal, and stay so.
#[derive(Clone, Debug)]
pub(crate) struct ScaleOp {
    /// The op as it is written in a spec.
    pub name: &'static str,
    pub channels: usize,
    /// The factors; ones where there are none.
    pub weight: Option<ParamId>,
    /// What is added; zeros where there is nothing.
    pub bias: Option<ParamId>,
}

/// A parameter, one value a channel or one for all, as one a channel.
pub(super) fn spread(values: &[f32], channels: &mut [f32]) {
    match values {
        &[one] => channels.fill(one),
        each => channels.copy_from_slice(each),
    }
}

/// The gradient of such a parameter from those of the channels.
pub(super) fn gather(channels: &[f32], gradient: &mut [f32]) {
    if let [all] = gradient {
        *all = channels.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
    } else {
        gradient.copy_from_slice(channels);
    }
}

/// [`spread`] of a parameter, or of `none` where there is none.
pub(super) fn spread_or(
    weights: &Weights<'_>,
    id: Option<ParamId>,
    none: f32,
    channels: &mut [f32],
) {
    spread(id.map_or(&[none], |id| weights.of(id)), channels);
}

impl Operation for ScaleOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let steps = self.weight.is_some() as u64 + self.bias.is_some() as u64;
        Work::new(self.name, steps * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [self.weight, self.bias, None],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    /// Forward factors and what is added; backward those factors, mean, deviation and the two gradients, beside the kernel's
    /// own scratch.
    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let shape = planning.shapes.input;
        Ok(Needs {
            forward_scratch: 2 * shape.c,
            backward_scratch: 5 * shape.c + batch_norm::scratch_len(planning.batch, shape),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        let (factors, rest) = pass.scratch.split_at_mut(shape.c);
        let shift = &mut rest[..shape.c];
        spread_or(&pass.weights, self.weight, 1.0, factors);
        spread_or(&pass.weights, self.bias, 0.0, shift);
        batch_norm::apply(ctx, n, shape, pass.x, factors, shift, None, false, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (dy, shape) = (pass.dy, pass.shapes.output);
        let (mean, rest) = pass.scratch.split_at_mut(shape.c);
        let (inv_std, rest) = rest.split_at_mut(shape.c);
        let (factors, rest) = rest.split_at_mut(shape.c);
        let (of_weight, rest) = rest.split_at_mut(shape.c);
        let (of_bias, scratch) = rest.split_at_mut(shape.c);
        mean.fill(0.0);
        inv_std.fill(1.0);
        spread_or(&pass.weights, self.weight, 1.0, factors);
        batch_norm::backward_frozen(
            pass.ctx,
            pass.n,
            shape,
            pass.x,
            Upstream::Output { dy, y: None },
            mean,
            inv_std,
            factors,
            scratch,
            of_weight,
            of_bias,
            pass.dx.expect("it comes with the parameters' gradients"),
            None,
        );
        for (id, channels) in [(self.weight, of_weight), (self.bias, of_bias)] {
            if let Some(id) = id {
                gather(channels, pass.gradients.of(id));
            }
        }
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        let spread = |id, none| {
            let mut values = vec![0.0; self.channels];
            spread_or(&from.weights, id, none, &mut values);
            values
        };
        prepared.scale = spread(self.weight, 1.0);
        prepared.shift = spread(self.bias, 0.0);
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        batch_norm::apply(ctx, n, shape, pass.x, scale, shift, None, false, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let Value { mut name, flat } = writer.value(at.input);
        for (op, id) in [("Mul", self.weight), ("Add", self.bias)] {
            if let Some(id) = id {
                let values = writer.per_channel(id, flat)?;
                name = writer.op(op, at.layer, &[&name, &values], vec![]);
            }
        }
        Ok(Value { name, flat })
    }
}
