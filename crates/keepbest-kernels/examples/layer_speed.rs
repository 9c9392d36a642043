//! GB/s (bytes read and written once) of the kernels bound by memory: `cargo run --release --example layer_speed [threads] [channels]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod timing;

use keepbest_kernels::batch_norm::Upstream;
use keepbest_kernels::optim::{Sgd, Update, sgd};
use keepbest_kernels::{
    ActShape, Buffer, Context, Isa, PoolShape, activation, add, batch_norm, dropout,
};
use keepbest_kernels::{global_avg_pool, max_pool, relu};
use timing::time;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(1), |a| a.parse())?;
    let ctx = Context::new(Isa::detect()?, threads)?;
    let n = 64;
    let only: usize = std::env::args().nth(2).map_or(Ok(0), |a| a.parse())?;
    println!("{} with {threads} threads, batch {n}: GB/s (ms)", ctx.isa());
    for shape in [
        ActShape::new(28, 28, 32),
        ActShape::new(14, 14, 64),
        ActShape::new(32, 32, 64),
        ActShape::new(4, 4, 512),
    ] {
        if only != 0 && shape.c != only {
            continue;
        }
        println!("{shape:?}");
        let buffer = |seed: u32| {
            let mut state = seed;
            let mut buffer = Buffer::zeroed(shape.len(n));
            for v in buffer.iter_mut() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *v = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            }
            buffer
        };
        let (x, y, dy) = (buffer(1), buffer(2), buffer(3));
        let (mut out, mut out2) = (buffer(4), buffer(5));
        let c = shape.c;
        let (mut mean, mut var, ones) = (vec![0.0; c], vec![0.0; c], vec![1.0; c]);
        let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
        let mut scratch = vec![0.0; batch_norm::scratch_len(n, shape)];
        let bytes = (4 * n * shape.values()) as f64;
        let report = |name: &str, passes: f64, seconds: f64| {
            println!(
                "  {name:34}{:7.1} ({:7.3})",
                passes * bytes / seconds / 1e9,
                seconds * 1e3
            );
        };
        report("memcpy", 2.0, time(threads, || out.copy_from_slice(&x)));
        report(
            "relu",
            2.0,
            time(threads, || relu::forward(&ctx, &x, &mut out)),
        );
        report(
            "relu gradient",
            3.0,
            time(threads, || relu::backward(&ctx, &y, &dy, &mut out)),
        );
        report(
            "add relu",
            3.0,
            time(threads, || add::forward(&ctx, &x, &y, true, &mut out)),
        );
        report(
            "batch norm statistics",
            1.0,
            time(threads, || {
                batch_norm::statistics(&ctx, n, shape, &x, &mut scratch, &mut mean, &mut var);
            }),
        );
        report(
            "batch norm apply relu",
            2.0,
            time(threads, || {
                batch_norm::apply(&ctx, n, shape, &x, &ones, &mean, None, true, &mut out);
            }),
        );
        report(
            "batch norm apply residual relu",
            3.0,
            time(threads, || {
                batch_norm::apply(&ctx, n, shape, &x, &ones, &mean, Some(&dy), true, &mut out);
            }),
        );
        report(
            "batch norm gradient relu",
            7.0,
            time(threads, || {
                batch_norm::backward(
                    &ctx,
                    n,
                    shape,
                    &x,
                    Upstream::Output {
                        dy: &dy,
                        y: Some(&y),
                    },
                    &mean,
                    &ones,
                    &ones,
                    &mut scratch,
                    &mut dgamma,
                    &mut dbeta,
                    &mut out,
                    None,
                );
            }),
        );
        report(
            "batch norm gradient relu residual",
            8.0,
            time(threads, || {
                batch_norm::backward(
                    &ctx,
                    n,
                    shape,
                    &x,
                    Upstream::Output {
                        dy: &dy,
                        y: Some(&y),
                    },
                    &mean,
                    &ones,
                    &ones,
                    &mut scratch,
                    &mut dgamma,
                    &mut dbeta,
                    &mut out,
                    Some(&mut out2),
                );
            }),
        );
        for (name, kernel, stride, padding, passes) in [
            ("max pool 2x2", 2, 2, 0, 1.25 + 0.0625),
            ("max pool 3x3/2", 3, 2, 1, 1.25 + 0.0625),
        ] {
            let pool = PoolShape {
                input: shape,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [1, 1],
            };
            let output = pool.output()?;
            let (mut pooled, mut indices) = (
                Buffer::zeroed(output.len(n)),
                vec![0; max_pool::indices_len(n, output)],
            );
            report(
                name,
                passes,
                time(threads, || {
                    max_pool::forward(&ctx, n, &pool, &x, &mut pooled, Some(&mut indices))
                }),
            );
            report(
                &format!("{name} gradient"),
                passes,
                time(threads, || {
                    max_pool::backward(&ctx, n, &pool, &pooled, &indices, &mut out);
                }),
            );
        }
        let flat = ActShape::new(1, 1, c);
        let mut pooled = Buffer::zeroed(flat.len(n));
        report(
            "global average",
            1.0,
            time(threads, || {
                global_avg_pool::forward(&ctx, n, shape, &x, &mut pooled)
            }),
        );
        report(
            "global average gradient",
            1.0,
            time(threads, || {
                global_avg_pool::backward(&ctx, n, shape, &pooled, &mut out)
            }),
        );
        report(
            "dropout",
            2.0,
            time(threads, || {
                dropout::forward(&ctx, n, shape, 0.5, 1, &x, &mut out)
            }),
        );
        let dense = vec![1.0; n * shape.values()];
        report(
            "pack images",
            2.0,
            time(threads, || {
                activation::pack_images(&ctx, n, shape, &dense, &mut out)
            }),
        );
        let config = Sgd {
            learning_rate: 1e-3,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 5e-4,
            first_step: false,
            gradient_scale: 1.0,
        };
        report(
            "sgd with momentum",
            5.0,
            time(threads, || {
                sgd(
                    &ctx,
                    &config,
                    &x,
                    Update::InPlace(&mut out),
                    Some(Update::InPlace(&mut out2)),
                );
            }),
        );
    }
    Ok(())
}
