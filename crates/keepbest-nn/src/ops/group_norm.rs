//! Normalisation over the pixels of groups of channels of each image.

use super::lowering::{Current, LayerError, Lowering, Place, check_eps};
use super::norm_affine::NormAffine;
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::spec::values;
use keepbest_formats::onnx::{Attribute, OnnxError};
use keepbest_kernels::{ShapeError, group_norm};
use serde::{Deserialize, Serialize};

/// Settings of a group normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Groups of channels; channels must be a multiple of it.
    pub groups: usize,
    /// Added to the variance before its square root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
    /// Whether there are trained factors and summands.
    #[serde(default = "values::yes", skip_serializing_if = "values::is_yes")]
    pub affine: bool,
}

/// Settings of an instance normalisation: a group norm of one channel a group, without trained factors unless they are asked
/// for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNorm2d {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to the variance before its square root.
    #[serde(
        default = "values::default_eps",
        skip_serializing_if = "values::is_default_eps"
    )]
    pub eps: f64,
    /// Whether there are trained factors and summands.
    #[serde(default, skip_serializing_if = "values::is_no")]
    pub affine: bool,
}

/// Adds an instance norm to the network.
pub(crate) fn lower_instance(
    lowering: &mut Lowering,
    place: &Place,
    l: &InstanceNorm2d,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    check_eps(place, l.eps)?;
    let op = GroupNormOp {
        affine: NormAffine::new(lowering, place, l.affine, shape.c)?,
        groups: shape.c,
        eps: l.eps,
        name: place.op,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Adds a group norm to the network.
pub(crate) fn lower(
    lowering: &mut Lowering,
    place: &Place,
    l: &GroupNorm,
    x: Current,
) -> Result<Current, LayerError> {
    let (shape, groups) = (lowering.map(place, x)?, l.groups);
    check_eps(place, l.eps)?;
    let affine = NormAffine::new(lowering, place, l.affine, shape.c)?;
    if groups == 0 || !shape.c.is_multiple_of(groups) {
        let c = shape.c;
        let problem = format!("channels ({c}) must be a multiple of groups ({groups})");
        return Err(place.error(problem));
    }
    let op = GroupNormOp {
        affine,
        groups,
        eps: l.eps,
        name: place.op,
    };
    Ok(lowering.same_shape(place, op, x))
}

/// Group norm.
#[derive(Clone, Debug)]
pub(crate) struct GroupNormOp {
    affine: NormAffine,
    groups: usize,
    eps: f64,
    /// The op as it is written in a spec.
    name: &'static str,
}

impl Operation for GroupNormOp {
    fn summary(&self, shapes: Shapes) -> Work {
        let name = format!("{} {}", self.name, self.groups);
        Work::new(name, 6 * shapes.output.values() as u64)
    }

    fn learned(&self) -> Learned {
        self.affine.learned()
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    fn backward_reads(&self) -> Reads {
        Reads::INPUT
    }

    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError> {
        if !planning.training {
            return Ok(Needs::default());
        }
        let scratch = group_norm::scratch_len(planning.batch, planning.shapes.input);
        Ok(Needs {
            forward_scratch: self.affine.spare_len(),
            backward_scratch: 2 * self.affine.spare_len() + scratch,
            ..Needs::default()
        })
    }

    fn forward(&self, pass: Forward<'_>) {
        let spare = &mut pass.scratch[..self.affine.spare_len()];
        let [gamma, beta] = self.affine.of(pass.weights, spare);
        let (ctx, n, shape, groups) = (pass.ctx, pass.n, pass.shapes.output, self.groups);
        group_norm::forward(ctx, n, shape, groups, pass.x, gamma, beta, self.eps, pass.y);
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let spare = self.affine.spare_len();
        let (of_norm, rest) = pass.scratch.split_at_mut(spare);
        let (of_gradients, scratch) = rest.split_at_mut(spare);
        let [gamma, _] = self.affine.of(pass.weights, of_norm);
        let [dgamma, dbeta] = self.affine.gradients(&mut pass.gradients, of_gradients);
        group_norm::backward(
            pass.ctx,
            pass.n,
            pass.shapes.output,
            self.groups,
            pass.x,
            pass.dy,
            gamma,
            self.eps,
            scratch,
            dgamma,
            dbeta,
            pass.dx.expect("it comes with the parameters' gradients"),
        );
    }

    fn prepare(&self, from: &Preparing, prepared: &mut Prepared) {
        self.affine.prepare(from.weights, prepared);
    }

    fn predict(&self, pass: Predict<'_>) {
        let Prepared { scale, shift, .. } = pass.prepared;
        let (ctx, n, shape, groups) = (pass.ctx, pass.n, pass.shapes.output, self.groups);
        group_norm::forward(
            ctx, n, shape, groups, pass.x, scale, shift, self.eps, pass.y,
        );
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        let x = writer.value(at.input).name;
        let [scale, bias] = self.affine.onnx(writer)?;
        let attributes = vec![
            ("num_groups", Attribute::Int(self.groups as i64)),
            ("epsilon", Attribute::Float(self.eps as f32)),
        ];
        let inputs = [&*x, &scale, &bias];
        Ok(Value::map(writer.op(
            "GroupNormalization",
            at.layer,
            &inputs,
            attributes,
        )))
    }
}
