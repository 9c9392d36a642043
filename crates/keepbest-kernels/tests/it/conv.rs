//! Convolution: forward, data, weight and bias gradients.

use keepbest_kernels::{
    ActShape, Buffer, Context, ConvPlan, ConvShape, Epilogue, Isa, IsaError, Padding, Precision,
    ShapeError,
};
use proptest::prelude::*;

use crate::support::{Random, contexts, dense, fastest, same_everywhere, unwritten};

struct Problem {
    shape: ConvShape,
    output: ActShape,
    n: usize,
    x: Buffer,
    dy: Buffer,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Problem {
    fn new(shape: ConvShape, n: usize, bias: bool, seed: u64) -> Problem {
        let mut random = Random::new(seed);
        let output = shape.output().unwrap();
        Problem {
            shape,
            output,
            n,
            x: random.activation(n, shape.input),
            dy: random.activation(n, output),
            weights: random.values(shape.weight_len()),
            bias: bias.then(|| random.values(shape.out_channels)),
        }
    }

    /// Calls `visit(image, output pixel, output channel, input pixel, input channel, weight index)` for every product.
    fn products(&self, mut visit: impl FnMut(usize, usize, usize, usize, usize, usize)) {
        let s = &self.shape;
        let (depth, width) = (s.input.c / s.groups, s.out_channels / s.groups);
        for oy in 0..self.output.h {
            for ox in 0..self.output.w {
                for ky in 0..s.kernel[0] {
                    for kx in 0..s.kernel[1] {
                        let iy = (oy * s.stride[0] + ky * s.dilation[0]) as isize
                            - s.padding.before[0] as isize;
                        let ix = (ox * s.stride[1] + kx * s.dilation[1]) as isize
                            - s.padding.before[1] as isize;
                        if iy < 0 || ix < 0 || iy as usize >= s.input.h || ix as usize >= s.input.w
                        {
                            continue;
                        }
                        let from = iy as usize * s.input.w + ix as usize;
                        let to = oy * self.output.w + ox;
                        for image in 0..self.n {
                            for o in 0..s.out_channels {
                                let group = o / width;
                                for i in 0..depth {
                                    let weight =
                                        ((o * depth + i) * s.kernel[0] + ky) * s.kernel[1] + kx;
                                    visit(image, to, o, from, group * depth + i, weight);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Expected values, each with the sum of its squared terms and their number: a sum may cancel to nearly nothing, so
    /// errors are measured against what random terms would sum to.
    fn reference(&self) -> [Vec<(f64, f64, f64)>; 4] {
        let (s, out) = (&self.shape, self.output);
        let x: Vec<f64> = dense(self.n, s.input, &self.x)
            .into_iter()
            .map(f64::from)
            .collect();
        let dy: Vec<f64> = dense(self.n, out, &self.dy)
            .into_iter()
            .map(f64::from)
            .collect();
        let mut y = vec![(0.0, 0.0, 0.0); dy.len()];
        let mut dx = vec![(0.0, 0.0, 0.0); x.len()];
        let mut dw = vec![(0.0, 0.0, 0.0); self.weights.len()];
        let mut db = vec![(0.0, 0.0, 0.0); out.c];
        let add = |sum: &mut (f64, f64, f64), term: f64| {
            sum.0 += term;
            sum.1 += term * term;
            sum.2 += 1.0;
        };
        for (index, y) in y.iter_mut().enumerate() {
            if let Some(bias) = &self.bias {
                add(y, f64::from(bias[index % out.c]));
            }
            add(&mut db[index % out.c], dy[index]);
        }
        self.products(|image, to, o, from, i, weight| {
            let at_x = image * s.input.values() + from * s.input.c + i;
            let at_y = image * out.values() + to * out.c + o;
            let w = f64::from(self.weights[weight]);
            add(&mut y[at_y], w * x[at_x]);
            add(&mut dx[at_x], w * dy[at_y]);
            add(&mut dw[weight], x[at_x] * dy[at_y]);
        });
        [y, dx, dw, db]
    }

    /// Forward, data gradient, weight gradient, bias gradient.
    fn run(&self, ctx: &Context, max_batch: usize) -> [Vec<f32>; 4] {
        self.run_as(
            &ConvPlan::for_training(&self.shape, max_batch, ctx).unwrap(),
            ctx,
        )
    }

    fn run_as(&self, plan: &ConvPlan, ctx: &Context) -> [Vec<f32>; 4] {
        let mut packed = vec![f32::NAN; plan.packed_forward_len()];
        let packed = plan.pack_forward(ctx, &self.weights, &mut packed);
        let mut y = unwritten(self.n, self.output);
        plan.forward(
            ctx,
            self.n,
            &self.x,
            packed,
            self.bias.as_deref().into(),
            &mut y,
        );
        let mut packed = vec![f32::NAN; plan.packed_backward_len()];
        let packed = plan.pack_backward(ctx, &self.weights, &mut packed);
        let mut dx = unwritten(self.n, self.shape.input);
        plan.backward_data(ctx, self.n, &self.dy, packed, &mut dx);
        let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(ctx.pool().threads())];
        let mut dw = vec![f32::NAN; self.weights.len()];
        plan.backward_weights(ctx, self.n, &self.x, &self.dy, &mut scratch, &mut dw);
        let mut db = vec![f32::NAN; self.output.c];
        plan.backward_bias(ctx, self.n, &self.dy, &mut scratch, &mut db);
        [
            dense(self.n, self.output, &y),
            dense(self.n, self.shape.input, &dx),
            dw,
            db,
        ]
    }

    fn check(&self, ctx: &Context) {
        self.check_as(
            &ConvPlan::for_training(&self.shape, self.n + 2, ctx).unwrap(),
            ctx,
        );
        let input = self.shape.input;
        if self.shape.kernel == [input.h, input.w] {
            // A linear layer predicts in another way than it trains.
            self.check_as(&ConvPlan::new(&self.shape, self.n + 2, ctx).unwrap(), ctx);
        }
    }

    fn check_as(&self, plan: &ConvPlan, ctx: &Context) {
        let names = [
            "forward",
            "data gradient",
            "weight gradient",
            "bias gradient",
        ];
        let results = self.run_as(plan, ctx);
        for ((name, actual), expected) in names.iter().zip(results).zip(self.reference()) {
            let (mut error, mut scale) = (0.0, 0.0);
            for (&actual, &(expected, squares, _)) in actual.iter().zip(&expected) {
                error += (f64::from(actual) - expected).powi(2);
                scale += squares;
            }
            let relative = error.sqrt() / scale.sqrt().max(1e-30);
            // Rounding walks at random: the error of one sum grows with the root of its terms, and a lone sum may be
            // unlucky where the mean over many outputs is not.
            let terms = expected
                .iter()
                .map(|&(_, _, terms)| terms)
                .fold(0.0, f64::max);
            let half_ulp = match ctx.precision() {
                Precision::F32 => f64::from(f32::EPSILON) / 2.0,
                Precision::Bf16 => 1.0 / 256.0,
            };
            let luck = 4.0 * half_ulp * (terms / expected.len() as f64).sqrt();
            // In f32 about 8, in bf16 what Winograd's transforms make of the rounding.
            let bound = luck
                + match ctx.precision() {
                    Precision::F32 => 1e-6,
                    Precision::Bf16 => 6.0 * half_ulp,
                };
            let what = format!("{name} of {:?}, n {}", self.shape, self.n);
            assert!(
                relative < bound,
                "{what}: relative error {relative:e}, bound {bound:e}"
            );
        }
    }
}

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

/// The layers the nets are made of, small batches.
fn layers() -> Vec<(ConvShape, usize)> {
    vec![
        (conv([32, 32, 64], 64, 3, 1, 1), 2),
        (conv([16, 16, 128], 128, 3, 1, 1), 2),
        (conv([8, 8, 256], 64, 3, 1, 1), 3),
        (conv([4, 4, 512], 96, 3, 1, 1), 17),
        (conv([4, 3, 64], 80, 3, 1, 1), 70),
        (conv([32, 32, 3], 64, 3, 1, 1), 3),
        (conv([32, 32, 64], 128, 3, 2, 1), 2),
        (conv([32, 32, 64], 128, 1, 2, 0), 2),
        (conv([28, 28, 1], 32, 3, 1, 1), 5),
        (conv([14, 14, 32], 64, 3, 1, 1), 3),
        (conv([7, 7, 64], 128, 7, 1, 0), 16),
        (conv([1, 1, 512], 10, 1, 1, 0), 16),
        (conv([28, 28, 1], 6, 5, 1, 2), 3),
        (conv([14, 14, 6], 16, 5, 1, 0), 3),
        (conv([56, 56, 3], 64, 7, 2, 3), 2),
        (conv([2, 2, 40], 40, 3, 1, 1), 9),
        (conv([10, 9, 50], 50, 3, 1, 2), 3),
        (conv([14, 14, 100], 20, 3, 1, 0), 2),
    ]
}

#[test]
fn layers_of_the_nets_agree_with_f64() {
    let ctx = fastest();
    for (seed, (shape, n)) in layers().into_iter().enumerate() {
        Problem::new(shape, n, seed % 2 == 0, seed as u64).check(&ctx);
    }
}

/// Contexts of 1, 2, 3 and 8 threads that multiply in bf16; none where the processor cannot.
fn bf16_contexts() -> Vec<Context> {
    let contexts = [1, 2, 3, 8].map(|threads| {
        Context::new(Isa::fastest(), threads)
            .unwrap()
            .with_precision(Precision::Bf16)
    });
    match contexts.into_iter().collect() {
        Ok(contexts) => contexts,
        Err(error) => {
            assert!(!Precision::Bf16.is_available(Isa::fastest()), "{error}");
            println!("not tested: {error}");
            Vec::new()
        }
    }
}

#[test]
fn bf16_agrees_with_f64_within_its_rounding_and_does_not_depend_on_threads() {
    let mut shapes = layers();
    shapes.push((
        ConvShape {
            groups: 2,
            ..conv([6, 5, 40], 36, 3, 1, 1)
        },
        3,
    ));
    // Odd channels on either side stay in f32.
    shapes.push((conv([9, 7, 17], 34, 3, 1, 1), 2));
    shapes.push((conv([9, 7, 34], 17, 3, 2, 1), 1));
    shapes.push((conv([6, 9, 66], 70, 3, 1, 2), 5));
    let contexts = bf16_contexts();
    if contexts.is_empty() {
        return;
    }
    for (seed, (shape, n)) in shapes.into_iter().enumerate() {
        let problem = Problem::new(shape, n, seed % 2 == 0, seed as u64);
        problem.check(&contexts[1]);
        same_everywhere(&format!("{shape:?} in bf16"), &contexts, |ctx| {
            problem.run(ctx, n).concat()
        });
    }
}

#[test]
fn bf16_spreads_nan() {
    for ctx in bf16_contexts().into_iter().take(1) {
        for shape in [conv([8, 8, 32], 32, 3, 1, 1), conv([8, 8, 32], 32, 3, 2, 1)] {
            let mut problem = Problem::new(shape, 2, false, 3);
            problem.x.fill(f32::NAN);
            let [y, _, dw, _] = problem.run(&ctx, 2);
            assert!(y.iter().chain(&dw).all(|v| v.is_nan()), "{shape:?}");
        }
    }
}

#[test]
fn bf16_without_its_instructions_is_an_error() {
    let ctx = Context::new(Isa::Portable, 1).unwrap();
    let error = ctx.with_precision(Precision::Bf16).unwrap_err();
    assert!(matches!(error, IsaError::PrecisionUnavailable { .. }));
    assert_eq!(
        error.to_string(),
        "bf16 needs AVX-512 BF16, which portable on this processor does not give"
    );
}

/// Small enough for Miri: `cargo +nightly miri test -p keepbest-kernels tiny`.
#[test]
fn tiny_shapes_agree_with_f64() {
    let shapes = [
        (conv([5, 4, 3], 2, 3, 1, 1), 2),
        (conv([6, 5, 17], 3, 3, 2, 1), 1),
        (conv([2, 2, 3], 18, 2, 1, 0), 3),
        (conv([2, 2, 2], 2, 3, 1, 1), 2),
        (
            ConvShape {
                groups: 3,
                ..conv([4, 5, 3], 3, 3, 1, 1)
            },
            2,
        ),
        (
            ConvShape {
                groups: 2,
                dilation: [2, 1],
                ..conv([5, 5, 4], 2, 2, 1, 0)
            },
            2,
        ),
    ];
    for ctx in contexts().into_iter().take(2) {
        for (seed, (shape, n)) in shapes.into_iter().enumerate() {
            Problem::new(shape, n, true, seed as u64).check(&ctx);
        }
    }
}

#[test]
fn bits_are_the_same_on_every_instruction_set_and_thread_count() {
    let contexts = contexts();
    let mut shapes = vec![
        (conv([9, 17, 40], 50, 3, 1, 1), 3),
        (conv([12, 12, 3], 33, 3, 2, 1), 15),
        (conv([4, 4, 160], 40, 3, 1, 1), 17),
        (conv([5, 5, 20], 70, 5, 1, 0), 31),
        (conv([1, 1, 70], 10, 1, 1, 0), 16),
        (conv([28, 28, 1], 8, 3, 1, 1), 4),
        (conv([24, 24, 16], 16, 3, 1, 1), 1),
        (conv([8, 8, 300], 12, 3, 2, 1), 2),
        (conv([2, 2, 12], 20, 3, 1, 1), 9),
        (conv([8, 8, 130], 80, 3, 1, 1), 17),
        (conv([11, 6, 20], 34, 3, 1, 0), 5),
        (conv([6, 9, 64], 70, 3, 1, 2), 3),
    ];
    shapes.push((
        ConvShape {
            kernel: [3, 2],
            ..conv([3, 2, 500], 130, 1, 1, 0)
        },
        35,
    ));
    shapes.push((
        ConvShape {
            groups: 4,
            ..conv([10, 10, 8], 12, 3, 1, 1)
        },
        4,
    ));
    shapes.push((
        ConvShape {
            groups: 40,
            ..conv([10, 10, 40], 40, 3, 2, 1)
        },
        4,
    ));
    shapes.push((
        ConvShape {
            dilation: [2, 3],
            ..conv([14, 14, 5], 7, 3, 2, 3)
        },
        4,
    ));
    for (seed, (shape, n)) in shapes.into_iter().enumerate() {
        let problem = Problem::new(shape, n, true, 100 + seed as u64);
        same_everywhere(&format!("{shape:?}"), &contexts, |ctx| {
            problem.run(ctx, n).concat()
        });
    }
}

#[test]
fn an_epilogue_is_what_separate_passes_would_do() {
    let mut shapes = layers();
    shapes.push((
        ConvShape {
            groups: 40,
            ..conv([10, 10, 40], 40, 3, 2, 1)
        },
        4,
    ));
    // Segments of taps, some of which miss a region altogether.
    shapes.push((conv([9, 9, 130], 20, 7, 1, 3), 2));
    for (seed, (shape, n)) in shapes.into_iter().enumerate() {
        let problem = Problem::new(shape, n, true, seed as u64);
        let residual = Random::new(1000 + seed as u64).activation(n, problem.output);
        for (ctx, plan) in contexts().iter().step_by(2).flat_map(|ctx| {
            [ConvPlan::new, ConvPlan::for_training].map(|plan| (ctx, plan(&shape, n, ctx).unwrap()))
        }) {
            let mut packed = vec![f32::NAN; plan.packed_forward_len()];
            let packed = plan.pack_forward(ctx, &problem.weights, &mut packed);
            let forward = |epilogue| {
                let mut y = unwritten(n, problem.output);
                plan.forward(ctx, n, &problem.x, packed, epilogue, &mut y);
                dense(n, problem.output, &y)
            };
            let bias = problem.bias.as_deref();
            let plain = forward(bias.into());
            let residuals = dense(n, problem.output, &residual);
            for (residual, relu) in [
                (None, true),
                (Some(&*residual), false),
                (Some(&*residual), true),
            ] {
                let expected = plain.iter().zip(&residuals).map(|(&sum, &r)| {
                    let sum = if residual.is_some() { sum + r } else { sum };
                    if relu && sum < 0.0 { 0.0 } else { sum }
                });
                let found = forward(Epilogue {
                    bias,
                    residual,
                    relu,
                });
                assert_eq!(found, expected.collect::<Vec<_>>(), "{shape:?}");
            }
        }
    }
}

#[test]
fn the_planned_batch_does_not_change_the_bits_of_prediction() {
    let ctx = fastest();
    for (shape, n) in [
        (conv([32, 32, 8], 8, 3, 1, 1), 3),
        (conv([4, 4, 64], 40, 3, 1, 1), 5),
        (conv([16, 12, 64], 40, 3, 1, 1), 9),
    ] {
        let problem = Problem::new(shape, n, true, 7);
        let [few, many] = [n, 200].map(|batch| ConvPlan::new(&shape, batch, &ctx).unwrap());
        assert_eq!(problem.run_as(&few, &ctx), problem.run_as(&many, &ctx));
    }
}

#[test]
fn an_image_gives_the_same_bits_in_any_batch_of_prediction() {
    let ctx = fastest();
    for shape in [
        conv([8, 8, 48], 40, 3, 1, 1),
        conv([8, 8, 48], 40, 3, 2, 1),
        conv([4, 4, 48], 40, 4, 1, 0),
    ] {
        let problem = Problem::new(shape, 17, true, 9);
        let [seventeen, one] = [17, 1].map(|batch| ConvPlan::new(&shape, batch, &ctx).unwrap());
        let [all, dx, ..] = problem.run_as(&seventeen, &ctx);
        let problem = Problem { n: 1, ..problem };
        let [y, one_dx, ..] = problem.run_as(&one, &ctx);
        assert_eq!(y, all[..y.len()]);
        assert_eq!(one_dx, dx[..one_dx.len()]);
    }
}

#[test]
fn bad_shapes_are_errors() {
    let good = conv([8, 8, 6], 4, 3, 1, 1);
    assert!(matches!(
        ConvShape { groups: 4, ..good }.output(),
        Err(ShapeError::Groups { .. })
    ));
    assert!(matches!(
        ConvShape { groups: 0, ..good }.output(),
        Err(ShapeError::Zero { what: "groups" })
    ));
    assert!(matches!(
        ConvShape {
            kernel: [3, 11],
            ..good
        }
        .output(),
        Err(ShapeError::Window { .. })
    ));
    assert!(matches!(
        ConvShape {
            stride: [0, 1],
            ..good
        }
        .output(),
        Err(ShapeError::Zero { what: "stride" })
    ));
    let huge = ConvShape {
        input: ActShape::new(1 << 20, 1 << 20, 6),
        ..good
    };
    assert!(matches!(huge.output(), Err(ShapeError::TooLarge { .. })));
    assert!(matches!(
        ConvPlan::new(&good, 0, &fastest()),
        Err(ShapeError::Zero { what: "batch" })
    ));
}

#[test]
#[should_panic(expected = "x: ")]
fn a_short_slice_panics() {
    let ctx = fastest();
    let shape = conv([8, 8, 6], 4, 3, 1, 1);
    let plan = ConvPlan::new(&shape, 2, &ctx).unwrap();
    let packed = vec![0.0; plan.packed_forward_len()];
    let mut y = unwritten(2, plan.output());
    plan.forward(
        &ctx,
        2,
        &vec![0.0; shape.input.len(1)],
        &packed,
        Epilogue::default(),
        &mut y,
    );
}

prop_compose! {
    fn any_conv()(
        h in 1usize..14, w in 1usize..20, depth in 1usize..40, width in 1usize..40,
        kernel in [1usize..8, 1usize..8], stride in [1usize..4, 1usize..4], before in [0usize..4, 0usize..4], after in proptest::option::of([0usize..4, 0usize..4]),
        dilation in [1usize..3, 1usize..3], groups in 1usize..5, mode in 0..4,
    ) -> Option<ConvShape> {
        let (depth, width, groups) = match mode {
            0 => (1, 1, depth),
            1 => (depth.min(5), width.min(5), groups),
            _ => (depth, width, 1),
        };
        let input = ActShape::new(h, w, depth * groups);
        let padding = Padding { before, after: after.unwrap_or(before) };
        let shape = ConvShape { input, out_channels: width * groups, kernel, stride, padding, dilation, groups };
        shape.output().is_ok().then_some(shape)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_agrees_with_f64(shape in any_conv(), n in 1usize..18, bias: bool, seed: u64) {
        let Some(shape) = shape else { return Ok(()) };
        let problem = Problem::new(shape, n, bias, seed);
        problem.check(&fastest());
        if let Ok(ctx) = fastest().with_precision(Precision::Bf16) {
            problem.check(&ctx);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_the_same_bits_everywhere(shape in any_conv(), n in 1usize..18, seed: u64) {
        let Some(shape) = shape else { return Ok(()) };
        let problem = Problem::new(shape, n, true, seed);
        same_everywhere(&format!("{shape:?}"), &contexts(), |ctx| problem.run(ctx, n).concat());
    }
}
