//! Random zeros in training: of single values, or of whole images.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{Value, Writer};
use super::operation::{
    At, Backward, Forward, Learned, Needs, Operation, Planning, Predict, Prepared, Preparing,
    Reads, Shapes, ValueId, Work,
};
use crate::random;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ShapeError, dropout};
use serde::{Deserialize, Serialize};

/// Settings of a dropout or stochastic depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Name of the layer; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Probability that a value (or a whole image) becomes zero, in `[0, 1)`.
    pub p: f64,
}

/// The unit that becomes zero at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// Single values.
    Values,
    /// Whole images: stochastic depth.
    Images,
}

/// Adds a dropout to the network.
pub(crate) fn lower(
    zeros: Zeros,
) -> impl FnOnce(&mut Lowering, &Place, &Dropout, Current) -> Result<Current, LayerError> {
    move |lowering, place, l, x| {
        if !(0.0..1.0).contains(&l.p) {
            return Err(place.error(format!("p must be at least 0 and below 1, found {}", l.p)));
        }
        let op = DropoutOp {
            zeros,
            p: l.p,
            stream: lowering.stream(),
        };
        Ok(lowering.same_shape(place, op, x))
    }
}

/// Dropout. That of a trained network passes everything.
#[derive(Clone, Debug)]
pub(crate) struct DropoutOp {
    zeros: Zeros,
    p: f64,
    /// Number of its random numbers among the network's.
    stream: u64,
}

impl Operation for DropoutOp {
    fn summary(&self, _: Shapes) -> Work {
        let name = match self.zeros {
            Zeros::Values => "dropout",
            Zeros::Images => "stochastic_depth",
        };
        Work::new(format!("{name} {}", self.p), 0)
    }

    fn learned(&self) -> Learned {
        Learned::NOTHING
    }

    fn other(&self) -> Option<ValueId> {
        None
    }

    /// The zeros are drawn again.
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn needs(&self, _: &Planning) -> Result<Needs, ShapeError> {
        Ok(Needs::default())
    }

    fn forward(&self, pass: Forward<'_>) {
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        let key = random::key(pass.dropout, &[self.stream]);
        match self.zeros {
            Zeros::Values => dropout::forward(ctx, n, shape, self.p, key, pass.x, pass.y),
            Zeros::Images => dropout::whole_images(ctx, n, shape, self.p, key, pass.x, pass.y),
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (ctx, n, shape) = (pass.ctx, pass.n, pass.shapes.output);
        let key = random::key(pass.dropout, &[self.stream]);
        match self.zeros {
            Zeros::Values => dropout::backward(ctx, n, shape, self.p, key, pass.dy, dx),
            Zeros::Images => dropout::whole_images(ctx, n, shape, self.p, key, pass.dy, dx),
        }
    }

    fn prepare(&self, _: &Preparing, _: &mut Prepared) {}

    fn predict(&self, pass: Predict<'_>) {
        pass.y.copy_from_slice(pass.x);
    }

    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError> {
        Ok(writer.value(at.input))
    }
}
