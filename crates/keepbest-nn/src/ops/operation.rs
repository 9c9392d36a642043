//! What every operation of a network can do. An operation implements all of it in one file.

use super::onnx::{Value, Writer};
use crate::params::ParamLayout;
use keepbest_formats::onnx::OnnxError;
use keepbest_kernels::{ActShape, Buffer, Context, ConvPlan, ShapeError};
use std::any::Any;
use std::fmt::Debug;

/// Index of a value (the input image, or a layer's output) among the network's.
pub(crate) type ValueId = usize;
/// Index of a tensor of the state dict in [`ParamLayout::tensors`].
pub(crate) type ParamId = usize;

/// One operation: what it is called, what it needs, and what it computes in training, in inference and as ONNX.
pub(crate) trait Operation: Any + Debug + Send + Sync + CloneBoxed {
    /// Its name and work, for people.
    fn summary(&self, shapes: Shapes) -> Work;

    /// The parameters that learn.
    fn learned(&self) -> Learned;

    /// Second value it reads.
    fn other(&self) -> Option<ValueId>;

    /// What of the forward pass the backward pass reads again.
    fn backward_reads(&self) -> Reads;

    /// Memory and kernels.
    ///
    /// # Errors
    /// [`ShapeError`] for a convolution that cannot be planned.
    fn needs(&self, planning: &Planning) -> Result<Needs, ShapeError>;

    /// The forward pass in training: writes `y`.
    fn forward(&self, pass: Forward<'_>);

    /// The backward pass: writes gradients of parameters that learn, and those of the inputs where they are wanted.
    fn backward(&self, pass: Backward<'_>);

    /// Brings the weights into the form in which [`predict`](Self::predict) reads them.
    fn prepare(&self, weights: &Preparing, prepared: &mut Prepared);

    /// The forward pass in inference: writes `y`.
    fn predict(&self, pass: Predict<'_>);

    /// Writes it as ONNX and tells the output.
    ///
    /// # Errors
    /// [`OnnxError`] for names that are taken.
    fn onnx(&self, writer: &mut Writer<'_>, at: At<'_>) -> Result<Value, OnnxError>;

    /// Floating-point operations of the backward pass of an image, for the profile, given those of the forward pass and
    /// whether the input's gradient is wanted.
    fn backward_flops(&self, forward: u64, _through: bool) -> u64 {
        forward
    }

    /// The norm it is, where its statistics are fixed in inference.
    fn fixed_norm(&self) -> Option<FixedNorm> {
        None
    }

    /// Whether a norm with fixed statistics that follows can become part of its weights.
    fn folds_norm(&self) -> bool {
        false
    }

    /// Does the ReLU that follows along with its own work, if it can.
    fn take_relu(&mut self) -> bool {
        false
    }

    /// Adds a residual to what it computes, if it can.
    fn take_residual(&mut self, _residual: ValueId) -> bool {
        false
    }

    /// Takes the next operation along in a training step, if it can. The bits must stay the same.
    fn join_in_training(&mut self, _next: &dyn Operation) -> bool {
        false
    }

    /// Takes the next operation along in inference, if it can.
    fn join_in_inference(&mut self, _next: &dyn Operation) -> bool {
        false
    }
}

/// The operation as what it is, if it is a `T`.
pub(crate) fn as_a<T: Operation>(operation: &dyn Operation) -> Option<&T> {
    (operation as &dyn Any).downcast_ref()
}

/// Copies of an operation whose type is not known.
pub(crate) trait CloneBoxed {
    fn boxed(&self) -> Box<dyn Operation>;
}

impl<T: Operation + Clone> CloneBoxed for T {
    fn boxed(&self) -> Box<dyn Operation> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Operation> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// Shapes of one image: of the operation's inputs and its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shapes {
    pub input: ActShape,
    /// Shape of the second input; that of the first where there is none.
    pub other: ActShape,
    pub output: ActShape,
}

/// What an operation is called and costs.
pub(crate) struct Work {
    /// Such as `conv2d 3x3`.
    pub name: String,
    /// Floating-point operations of one image, forward.
    pub flops: u64,
}

impl Work {
    pub(crate) fn new(name: impl Into<String>, flops: u64) -> Self {
        Work {
            name: name.into(),
            flops,
        }
    }
}

/// The parameters of an operation that learn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learned {
    pub ids: [Option<ParamId>; 3],
    /// Whether their gradients are computed together with the input's, which is then computed even when nobody asks.
    pub with_input: bool,
}

impl Learned {
    pub(crate) const NOTHING: Self = Learned {
        ids: [None; 3],
        with_input: false,
    };

    pub(crate) fn iter(self) -> impl Iterator<Item = ParamId> {
        self.ids.into_iter().flatten()
    }
}

/// Values of the forward pass that the backward pass reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    pub input: bool,
    pub other: bool,
    pub output: bool,
}

impl Reads {
    pub(crate) const NOTHING: Self = Reads {
        input: false,
        other: false,
        output: false,
    };
    pub(crate) const INPUT: Self = Reads {
        input: true,
        ..Self::NOTHING
    };
    pub(crate) const OUTPUT: Self = Reads {
        output: true,
        ..Self::NOTHING
    };
}

/// The context of a plan.
pub(crate) struct Planning<'a> {
    pub ctx: &'a Context,
    /// Images of a batch at most.
    pub batch: usize,
    pub training: bool,
    pub shapes: Shapes,
}

/// Memory and kernels of an operation. Scratch and what is kept between the passes are for training only: inference keeps
/// its weights in [`Prepared`].
#[derive(Default)]
pub(crate) struct Needs {
    pub conv: Option<ConvPlan>,
    /// Floats of scratch of the forward pass.
    pub forward_scratch: usize,
    /// Floats of scratch of the backward pass.
    pub backward_scratch: usize,
    /// Channels whose statistics are kept between the passes.
    pub channels: usize,
    /// Bytes of max-pool indices kept between the passes.
    pub indices: usize,
}

/// All parameters and buffers of a network.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub layout: &'a ParamLayout,
    pub values: &'a [f32],
}

impl<'a> Weights<'a> {
    /// One tensor's values.
    pub(crate) fn of(&self, id: ParamId) -> &'a [f32] {
        &self.values[self.layout.tensors()[id].range()]
    }
}

/// The gradients of all parameters.
pub(crate) struct Gradients<'a> {
    pub layout: &'a ParamLayout,
    pub values: &'a mut [f32],
}

impl Gradients<'_> {
    /// One parameter's gradient.
    pub(crate) fn of(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.values[self.layout.tensors()[id].trained_range()]
    }

    /// The gradients of two parameters.
    pub(crate) fn pair(&mut self, a: ParamId, b: ParamId) -> [&mut [f32]; 2] {
        let place = |id: ParamId| self.layout.tensors()[id].trained_range();
        self.values
            .get_disjoint_mut([place(a), place(b)])
            .expect("parameters have places of their own")
    }
}

/// Factors on the learning rate, by tensor; what has 0 never changes.
#[derive(Clone, Copy)]
pub(crate) struct LearningRates<'a>(pub &'a [f64]);

impl LearningRates<'_> {
    /// Whether a tensor never changes.
    pub(crate) fn frozen(self, id: ParamId) -> bool {
        self.0[id] == 0.0
    }
}

/// Statistics of the channels of a batch and the affine map made from them, kept between the passes. As long as
/// [`Needs::channels`].
pub(crate) struct Statistics<'a> {
    pub mean: &'a mut [f32],
    pub variance: &'a mut [f32],
    pub inv_std: &'a mut [f32],
    pub scale: &'a mut [f32],
    pub shift: &'a mut [f32],
}

/// What the forward pass of an operation in training works on. Images lie one after the other; `x` and `y` hold `n`.
pub(crate) struct Forward<'a> {
    pub ctx: &'a Context,
    pub n: usize,
    pub shapes: Shapes,
    pub conv: Option<&'a ConvPlan>,
    pub weights: Weights<'a>,
    pub rates: LearningRates<'a>,
    pub x: &'a [f32],
    pub other: &'a [f32],
    pub y: &'a mut [f32],
    pub scratch: &'a mut [f32],
    pub statistics: Statistics<'a>,
    pub indices: &'a mut [u8],
    /// Key of this step's dropout.
    pub dropout: u64,
}

/// What the backward pass of an operation works on.
pub(crate) struct Backward<'a> {
    pub ctx: &'a Context,
    pub n: usize,
    pub shapes: Shapes,
    pub conv: Option<&'a ConvPlan>,
    pub weights: Weights<'a>,
    pub rates: LearningRates<'a>,
    pub gradients: Gradients<'a>,
    /// The input, the second one and the output; each empty where [`Operation::backward_reads`] does not ask for it.
    pub x: &'a [f32],
    pub other: &'a [f32],
    pub y: &'a [f32],
    /// Gradient of the output.
    pub dy: &'a [f32],
    /// Gradient of the input, where it is wanted.
    pub dx: Option<&'a mut [f32]>,
    /// Gradient of the second input, where it is wanted.
    pub dother: Option<&'a mut [f32]>,
    pub scratch: &'a mut [f32],
    pub statistics: Statistics<'a>,
    pub indices: &'a [u8],
    /// Key of this step's dropout.
    pub dropout: u64,
}

/// What weights are prepared from.
pub(crate) struct Preparing<'a> {
    pub ctx: &'a Context,
    pub conv: Option<&'a ConvPlan>,
    pub weights: Weights<'a>,
}

/// Weights in the form in which inference reads them; empty for an operation without any.
#[derive(Default)]
pub(crate) struct Prepared {
    /// A convolution's weights in its kernel's order.
    pub packed: Option<Buffer>,
    /// Factor of each channel.
    pub scale: Vec<f32>,
    /// What is added to each channel.
    pub shift: Vec<f32>,
}

/// What an operation works on in inference.
pub(crate) struct Predict<'a> {
    pub ctx: &'a Context,
    pub n: usize,
    pub shapes: Shapes,
    pub conv: Option<&'a ConvPlan>,
    pub prepared: &'a Prepared,
    pub x: &'a [f32],
    pub other: &'a [f32],
    pub y: &'a mut [f32],
}

/// The place of an operation in the network.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    /// The layer's dotted name.
    pub layer: &'a str,
    pub input: ValueId,
    pub output: ValueId,
    pub shapes: Shapes,
}

/// A norm whose statistics are among the weights: `(x - mean) / sqrt(variance + eps) * weight + bias`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedNorm {
    /// Weight and bias; ones and zeros where there are none.
    pub affine: Option<(ParamId, ParamId)>,
    pub channels: usize,
    pub mean: ParamId,
    pub variance: ParamId,
    pub eps: f64,
    /// Share of a batch's statistics in the running ones.
    pub momentum: f64,
}
