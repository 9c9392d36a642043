//! GB/s (bytes read and written once) of the kernels bound by memory: `cargo run --release --example layer_speed [threads] [channels]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod timing;

use keepbest_kernels::batch_norm::Upstream;
use keepbest_kernels::optim::{Sgd, Update, sgd};
use keepbest_kernels::{
    ActShape, Buffer, Context, Isa, PoolShape, ShapeError, activation, add, batch_norm, dropout,
};
use keepbest_kernels::{global_avg_pool, max_pool, relu};
use timing::time;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(1), |a| a.parse())?;
    let ctx = Context::new(Isa::detect()?, threads)?;
    let only: usize = std::env::args().nth(2).map_or(Ok(0), |a| a.parse())?;
    println!(
        "{} with {threads} threads, batch {BATCH}: GB/s (ms)",
        ctx.isa()
    );
    for shape in [
        ActShape::new(28, 28, 32),
        ActShape::new(14, 14, 64),
        ActShape::new(32, 32, 64),
        ActShape::new(4, 4, 512),
    ] {
        if only == 0 || shape.c == only {
            println!("{shape:?}");
            let mut bench = Bench::new(&ctx, threads, shape);
            bench.relu_and_add();
            bench.batch_norm();
            bench.max_pool()?;
            bench.global_average();
            bench.dropout_and_packing();
            bench.sgd();
        }
    }
    Ok(())
}

const BATCH: usize = 64;

/// The kernels on activations of one shape.
struct Bench<'a> {
    ctx: &'a Context,
    threads: usize,
    shape: ActShape,
    x: Buffer,
    y: Buffer,
    dy: Buffer,
    out: Buffer,
    out2: Buffer,
}

impl<'a> Bench<'a> {
    fn new(ctx: &'a Context, threads: usize, shape: ActShape) -> Self {
        let buffer = |seed: u32| {
            let mut state = seed;
            let mut buffer = Buffer::zeroed(shape.len(BATCH));
            for v in buffer.iter_mut() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *v = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            }
            buffer
        };
        Self {
            ctx,
            threads,
            shape,
            x: buffer(1),
            y: buffer(2),
            dy: buffer(3),
            out: buffer(4),
            out2: buffer(5),
        }
    }

    /// Measures what passes so many times over an activation, and tells it.
    fn report(threads: usize, shape: ActShape, name: &str, passes: f64, run: impl FnMut()) {
        let bytes = (4 * BATCH * shape.values()) as f64;
        let seconds = time(threads, run);
        println!(
            "  {name:34}{:7.1} ({:7.3})",
            passes * bytes / seconds / 1e9,
            seconds * 1e3
        );
    }

    fn relu_and_add(&mut self) {
        let Self {
            ctx, x, y, dy, out, ..
        } = self;
        let report = |name: &str, passes, run: &mut dyn FnMut()| {
            Self::report(self.threads, self.shape, name, passes, run);
        };
        report("memcpy", 2.0, &mut || out.copy_from_slice(x));
        report("relu", 2.0, &mut || relu::forward(ctx, x, out));
        report("relu gradient", 3.0, &mut || {
            relu::backward(ctx, y, dy, out)
        });
        report("add relu", 3.0, &mut || add::forward(ctx, x, y, true, out));
    }

    fn batch_norm(&mut self) {
        let Self {
            ctx,
            x,
            y,
            dy,
            out,
            out2,
            ..
        } = self;
        let (n, shape, c) = (BATCH, self.shape, self.shape.c);
        let (mut mean, mut var, ones) = (vec![0.0; c], vec![0.0; c], vec![1.0; c]);
        let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
        let mut scratch = vec![0.0; batch_norm::scratch_len(n, shape)];
        let report = |name: &str, passes, run: &mut dyn FnMut()| {
            Self::report(self.threads, shape, name, passes, run);
        };
        report("batch norm statistics", 1.0, &mut || {
            batch_norm::statistics(ctx, n, shape, x, &mut scratch, &mut mean, &mut var);
        });
        report("batch norm apply relu", 2.0, &mut || {
            batch_norm::apply(ctx, n, shape, x, &ones, &mean, None, true, out);
        });
        report("batch norm apply residual relu", 3.0, &mut || {
            batch_norm::apply(ctx, n, shape, x, &ones, &mean, Some(dy), true, out);
        });
        let mut gradient = |residual: Option<&mut Buffer>| {
            batch_norm::backward(
                ctx,
                n,
                shape,
                x,
                Upstream::Output { dy, y: Some(y) },
                &mean,
                &ones,
                &ones,
                &mut scratch,
                &mut dgamma,
                &mut dbeta,
                out,
                residual.map(|buffer| &mut buffer[..]),
            );
        };
        report("batch norm gradient relu", 7.0, &mut || gradient(None));
        report("batch norm gradient relu residual", 8.0, &mut || {
            gradient(Some(out2));
        });
    }

    fn max_pool(&mut self) -> Result<(), ShapeError> {
        let Self { ctx, x, out, .. } = self;
        for (name, kernel, stride, padding) in
            [("max pool 2x2", 2, 2, 0), ("max pool 3x3/2", 3, 2, 1)]
        {
            let pool = PoolShape {
                input: self.shape,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2].into(),
                dilation: [1, 1],
                ceil_mode: false,
            };
            let output = pool.output()?;
            let mut pooled = Buffer::zeroed(output.len(BATCH));
            let mut indices = vec![0; max_pool::indices_len(BATCH, output)];
            let report = |name: &str, run: &mut dyn FnMut()| {
                Self::report(self.threads, self.shape, name, 1.25 + 0.0625, run);
            };
            report(name, &mut || {
                max_pool::forward(ctx, BATCH, &pool, x, &mut pooled, Some(&mut indices));
            });
            report(&format!("{name} gradient"), &mut || {
                max_pool::backward(ctx, BATCH, &pool, &pooled, &indices, out);
            });
        }
        Ok(())
    }

    fn global_average(&mut self) {
        let Self { ctx, x, out, .. } = self;
        let shape = self.shape;
        let mut pooled = Buffer::zeroed(ActShape::new(1, 1, shape.c).len(BATCH));
        let report = |name: &str, run: &mut dyn FnMut()| {
            Self::report(self.threads, shape, name, 1.0, run);
        };
        report("global average", &mut || {
            global_avg_pool::forward(ctx, BATCH, shape, x, &mut pooled);
        });
        report("global average gradient", &mut || {
            global_avg_pool::backward(ctx, BATCH, shape, &pooled, out);
        });
    }

    fn dropout_and_packing(&mut self) {
        let Self { ctx, x, out, .. } = self;
        let (threads, shape) = (self.threads, self.shape);
        Self::report(threads, shape, "dropout", 2.0, || {
            dropout::forward(ctx, BATCH, shape, 0.5, 1, x, out);
        });
        let dense = vec![1.0; BATCH * shape.values()];
        Self::report(threads, shape, "pack images", 2.0, || {
            activation::pack_images(ctx, BATCH, shape, &dense, out);
        });
    }

    fn sgd(&mut self) {
        let Self {
            ctx, x, out, out2, ..
        } = self;
        let config = Sgd {
            learning_rate: 1e-3,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 5e-4,
            first_step: false,
            gradient_scale: 1.0,
        };
        Self::report(self.threads, self.shape, "sgd with momentum", 5.0, || {
            let velocity = Some(Update::InPlace(out2));
            sgd(ctx, &config, x, Update::InPlace(out), velocity);
        });
    }
}
