//! How exact the methods of a convolution are.

use super::*;
use crate::Isa;

/// Numbers in -1..1 from a seed.
fn random(seed: &mut u64, len: usize) -> Vec<f32> {
    let mut next = || {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Forward, data gradient and weight gradient of a plan.
fn run(
    plan: &ConvPlan,
    ctx: &Context,
    n: usize,
    x: &[f32],
    dy: &[f32],
    weights: &[f32],
) -> [Vec<f32>; 3] {
    let mut packed = vec![f32::NAN; plan.packed_forward_len()];
    let packed = plan.pack_forward(ctx, weights, &mut packed);
    let mut y = vec![0.0; plan.output.len(n)];
    plan.forward(ctx, n, x, packed, Epilogue::default(), &mut y);
    let mut packed = vec![f32::NAN; plan.packed_backward_len()];
    let packed = plan.pack_backward(ctx, weights, &mut packed);
    let mut dx = vec![0.0; plan.shape.input.len(n)];
    plan.backward_data(ctx, n, dy, packed, &mut dx);
    let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(1)];
    let mut dw = vec![0.0; weights.len()];
    plan.backward_weights(ctx, n, x, dy, &mut scratch, &mut dw);
    [y, dx, dw]
}

#[test]
fn the_error_of_winograd_is_a_few_times_the_direct_methods() {
    let ctx = Context::new(Isa::fastest(), 2).unwrap();
    compare_errors(&ctx, 4.0);
    match ctx.with_precision(Precision::Bf16) {
        Ok(ctx) => compare_errors(&ctx, 10.0),
        Err(error) => println!("not compared: {error}"),
    }
}

fn compare_errors(ctx: &Context, most: f64) {
    for (size, depth, width, n) in [(14, 32, 48, 2), (10, 200, 64, 1), (7, 256, 96, 3)] {
        let shape = ConvShape {
            input: ActShape::new(size, size, depth),
            out_channels: width,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1].into(),
            dilation: [1, 1],
            groups: 1,
        };
        let here = ConvPlan::for_training(&shape, 64, ctx).unwrap();
        let Kind::Gemm(gemm) = &here.kind else {
            panic!("a dense convolution")
        };
        assert!(matches!(gemm.forward, Method::Winograd(_)));
        assert!(matches!(gemm.backward, Method::Winograd(_)));
        assert!(matches!(gemm.weights, Gradient::Winograd(_)));
        let direct =
            ConvPlan::with_methods(&shape, n, ctx, ctx.precision(), |_, _, _, _, _| None).unwrap();
        let output = here.output;
        let (strides, pixels) = (
            (shape.input.image_stride(), output.image_stride()),
            size * size,
        );
        let mut seed = 5;
        let x = random(&mut seed, shape.input.len(n));
        let dy = random(&mut seed, output.len(n));
        let weights = random(&mut seed, shape.weight_len());
        let mut expected = [
            vec![0.0f64; output.len(n)],
            vec![0.0f64; shape.input.len(n)],
            vec![0.0f64; weights.len()],
        ];
        for image in 0..n {
            for (to, tap) in (0..pixels).flat_map(|to| (0..9).map(move |tap| (to, tap))) {
                let (row, column) = (to / size + tap / 3, to % size + tap % 3);
                if row == 0 || column == 0 || row > size || column > size {
                    continue;
                }
                let from = (row - 1) * size + column - 1;
                for o in 0..width {
                    let at_y = image * strides.1 + to * width + o;
                    for i in 0..depth {
                        let at_x = image * strides.0 + from * depth + i;
                        let at_w = (o * depth + i) * 9 + tap;
                        let [x, dy, w] = [x[at_x], dy[at_y], weights[at_w]].map(f64::from);
                        expected[0][at_y] += x * w;
                        expected[1][at_x] += dy * w;
                        expected[2][at_w] += x * dy;
                    }
                }
            }
        }
        let error = |plan: &ConvPlan| {
            let found = run(plan, ctx, n, &x, &dy, &weights);
            let lens = [
                output.image_stride(),
                shape.input.image_stride(),
                usize::MAX,
            ];
            let values = [output.values(), shape.input.values(), usize::MAX];
            [0, 1, 2].map(|pass| {
                let of = |&(i, _): &(usize, &f64)| i % lens[pass] < values[pass];
                let squares = expected[pass].iter().enumerate().filter(of);
                squares
                    .map(|(i, e)| f64::from(found[pass][i]) - e)
                    .map(|difference| difference * difference)
                    .sum::<f64>()
                    .sqrt()
            })
        };
        let (here, direct) = (error(&here), error(&direct));
        for (pass, (here, direct)) in here.iter().zip(direct).enumerate() {
            assert!(
                *here <= most * direct,
                "pass {pass} of {shape:?}: {here:e}, direct {direct:e}"
            );
        }
    }
}
