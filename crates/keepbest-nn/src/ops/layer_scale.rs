//! A trained factor for each channel (Touvron et al., arXiv 2103.17239).

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, ParamId, Planning, Predict, Prepared,
    Preparing, Reads, Shapes, ValueId, Work,
};
use crate::params::{Role, Start};
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::ShapeError;
use keepbest_kernels::batch_norm::{self, Upstream};
use serde::{Deserialize, Serialize};

/// Settings of a layer scale. Its one parameter `[channels, 1, 1]` has the layer's own name, and comes before those of
/// the layers beside it, as a parameter of the block itself does in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What every factor starts with.
    pub init: f64,
}

/// Declares the parameter, before the layers beside this one are seen.
pub(crate) fn announce(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerScale,
) -> Result<(), LayerError> {
    let start = Start::Constant(l.init as f32);
    lowering.param(place, "", &[], Role::Trained, start)?;
    Ok(())
}

/// Adds a layer scale, whose parameter has been announced, to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &LayerScale,
    x: Current,
) -> Result<Current, LayerError> {
    if !l.init.is_finite() {
        return Err(place.error(format!("init must be finite, found {}", l.init)));
    }
    let shape = lowering.map(place, x)?;
    let weight = lowering.layout.set_shape(&place.name, vec![shape.c, 1, 1]);
    Ok(lowering.same_shape(place, LayerScaleOp { weight }, x))
}

/// `input` times a trained factor a channel: a batch norm whose statistics are those of a standard normal, and stay so.
#[derive(Clone, Debug)]
pub(crate) struct LayerScaleOp {
    weight: ParamId,
}

impl Operation for LayerScaleOp {
    fn summary(&self, shapes: Shapes) -> Work {
        Work::new("layer_scale", shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        Learned {
            ids: [Some(self.weight), None],
            with_input: true,
        }
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    /// Forward the zeros that are added; backward mean, deviation and the gradient of a shift that is not there, beside the
    /// kernel's own scratch.
    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let shape = planning.shapes.input;
        Ok(Needs {
            forward_scratch: shape.c,
            backward_scratch: 3 * shape.c + batch_norm::scratch_len(planning.batch, shape),
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        let (factors, shift) = (pass.weights.of(self.weight), &mut pass.scratch[..shape.c]);
        shift.fill(0.0);
        batch_norm::apply(ctx, n, shape, pass.x, factors, shift, None, false, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (dy, shape) = (pass.dy, pass.shapes.output);
        let (mean, rest) = pass.scratch.split_at_mut(shape.c);
        let (inv_std, rest) = rest.split_at_mut(shape.c);
        let (of_shift, scratch) = rest.split_at_mut(shape.c);
        mean.fill(0.0);
        inv_std.fill(1.0);
        batch_norm::backward_frozen(
            pass.ctx,
            pass.n,
            shape,
            pass.x,
            Upstream::Output { dy, y: None },
            mean,
            inv_std,
            pass.weights.of(self.weight),
            scratch,
            pass.gradients.of(self.weight),
            of_shift,
            pass.dx.expect("it comes with the parameter's gradient"),
            None,
        );
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        prepared.scale = from.weights.of(self.weight).to_vec();
        prepared.shift = vec![0.0; prepared.scale.len()];
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        batch_norm::apply(ctx, n, shape, pass.x, scale, shift, None, false, pass.y);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let scale = writer.initializer(self.weight)?;
        Ok(Value::map(writer.op(
            "Mul",
            at.layer,
            &[&x, &scale],
            vec![],
        )))
    }
}
