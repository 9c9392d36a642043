//! Convolution, and linear layers as convolutions whose kernel is the whole map.

mod axis;
mod depthwise;
mod direct;
mod weight_gradient;

use crate::batch_norm::{add_wide, sum_span};
use crate::chunks::{PixelChunks, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::shape::window_output;
use crate::{ActShape, Context, ShapeError};

use axis::Axis;
use depthwise::Depthwise;
use direct::Direct;
use weight_gradient::WeightGradient;

/// Shape of a convolution (PyTorch's `Conv2d`); axes are `[height, width]`.
///
/// A linear layer on a flattened `h x w x c` map is the convolution with a kernel of `[h, w]`, no padding and stride 1: its
/// weights `[out, c * h * w]` are then `[out][c][h][w]`.
///
/// ```
/// use keepbest_kernels::{ActShape, ConvShape};
/// let shape = ConvShape {
///     input: ActShape::new(32, 32, 3),
///     out_channels: 64,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// assert_eq!(shape.output()?, ActShape::new(16, 16, 64));
/// assert_eq!(shape.weight_len(), 64 * 3 * 3 * 3);
/// # Ok::<(), keepbest_kernels::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Shape of an input image.
    pub input: ActShape,
    /// Channels of the output.
    pub out_channels: usize,
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Step from output pixel to output pixel.
    pub stride: [usize; 2],
    /// Zeros around the input, on each side.
    pub padding: [usize; 2],
    /// Distance between the kernel's taps (1: adjacent).
    pub dilation: [usize; 2],
    /// Independent groups of channels.
    pub groups: usize,
}

impl ConvShape {
    /// Shape of an output image.
    ///
    /// # Errors
    ///
    /// When a size is zero or too large, the groups do not divide the channels, or the kernel does not fit the padded input.
    pub fn output(&self) -> Result<ActShape, ShapeError> {
        self.input.check("convolution input")?;
        if self.groups == 0 {
            return Err(ShapeError::Zero { what: "groups" });
        }
        for (what, channels) in [("input", self.input.c), ("output", self.out_channels)] {
            if !channels.is_multiple_of(self.groups) {
                return Err(ShapeError::Groups {
                    what,
                    channels,
                    groups: self.groups,
                });
            }
        }
        let axis = |name, axis: usize, input| {
            window_output(
                name,
                input,
                self.kernel[axis],
                self.stride[axis],
                self.padding[axis],
                self.dilation[axis],
            )
        };
        let output = ActShape::new(
            axis("high", 0, self.input.h)?,
            axis("wide", 1, self.input.w)?,
            self.out_channels,
        );
        output.check("convolution output")?;
        let weights = [
            self.out_channels,
            self.input.c / self.groups,
            self.kernel[0],
            self.kernel[1],
        ];
        if weights.iter().map(|&v| v as u128).product::<u128>() > u128::from(u32::MAX >> 2) {
            return Err(ShapeError::TooLarge {
                what: "convolution kernel",
            });
        }
        Ok(output)
    }

    /// Weights: `out_channels * (channels / groups) * kernel_h * kernel_w`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.input.c / self.groups) * self.taps()
    }

    /// Floating-point operations of one pass over one image, padding counted as if it were computed (the usual convention).
    pub fn flops_per_image(&self) -> u64 {
        self.output().map_or(0, |output| {
            2 * output.pixels() as u64 * self.weight_len() as u64
        })
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn axes(&self, output: ActShape) -> [Axis; 2] {
        let axis = |axis: usize, input, output| Axis {
            input,
            output,
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            dilation: self.dilation[axis],
        };
        [
            axis(0, self.input.h, output.h),
            axis(1, self.input.w, output.w),
        ]
    }
}

/// A convolution made ready for its shape: which taps meet which pixels, tiles, packing, chunks.
///
/// Nothing is allocated after `new`. Every method takes the batch `n`, at most the planned one. Neither the planned batch, nor
/// the threads, nor the instruction set change a bit of the results.
///
/// ```
/// use keepbest_kernels::{ActShape, Buffer, Context, ConvPlan, ConvShape, Isa};
/// let ctx = Context::new(Isa::detect()?, 1)?;
/// let shape = ConvShape {
///     input: ActShape::new(4, 4, 1),
///     out_channels: 2,
///     kernel: [3, 3],
///     stride: [1, 1],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let plan = ConvPlan::new(&shape, 8, &ctx)?;
/// let mut packed = Buffer::zeroed(plan.packed_forward_len());
/// plan.pack_forward(&ctx, &vec![1.0; shape.weight_len()], &mut packed);
/// let x = vec![1.0; shape.input.len(1)];
/// let mut y = Buffer::zeroed(plan.output().len(1));
/// plan.forward(&ctx, 1, &x, &packed, Some(&[0.5, 0.0]), &mut y);
/// // The corner sees 4 pixels, the pixel beside it 6; two channels each.
/// assert_eq!(y[..4], [4.5, 4.0, 6.5, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConvPlan {
    shape: ConvShape,
    output: ActShape,
    max_batch: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Gemm(Box<Gemm>),
    Depthwise(Box<Depthwise>),
}

#[derive(Debug)]
struct Gemm {
    forward: Direct,
    backward: Direct,
    weights: WeightGradient,
}

impl ConvPlan {
    /// Plans for batches of up to `max_batch` images.
    ///
    /// # Errors
    ///
    /// As [`ConvShape::output`], or [`ShapeError::Zero`] for an empty batch.
    pub fn new(shape: &ConvShape, max_batch: usize, ctx: &Context) -> Result<ConvPlan, ShapeError> {
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
            let runs = axes.each_ref().map(Axis::forward_runs);
            let forward = Direct::new(
                shape.input,
                output,
                shape.groups,
                depth,
                width,
                shape.kernel,
                &runs,
            );
            let runs = axes.each_ref().map(Axis::backward_runs);
            let backward = Direct::new(
                output,
                shape.input,
                shape.groups,
                width,
                depth,
                shape.kernel,
                &runs,
            );
            let weights = WeightGradient::new(shape, output, &axes, ctx.isa());
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
            Kind::Gemm(gemm) => gemm.forward.packed_len(),
            Kind::Depthwise(depthwise) => depthwise.packed_len(),
        }
    }

    /// Floats of weights packed for [`backward_data`](Self::backward_data).
    pub fn packed_backward_len(&self) -> usize {
        match &self.kind {
            Kind::Gemm(gemm) => gemm.backward.packed_len(),
            Kind::Depthwise(depthwise) => depthwise.packed_len(),
        }
    }

    /// Floats of scratch for [`backward_weights`](Self::backward_weights) and [`backward_bias`](Self::backward_bias) with
    /// batches up to the planned one. (The fixed chunks make it the same for every thread count.)
    pub fn weight_gradient_scratch_len(&self, _threads: usize) -> usize {
        let bias = PixelChunks::new(self.max_batch, self.output).count() * self.output.c;
        let weights = match &self.kind {
            Kind::Gemm(gemm) => gemm.weights.scratch_len(self.max_batch),
            Kind::Depthwise(depthwise) => depthwise.scratch_len(self.max_batch),
        };
        weights.max(bias)
    }

    /// Re-lays weights `[out][in / groups][kh][kw]` for [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn pack_forward(&self, ctx: &Context, weights: &[f32], packed: &mut [f32]) {
        check_len("weights", weights, self.shape.weight_len());
        check_len("packed", packed, self.packed_forward_len());
        let taps = self.shape.taps();
        match &self.kind {
            Kind::Gemm(gemm) => {
                let depth = self.shape.input.c / self.shape.groups;
                gemm.forward
                    .pack(ctx, weights, depth * taps, taps, false, packed);
            }
            Kind::Depthwise(depthwise) => depthwise.pack(weights, packed),
        }
    }

    /// Re-lays weights `[out][in / groups][kh][kw]` for [`backward_data`](Self::backward_data).
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn pack_backward(&self, ctx: &Context, weights: &[f32], packed: &mut [f32]) {
        check_len("weights", weights, self.shape.weight_len());
        check_len("packed", packed, self.packed_backward_len());
        let taps = self.shape.taps();
        match &self.kind {
            Kind::Gemm(gemm) => {
                let depth = self.shape.input.c / self.shape.groups;
                gemm.backward
                    .pack(ctx, weights, taps, depth * taps, true, packed);
            }
            Kind::Depthwise(depthwise) => depthwise.pack(weights, packed),
        }
    }

    /// `y = x * weights (+ bias)`; `packed` comes from [`pack_forward`](Self::pack_forward).
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
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        self.check_batch(n);
        check_activation("x", x, n, self.shape.input);
        check_activation("y", y, n, self.output);
        check_len("packed", packed, self.packed_forward_len());
        if let Some(bias) = bias {
            check_len("bias", bias, self.output.c);
        }
        match &self.kind {
            Kind::Gemm(gemm) => gemm.forward.run(ctx, n, x, packed, bias, y),
            Kind::Depthwise(depthwise) => depthwise.forward(ctx, n, x, packed, bias, y),
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
        self.check_batch(n);
        check_activation("dy", dy, n, self.output);
        check_activation("dx", dx, n, self.shape.input);
        check_len("packed", packed, self.packed_backward_len());
        match &self.kind {
            Kind::Gemm(gemm) => gemm.backward.run(ctx, n, dy, packed, None, dx),
            Kind::Depthwise(depthwise) => depthwise.backward_data(ctx, n, dy, packed, dx),
        }
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
        self.check_batch(n);
        check_activation("x", x, n, self.shape.input);
        check_activation("dy", dy, n, self.output);
        check_len("dw", dw, self.shape.weight_len());
        check_len(
            "scratch",
            scratch,
            self.weight_gradient_scratch_len(ctx.pool().threads()),
        );
        match &self.kind {
            Kind::Gemm(gemm) => gemm.weights.run(ctx, n, x, dy, scratch, dw),
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
        self.check_batch(n);
        let c = self.output.c;
        check_activation("dy", dy, n, self.output);
        check_len("db", db, c);
        let chunks = PixelChunks::new(n, self.output);
        check_len("scratch", scratch, chunks.count() * c);
        let partials = Disjoint::new(scratch);
        ctx.pool().run(chunks.count(), &|chunk, _| {
            // SAFETY: each task takes its own chunk's part.
            let sum = unsafe { partials.part(chunk * c, c) };
            sum.fill(0.0);
            for span in chunks.spans(chunk) {
                sum_span(ctx.isa(), &dy[span], sum);
            }
        });
        const WIDTH: usize = 64;
        for first in (0..c).step_by(WIDTH) {
            let width = WIDTH.min(c - first);
            let mut sum = [0.0f64; WIDTH];
            for part in scratch[..chunks.count() * c].chunks_exact(c) {
                add_wide(ctx.isa(), &part[first..first + width], &mut sum[..width]);
            }
            for (db, sum) in db[first..first + width].iter_mut().zip(sum) {
                *db = sum as f32;
            }
        }
    }

    #[track_caller]
    fn check_batch(&self, n: usize) {
        assert!(
            n <= self.max_batch,
            "a batch of {n} exceeds the planned {}",
            self.max_batch
        );
    }
}
