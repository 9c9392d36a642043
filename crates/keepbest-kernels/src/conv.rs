//! Convolution, and linear layers as convolutions whose kernel is the whole map.

mod axis;
mod depthwise;
mod direct;
mod epilogue;
mod linear;
mod pairs;
mod shape;
mod weight_gradient;
mod winograd;

use crate::chunks::{check_activation, check_len};
use crate::gemm::Element;
use crate::simd::LANES;
use crate::{ActShape, Context, Precision, ShapeError, reduce};

use axis::Axis;
use depthwise::Depthwise;
use direct::Direct;
pub use epilogue::Epilogue;
use linear::Linear;
pub use shape::ConvShape;
use weight_gradient::WeightGradient;
use winograd::{Form, WeightOrder, Winograd, WinogradGradient};

/// A convolution made ready for its shape: which taps meet which pixels, tiles, packing, chunks.
///
/// Nothing is allocated after `new`. Every method takes the batch `n`, at most the planned one. Neither the threads nor the
/// instruction set change a bit of the results, nor, but for plans for training, the planned batch.
///
/// ```
/// use keepbest_kernels::{ActShape, Buffer, Context, ConvPlan, ConvShape, Epilogue, Isa};
/// let ctx = Context::new(Isa::detect()?, 1)?;
/// let shape = ConvShape {
///     input: ActShape::new(4, 4, 1),
///     out_channels: 2,
///     kernel: [3, 3],
///     stride: [1, 1],
///     padding: [1, 1].into(),
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let plan = ConvPlan::new(&shape, 8, &ctx)?;
/// let mut packed = Buffer::zeroed(plan.packed_forward_len());
/// let weights = vec![1.0; shape.weight_len()];
/// let packed = plan.pack_forward(&ctx, &weights, &mut packed);
/// let x = vec![1.0; shape.input.len(1)];
/// let mut y = Buffer::zeroed(plan.output().len(1));
/// let epilogue = Epilogue { bias: Some(&[0.5, 0.0]), ..Default::default() };
/// plan.forward(&ctx, 1, &x, packed, epilogue, &mut y);
/// // The corner sees 4 pixels, the pixel beside it 6; two channels each.
/// assert_eq!(y[..4], [4.5, 4.0, 6.5, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConvPlan {
    shape: ConvShape,
    output: ActShape,
    max_batch: usize,
    precision: Precision,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Linear(Linear),
    Gemm(Box<Gemm>),
    Depthwise(Box<Depthwise>),
}

#[derive(Debug)]
struct Gemm {
    forward: Method,
    backward: Method,
    weights: Gradient,
}

/// The method by which one direction is computed.
#[derive(Debug)]
enum Method {
    Direct(Direct),
    Winograd(Winograd),
}

/// The method by which the weight gradient is computed.
#[derive(Debug)]
enum Gradient {
    Direct(WeightGradient),
    Winograd(WinogradGradient),
}

impl Method {
    fn packed_len(&self) -> usize {
        match self {
            Method::Direct(direct) => direct.packed_len(),
            Method::Winograd(winograd) => winograd.packed_len(),
        }
    }

    fn pack(&self, ctx: &Context, weights: &[f32], order: WeightOrder, packed: &mut [f32]) {
        match self {
            Method::Direct(direct) => {
                direct.pack(ctx, weights, order.column, order.depth, order.flip, packed);
            }
            Method::Winograd(winograd) => winograd.pack(ctx, weights, order, packed),
        }
    }

    fn run(
        &self,
        ctx: &Context,
        n: usize,
        src: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        dst: &mut [f32],
    ) {
        match self {
            Method::Direct(direct) => direct.run(ctx, n, src, packed, epilogue, dst),
            Method::Winograd(winograd) => winograd.run(ctx, n, src, packed, epilogue, dst),
        }
    }
}

impl ConvPlan {
    /// Plans for batches of up to `max_batch` images, in `f32`.
    ///
    /// # Errors
    ///
    /// As [`ConvShape::output`], or [`ShapeError::Zero`] for an empty batch.
    pub fn new(shape: &ConvShape, max_batch: usize, ctx: &Context) -> Result<ConvPlan, ShapeError> {
        ConvPlan::with_methods(
            shape,
            max_batch,
            ctx,
            Precision::F32,
            |form, shape, src, dst, padding| Winograd::new(None, form, shape, src, dst, padding),
        )
    }

    /// A plan for training, where weights change every step. Convolutions multiply in the [precision of the
    /// context](Context::precision) where there are at least 16 channels, an even number; linear layers in `f32`, taking their
    /// weights where they lie. Run it with this context.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn for_training(
        shape: &ConvShape,
        max_batch: usize,
        ctx: &Context,
    ) -> Result<ConvPlan, ShapeError> {
        let plan = ConvPlan::for_training_transposed(shape, max_batch, ctx)?;
        match Linear::new(shape) {
            Some(linear) => {
                ctx.reserve_staging(linear.staging_len(max_batch));
                ctx.reserve_scratch(linear.scratch_len(ctx, max_batch));
                Ok(ConvPlan {
                    kind: Kind::Linear(linear),
                    ..plan
                })
            }
            None => Ok(plan),
        }
    }

    /// As [`for_training`](Self::for_training), for [`transposed`](Self::transposed): a kernel as large as the map packs its weights
    /// too.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn for_training_transposed(
        shape: &ConvShape,
        max_batch: usize,
        ctx: &Context,
    ) -> Result<ConvPlan, ShapeError> {
        let batch = Some(max_batch);
        ConvPlan::with_methods(
            shape,
            max_batch,
            ctx,
            ctx.precision(),
            |form, shape, src, dst, padding| Winograd::new(batch, form, shape, src, dst, padding),
        )
    }

    /// A plan that asks `winograd` where it is to be used.
    fn with_methods(
        shape: &ConvShape,
        max_batch: usize,
        ctx: &Context,
        precision: Precision,
        winograd: impl Fn(Form, &ConvShape, ActShape, ActShape, [usize; 2]) -> Option<Winograd>,
    ) -> Result<ConvPlan, ShapeError> {
        let output = shape.output()?;
        if max_batch == 0 {
            return Err(ShapeError::Zero { what: "batch" });
        }
        let axes = shape.axes(output);
        let kind = if shape.groups > 1
            && shape.groups == shape.input.c
            && shape.groups == shape.out_channels
        {
            Kind::Depthwise(Box::new(Depthwise::new(shape, output, &axes)))
        } else {
            let depth = shape.input.c / shape.groups;
            let width = shape.out_channels / shape.groups;
            let (input, padding) = (shape.input, shape.padding.before);
            // A few channels are not worth the conversion.
            let element = |channels: usize| match precision {
                Precision::Bf16 if channels >= LANES && channels.is_multiple_of(2) => {
                    Element::Bf16Pair
                }
                _ => Element::F32,
            };
            let form = |element, pairs| match element {
                Element::F32 => Form::F32,
                Element::Bf16Pair => pairs,
            };
            let to_output = element(depth);
            let pairs = form(to_output, Form::ChannelPairs);
            let forward = match winograd(pairs, shape, input, output, padding) {
                Some(winograd) => Method::Winograd(winograd),
                None => {
                    let runs = axes.each_ref().map(Axis::forward_runs);
                    let (kernel, groups) = (shape.kernel, shape.groups);
                    Method::Direct(Direct::new(
                        to_output, input, output, groups, depth, width, kernel, &runs,
                    ))
                }
            };
            let border = padding.map(|p| 2usize.saturating_sub(p));
            let to_input = element(width);
            let pairs = form(to_input, Form::ChannelPairs);
            let backward = match winograd(pairs, shape, output, input, border) {
                Some(winograd) => Method::Winograd(winograd),
                None => {
                    let runs = axes.each_ref().map(Axis::backward_runs);
                    let (kernel, groups) = (shape.kernel, shape.groups);
                    Method::Direct(Direct::new(
                        to_input, output, input, groups, width, depth, kernel, &runs,
                    ))
                }
            };
            let to_weights = match (to_output, to_input) {
                (Element::Bf16Pair, Element::Bf16Pair) => Element::Bf16Pair,
                _ => Element::F32,
            };
            let pairs = form(to_weights, Form::TilePairs);
            let weights = match winograd(pairs, shape, input, output, padding) {
                Some(winograd) => Gradient::Winograd(WinogradGradient::new(winograd)),
                None => Gradient::Direct(WeightGradient::new(
                    to_weights,
                    shape,
                    output,
                    &axes,
                    ctx.isa(),
                )),
            };
            for method in [&forward, &backward] {
                match method {
                    Method::Direct(direct) => ctx.reserve_staging(direct.staging_len(max_batch)),
                    Method::Winograd(winograd) => ctx.reserve_scratch(winograd.scratch_len()),
                }
            }
            match &weights {
                Gradient::Direct(direct) => ctx.reserve_staging(direct.staging_len(max_batch)),
                Gradient::Winograd(winograd) => ctx.reserve_scratch(winograd.thread_scratch_len()),
            }
            Kind::Gemm(Box::new(Gemm {
                forward,
                backward,
                weights,
            }))
        };
        Ok(ConvPlan {
            shape: *shape,
            output,
            max_batch,
            precision,
            kind,
        })
    }

    /// The shape planned for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Shape of an output image.
    pub fn output(&self) -> ActShape {
        self.output
    }

    /// Floats of weights packed for [`forward`](Self::forward).
    pub fn packed_forward_len(&self) -> usize {
        match &self.kind {
            Kind::Linear(_) => 0,
            Kind::Gemm(gemm) => gemm.forward.packed_len(),
            Kind::Depthwise(depthwise) => depthwise.packed_len(),
        }
    }

    /// Floats of weights packed for [`backward_data`](Self::backward_data).
    pub fn packed_backward_len(&self) -> usize {
        match &self.kind {
            Kind::Linear(_) => 0,
            Kind::Gemm(gemm) => gemm.backward.packed_len(),
            Kind::Depthwise(depthwise) => depthwise.packed_len(),
        }
    }

    /// Floats of scratch for [`backward_weights`](Self::backward_weights) and [`backward_bias`](Self::backward_bias) with
    /// batches up to the planned one. (The fixed chunks make it the same for every thread count.)
    pub fn weight_gradient_scratch_len(&self, _threads: usize) -> usize {
        let bias = reduce::channel_sums_scratch_len(self.max_batch, self.output);
        let weights = match &self.kind {
            Kind::Linear(_) => 0,
            Kind::Gemm(gemm) => match &gemm.weights {
                Gradient::Direct(direct) => direct.scratch_len(self.max_batch),
                Gradient::Winograd(winograd) => winograd.scratch_len(self.max_batch),
            },
            Kind::Depthwise(depthwise) => depthwise.scratch_len(self.max_batch),
        };
        weights.max(bias)
    }

    /// What [`forward`](Self::forward) takes: weights `[out][in / groups][kh][kw]` re-laid in `packed`
    /// ([`packed_forward_len`](Self::packed_forward_len) floats), or the weights themselves where it packs none.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn pack_forward<'a>(
        &self,
        ctx: &Context,
        weights: &'a [f32],
        packed: &'a mut [f32],
    ) -> &'a [f32] {
        self.check(ctx, 0);
        check_len("weights", weights, self.shape.weight_len());
        check_len("packed", packed, self.packed_forward_len());
        let taps = self.shape.taps();
        match &self.kind {
            Kind::Gemm(gemm) => {
                let depth = self.shape.input.c / self.shape.groups;
                let order = WeightOrder {
                    column: depth * taps,
                    depth: taps,
                    flip: false,
                };
                gemm.forward.pack(ctx, weights, order, packed);
            }
            Kind::Depthwise(depthwise) => depthwise.pack(weights, packed),
            Kind::Linear(_) => return weights,
        }
        packed
    }

    /// What [`backward_data`](Self::backward_data) takes: weights `[out][in / groups][kh][kw]` re-laid in `packed`
    /// ([`packed_backward_len`](Self::packed_backward_len) floats), or the weights themselves where it packs none.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn pack_backward<'a>(
        &self,
        ctx: &Context,
        weights: &'a [f32],
        packed: &'a mut [f32],
    ) -> &'a [f32] {
        self.check(ctx, 0);
        check_len("weights", weights, self.shape.weight_len());
        check_len("packed", packed, self.packed_backward_len());
        let taps = self.shape.taps();
        match &self.kind {
            Kind::Gemm(gemm) => {
                let depth = self.shape.input.c / self.shape.groups;
                let order = WeightOrder {
                    column: taps,
                    depth: depth * taps,
                    flip: true,
                };
                gemm.backward.pack(ctx, weights, order, packed);
            }
            Kind::Depthwise(depthwise) => depthwise.pack(weights, packed),
            Kind::Linear(_) => return weights,
        }
        packed
    }

    /// `y = x * weights`, and what the epilogue says; `packed` comes from [`pack_forward`](Self::pack_forward).
    ///
    /// # Panics
    ///
    /// When a slice is too short, or `n` exceeds the planned batch.
    pub fn forward(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        self.check(ctx, n);
        check_activation("x", x, n, self.shape.input);
        check_activation("y", y, n, self.output);
        check_len(
            "packed",
            packed,
            self.operand_len(self.packed_forward_len()),
        );
        if let Some(bias) = epilogue.bias {
            check_len("bias", bias, self.output.c);
        }
        if let Some(residual) = epilogue.residual {
            check_activation("residual", residual, n, self.output);
        }
        match &self.kind {
            Kind::Linear(linear) => linear.forward(ctx, n, x, packed, epilogue, y),
            Kind::Gemm(gemm) => gemm.forward.run(ctx, n, x, packed, epilogue, y),
            Kind::Depthwise(depthwise) => depthwise.forward(ctx, n, x, packed, epilogue, y),
        }
    }

    /// Gradient with respect to the input. Overwrites all of `dx`, also pixels no tap reaches (zero); `packed` comes from
    /// [`pack_backward`](Self::pack_backward).
    ///
    /// # Panics
    ///
    /// When a slice is too short, or `n` exceeds the planned batch.
    pub fn backward_data(
        &self,
        ctx: &Context,
        n: usize,
        dy: &[f32],
        packed: &[f32],
        dx: &mut [f32],
    ) {
        self.check_data_gradient(ctx, n, dy, packed, dx);
        match &self.kind {
            Kind::Linear(linear) => linear.backward_data(ctx, n, dy, packed, dx),
            Kind::Gemm(_) | Kind::Depthwise(_) => {
                self.transposed(ctx, n, dy, packed, Epilogue::default(), dx);
            }
        }
    }

    /// The transposed convolution: `y`, an input of this one, from `x`, an output of it. The data gradient of `x`, and what the
    /// epilogue says; `packed` comes from [`pack_backward`](Self::pack_backward).
    ///
    /// # Panics
    ///
    /// When a slice is too short, `n` exceeds the planned batch, or the plan is one [for training](Self::for_training) that packs no
    /// weights.
    pub fn transposed(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        self.check_data_gradient(ctx, n, x, packed, y);
        if let Some(bias) = epilogue.bias {
            check_len("bias", bias, self.shape.input.c);
        }
        if let Some(residual) = epilogue.residual {
            check_activation("residual", residual, n, self.shape.input);
        }
        match &self.kind {
            Kind::Linear(_) => panic!("a transposed convolution needs a plan for it"),
            Kind::Gemm(gemm) => gemm.backward.run(ctx, n, x, packed, epilogue, y),
            Kind::Depthwise(depthwise) => depthwise.transposed(ctx, n, x, packed, epilogue, y),
        }
    }

    #[track_caller]
    fn check_data_gradient(&self, ctx: &Context, n: usize, dy: &[f32], packed: &[f32], dx: &[f32]) {
        self.check(ctx, n);
        check_activation("dy", dy, n, self.output);
        check_activation("dx", dx, n, self.shape.input);
        check_len(
            "packed",
            packed,
            self.operand_len(self.packed_backward_len()),
        );
    }

    /// Gradient with respect to the weights, `[out][in / groups][kh][kw]`. Overwrites `dw`.
    ///
    /// # Panics
    ///
    /// When a slice is too short, or `n` exceeds the planned batch.
    pub fn backward_weights(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        dy: &[f32],
        scratch: &mut [f32],
        dw: &mut [f32],
    ) {
        self.check(ctx, n);
        check_activation("x", x, n, self.shape.input);
        check_activation("dy", dy, n, self.output);
        check_len("dw", dw, self.shape.weight_len());
        check_len(
            "scratch",
            scratch,
            self.weight_gradient_scratch_len(ctx.pool().threads()),
        );
        match &self.kind {
            Kind::Linear(linear) => linear.backward_weights(ctx, n, x, dy, dw),
            Kind::Gemm(gemm) => match &gemm.weights {
                Gradient::Direct(direct) => direct.run(ctx, n, x, dy, scratch, dw),
                Gradient::Winograd(winograd) => winograd.run(ctx, n, x, dy, scratch, dw),
            },
            Kind::Depthwise(depthwise) => depthwise.backward_weights(ctx, n, x, dy, scratch, dw),
        }
    }

    /// Gradient with respect to the bias: the sum of `dy` over images and pixels. Overwrites `db`.
    ///
    /// # Panics
    ///
    /// When a slice is too short, or `n` exceeds the planned batch.
    pub fn backward_bias(
        &self,
        ctx: &Context,
        n: usize,
        dy: &[f32],
        scratch: &mut [f32],
        db: &mut [f32],
    ) {
        self.check(ctx, n);
        reduce::channel_sums(ctx, n, self.output, dy, scratch, db);
    }

    /// Floats of weights, packed or not.
    fn operand_len(&self, packed: usize) -> usize {
        match self.kind {
            Kind::Linear(_) => self.shape.weight_len(),
            _ => packed,
        }
    }

    #[track_caller]
    fn check(&self, ctx: &Context, n: usize) {
        assert!(
            n <= self.max_batch,
            "a batch of {n} exceeds the planned {}",
            self.max_batch
        );
        // The instructions exist where a context has the precision.
        assert!(
            self.precision == Precision::F32 || self.precision == ctx.precision(),
            "a plan in {} needs a context with it",
            self.precision
        );
    }
}

#[cfg(test)]
mod tests;
