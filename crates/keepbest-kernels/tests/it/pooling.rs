//! Max, average and global average pooling.

use keepbest_kernels::{
    ActShape, Context, Padding, PoolShape, ShapeError, avg_pool, global_avg_pool, max_pool,
};
use proptest::prelude::*;

use crate::support::{Random, assert_close, contexts, dense, fastest, same_everywhere, unwritten};

/// Input coordinates of a window's cells, and whether each lies inside: `visit(cell, Some((y, x)) or None)`.
fn cells(
    s: &PoolShape,
    oy: usize,
    ox: usize,
) -> impl Iterator<Item = (usize, Option<(usize, usize)>)> + '_ {
    (0..s.kernel[0] * s.kernel[1]).map(move |cell| {
        let (ky, kx) = (cell / s.kernel[1], cell % s.kernel[1]);
        let y = (oy * s.stride[0] + ky * s.dilation[0])
            .checked_sub(s.padding.before[0])
            .filter(|&y| y < s.input.h);
        let x = (ox * s.stride[1] + kx * s.dilation[1])
            .checked_sub(s.padding.before[1])
            .filter(|&x| x < s.input.w);
        (cell, y.zip(x))
    })
}

fn outputs(n: usize, output: ActShape) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..n).flat_map(move |image| {
        (0..output.h).flat_map(move |oy| {
            (0..output.w).flat_map(move |ox| (0..output.c).map(move |c| (image, oy, ox, c)))
        })
    })
}

fn at(shape: ActShape, image: usize, y: usize, x: usize, c: usize) -> usize {
    image * shape.values() + (y * shape.w + x) * shape.c + c
}

fn max_pool_run(
    ctx: &Context,
    n: usize,
    s: &PoolShape,
    x: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let output = s.output().unwrap();
    let mut y = unwritten(n, output);
    let mut indices = vec![255u8; max_pool::indices_len(n, output)];
    max_pool::forward(ctx, n, s, x, &mut y, Some(&mut indices));
    let mut plain = unwritten(n, output);
    max_pool::forward(ctx, n, s, x, &mut plain, None);
    assert_eq!(dense(n, output, &plain), dense(n, output, &y));
    let mut dx = unwritten(n, s.input);
    max_pool::backward(ctx, n, s, dy, &indices, &mut dx);
    (dense(n, output, &y), dense(n, s.input, &dx))
}

prop_compose! {
    fn any_pool()(
        h in 1usize..14, w in 1usize..20, c in 1usize..50, kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4],
        before in [0usize..3, 0usize..3],
        after in proptest::option::of([0usize..3, 0usize..3]), ceil_mode: bool, dilation in [1usize..3, 1usize..3], tiled: bool,
    ) -> Option<PoolShape> {
        let padding = Padding { before, after: after.unwrap_or(before) };
        let mut shape = PoolShape { input: ActShape::new(h, w, c), kernel, stride, padding, dilation, ceil_mode };
        if tiled {
            shape = PoolShape { stride: kernel, padding: [0, 0].into(), dilation: [1, 1], ceil_mode: false, ..shape };
        }
        shape.output().is_ok().then_some(shape)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn max_pool_agrees_with_the_definition(shape in any_pool(), n in 1usize..6, coarse: bool, seed: u64) {
        let Some(s) = shape else { return Ok(()) };
        let output = s.output().unwrap();
        let mut random = Random::new(seed);
        let mut x = random.activation(n, s.input);
        if coarse {
            // Many equal values: the first must win.
            x.iter_mut().for_each(|v| *v = (*v * 2.0).round());
        }
        let dy = random.activation(n, output);
        let (y, dx) = max_pool_run(&fastest(), n, &s, &x, &dy);
        let (xs, dys) = (dense(n, s.input, &x), dense(n, output, &dy));
        let mut expected = vec![0.0f64; xs.len()];
        for (image, oy, ox, c) in outputs(n, output) {
            let mut best: Option<(f32, usize)> = None;
            for (_, source) in cells(&s, oy, ox) {
                let Some((iy, ix)) = source else { continue };
                let from = at(s.input, image, iy, ix, c);
                if best.is_none_or(|(value, _)| xs[from] > value) {
                    best = Some((xs[from], from));
                }
            }
            let to = at(output, image, oy, ox, c);
            // Dilated cells may all lie in the padding.
            let Some((value, from)) = best else {
                prop_assert_eq!(y[to], f32::NEG_INFINITY);
                continue;
            };
            prop_assert_eq!(y[to], value);
            expected[from] += f64::from(dys[to]);
        }
        assert_close("max pool gradient", &dx, &expected, 1e-6);
    }

    #[test]
    fn avg_pool_agrees_with_the_definition(shape in any_pool(), n in 1usize..6, include: bool, seed: u64) {
        let Some(s) = shape else { return Ok(()) };
        let output = s.output().unwrap();
        let mut random = Random::new(seed);
        let (x, dy) = (random.activation(n, s.input), random.activation(n, output));
        let run = |ctx: &Context| {
            let (mut y, mut dx) = (unwritten(n, output), unwritten(n, s.input));
            avg_pool::forward(ctx, n, &s, include, &x, &mut y);
            avg_pool::backward(ctx, n, &s, include, &dy, &mut dx);
            (dense(n, output, &y), dense(n, s.input, &dx))
        };
        let (y, dx) = run(&fastest());
        let (xs, dys) = (dense(n, s.input, &x), dense(n, output, &dy));
        let (mut expected, mut gradient) = (vec![0.0f64; y.len()], vec![0.0f64; xs.len()]);
        for (image, oy, ox, c) in outputs(n, output) {
            let inside: Vec<_> = cells(&s, oy, ox).filter_map(|(_, source)| source).collect();
            // PyTorch: what reaches past the padded border, as a last window of `ceil_mode` may, never counts.
            let within = |axis: usize, size: usize, at: usize| {
                let padded = s.padding.before[axis] + size + s.padding.after[axis];
                let cells = (padded - at * s.stride[axis]).div_ceil(s.dilation[axis]);
                s.kernel[axis].min(cells)
            };
            let padded = within(0, s.input.h, oy) * within(1, s.input.w, ox);
            let count = if include { padded } else { inside.len().max(1) } as f64;
            let to = at(output, image, oy, ox, c);
            for (iy, ix) in inside {
                let from = at(s.input, image, iy, ix, c);
                expected[to] += f64::from(xs[from]) / count;
                gradient[from] += f64::from(dys[to]) / count;
            }
        }
        assert_close("avg pool", &y, &expected, 1e-6);
        assert_close("avg pool gradient", &dx, &gradient, 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bits_are_the_same_everywhere(shape in any_pool(), n in 1usize..6, seed: u64) {
        let Some(s) = shape else { return Ok(()) };
        let output = s.output().unwrap();
        let mut random = Random::new(seed);
        let (x, dy) = (random.activation(n, s.input), random.activation(n, output));
        same_everywhere("pooling", &contexts(), |ctx| {
            let (mut all, dx) = max_pool_run(ctx, n, &s, &x, &dy);
            all.extend(dx);
            let (mut y, mut dx) = (unwritten(n, output), unwritten(n, s.input));
            avg_pool::forward(ctx, n, &s, true, &x, &mut y);
            avg_pool::backward(ctx, n, &s, true, &dy, &mut dx);
            all.extend(dense(n, output, &y));
            all.extend(dense(n, s.input, &dx));
            all
        });
    }
}

#[test]
fn nan_propagates_and_the_first_maximum_wins() {
    let s = PoolShape {
        input: ActShape::new(1, 6, 1),
        kernel: [1, 3],
        stride: [1, 3],
        padding: [0, 0].into(),
        dilation: [1, 1],
        ceil_mode: false,
    };
    let x = [f32::NEG_INFINITY; 3]
        .into_iter()
        .chain([1.0, f32::NAN, 2.0])
        .chain([0.0; 10])
        .collect::<Vec<_>>();
    let mut y = [0.0; 16];
    let mut indices = [9; 16];
    max_pool::forward(&fastest(), 1, &s, &x, &mut y, Some(&mut indices));
    assert_eq!(y[0], f32::NEG_INFINITY);
    assert_eq!(indices[0], 0);
    assert!(y[1].is_nan());
    assert_eq!(indices[1], 1);
}

/// Small enough for Miri.
#[test]
fn tiny_pools_route_the_gradient_to_the_maximum() {
    let contexts: Vec<_> = contexts().into_iter().take(2).collect();
    for (padding, stride) in [(0, 2), (1, 1)] {
        let input = ActShape::new(4, 3, 17);
        let s = PoolShape {
            input,
            kernel: [2; 2],
            stride: [stride; 2],
            padding: [padding; 2].into(),
            dilation: [1; 2],
            ceil_mode: false,
        };
        let output = s.output().unwrap();
        let mut random = Random::new(3);
        let (x, dy) = (random.activation(2, input), random.activation(2, output));
        let dx = same_everywhere("max pool", &contexts, |ctx| {
            max_pool_run(ctx, 2, &s, &x, &dy).1
        });
        let total: f64 = dense(2, output, &dy).into_iter().map(f64::from).sum();
        assert!((dx.into_iter().map(f64::from).sum::<f64>() - total).abs() < 1e-4);
    }
}

#[test]
fn global_average() {
    let (n, shape) = (5, ActShape::new(7, 5, 37));
    let flat = ActShape::new(1, 1, 37);
    let mut random = Random::new(5);
    let (x, dy) = (random.activation(n, shape), random.activation(n, flat));
    let both = same_everywhere("global average", &contexts(), |ctx| {
        let (mut y, mut dx) = (unwritten(n, flat), unwritten(n, shape));
        global_avg_pool::forward(ctx, n, shape, &x, &mut y);
        global_avg_pool::backward(ctx, n, shape, &dy, &mut dx);
        [dense(n, flat, &y), dense(n, shape, &dx)].concat()
    });
    let (xs, dys) = (dense(n, shape, &x), dense(n, flat, &dy));
    let mut expected = vec![0.0; n * 37];
    for (index, &v) in xs.iter().enumerate() {
        expected[index / shape.values() * 37 + index % 37] += f64::from(v) / 35.0;
    }
    assert_close("global average", &both[..n * 37], &expected, 1e-6);
    let gradient: Vec<f64> = (0..xs.len())
        .map(|i| f64::from(dys[i / shape.values() * 37 + i % 37]) / 35.0)
        .collect();
    assert_close("global average gradient", &both[n * 37..], &gradient, 1e-6);
}

#[test]
fn bad_windows_are_errors() {
    let s = PoolShape {
        input: ActShape::new(8, 8, 3),
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0].into(),
        dilation: [1, 1],
        ceil_mode: false,
    };
    assert!(matches!(
        PoolShape {
            padding: [2, 0].into(),
            ..s
        }
        .output(),
        Err(ShapeError::PoolPadding {
            padding: 2,
            kernel: 2
        })
    ));
    assert!(matches!(
        PoolShape {
            kernel: [2, 9],
            ..s
        }
        .output(),
        Err(ShapeError::Window { axis: "wide", .. })
    ));
}
