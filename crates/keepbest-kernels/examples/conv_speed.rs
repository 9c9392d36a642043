//! GFLOP/s of each pass of the convolutions in common nets: `cargo run --release --example conv_speed [threads] [filter] [batch] [f32|bf16]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod timing;

use keepbest_kernels::{ActShape, Buffer, Context, ConvPlan, ConvShape, Epilogue, Isa, Precision};
use timing::time;

fn conv(
    input: [usize; 3],
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> ConvShape {
    ConvShape {
        input: ActShape::new(input[0], input[1], input[2]),
        out_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2].into(),
        dilation: [1; 2],
        groups: 1,
    }
}

fn depthwise(input: [usize; 3], stride: usize) -> ConvShape {
    ConvShape {
        groups: input[2],
        ..conv(input, input[2], 3, stride, 1)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(1), |a| a.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let n: usize = arguments.next().map_or(Ok(64), |a| a.parse())?;
    let precision = arguments.next().map_or(Ok(Precision::F32), |a| a.parse())?;
    let ctx = Context::new(Isa::detect()?, threads)?.with_precision(precision)?;
    let layers = [
        ("64x32x32 3x3 -> 64", conv([32, 32, 64], 64, 3, 1, 1)),
        ("128x16x16 3x3 -> 128", conv([16, 16, 128], 128, 3, 1, 1)),
        ("256x8x8 3x3 -> 256", conv([8, 8, 256], 256, 3, 1, 1)),
        ("512x4x4 3x3 -> 512", conv([4, 4, 512], 512, 3, 1, 1)),
        ("3x32x32 3x3 -> 64", conv([32, 32, 3], 64, 3, 1, 1)),
        ("64x32x32 3x3/2 -> 128", conv([32, 32, 64], 128, 3, 2, 1)),
        ("256x8x8 3x3/2 -> 512", conv([8, 8, 256], 512, 3, 2, 1)),
        ("64x32x32 1x1/2 -> 128", conv([32, 32, 64], 128, 1, 2, 0)),
        ("256x8x8 1x1/2 -> 512", conv([8, 8, 256], 512, 1, 2, 0)),
        ("1x28x28 3x3 -> 32", conv([28, 28, 1], 32, 3, 1, 1)),
        ("32x14x14 3x3 -> 64", conv([14, 14, 32], 64, 3, 1, 1)),
        ("32x56x56 3x3 depthwise", depthwise([56, 56, 32], 1)),
        ("256x14x14 3x3 depthwise", depthwise([14, 14, 256], 1)),
        (
            "128x14x14 3x3 32 groups",
            ConvShape {
                groups: 32,
                ..conv([14, 14, 128], 128, 3, 1, 1)
            },
        ),
        ("linear 3136 -> 128", conv([7, 7, 64], 128, 7, 1, 0)),
        ("linear 128 -> 10", conv([1, 1, 128], 10, 1, 1, 0)),
    ];
    println!(
        "{} with {threads} threads, batch {n}: GFLOP/s (ms)",
        ctx.isa()
    );
    println!(
        "{:24}{:>18}{:>18}{:>18}",
        "layer", "forward", "data gradient", "weight gradient"
    );
    for (name, shape) in layers {
        if !name.contains(&filter) {
            continue;
        }
        let plan = ConvPlan::for_training(&shape, n, &ctx)?;
        let mut seed = 1u32;
        let mut fill = |len: usize| {
            let mut buffer = Buffer::zeroed(len);
            for v in buffer.iter_mut() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *v = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
            }
            buffer
        };
        let (x, dy) = (fill(shape.input.len(n)), fill(plan.output().len(n)));
        let weights = fill(shape.weight_len());
        let (mut y, mut dx) = (fill(plan.output().len(n)), fill(shape.input.len(n)));
        let (mut forward, mut backward) = (
            fill(plan.packed_forward_len()),
            fill(plan.packed_backward_len()),
        );
        let (mut scratch, mut dw) = (
            fill(plan.weight_gradient_scratch_len(threads)),
            fill(shape.weight_len()),
        );
        let forward = plan.pack_forward(&ctx, &weights, &mut forward);
        let backward = plan.pack_backward(&ctx, &weights, &mut backward);
        let flops = shape.flops_per_image() as f64 * n as f64;
        let seconds = [
            time(threads, || {
                plan.forward(&ctx, n, &x, forward, Epilogue::default(), &mut y)
            }),
            time(threads, || {
                plan.backward_data(&ctx, n, &dy, backward, &mut dx)
            }),
            time(threads, || {
                plan.backward_weights(&ctx, n, &x, &dy, &mut scratch, &mut dw)
            }),
        ];
        print!("{name:24}");
        for s in seconds {
            print!("{:>8.1} ({:7.3})", flops / s / 1e9, s * 1e3);
        }
        println!();
    }
    Ok(())
}
