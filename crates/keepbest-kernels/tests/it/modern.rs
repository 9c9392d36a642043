//! Activation functions, layer and group norm, gates, concatenation, adaptive pooling, stochastic depth: the same bits
//! everywhere. What they compute is compared with PyTorch in `keepbest-nn`, and here with each other and with formulas.

use keepbest_kernels::{
    ActShape, Context, Pointwise, adaptive_avg_pool, avg_pool, concat, dropout, gate,
    global_avg_pool, group_norm, layer_norm, pointwise,
};

use crate::support::{Random, assert_close, contexts, dense, fastest, same_everywhere, unwritten};

/// Shapes with one and many chunks, channels below, at and beyond whole vectors.
fn shapes() -> [(usize, ActShape); 4] {
    [
        (3, ActShape::new(5, 4, 6)),
        (2, ActShape::new(17, 13, 96)),
        (9, ActShape::new(1, 1, 50)),
        (2, ActShape::new(40, 33, 18)),
    ]
}

/// What `kernel` writes to an output of `shape`.
fn written(n: usize, shape: ActShape, kernel: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = unwritten(n, shape);
    kernel(&mut out);
    dense(n, shape, &out)
}

#[test]
fn activation_functions_have_the_same_bits_everywhere() {
    let mut random = Random::new(1);
    let x: Vec<f32> = random.values(70_001).iter().map(|v| v * 9.0).collect();
    let dy = random.values(x.len());
    for kind in [
        Pointwise::Relu6,
        Pointwise::Sigmoid,
        Pointwise::Silu,
        Pointwise::Hardsigmoid,
        Pointwise::Hardswish,
        Pointwise::Gelu,
    ] {
        same_everywhere(&format!("{kind:?}"), &contexts(), |ctx| {
            let mut both = vec![f32::NAN; 2 * x.len()];
            let (y, dx) = both.split_at_mut(x.len());
            pointwise::forward(ctx, kind, &x, y);
            pointwise::backward(ctx, kind, &x, &dy, dx);
            both
        });
    }
}

/// Output and all gradients of a norm.
fn norm(ctx: &Context, n: usize, shape: ActShape, groups: Option<usize>) -> Vec<f32> {
    let mut random = Random::new(7);
    let (x, dy) = (random.activation(n, shape), random.activation(n, shape));
    let (gamma, beta) = (random.values(shape.c), random.values(shape.c));
    let (mut dgamma, mut dbeta) = (vec![f32::NAN; shape.c], vec![f32::NAN; shape.c]);
    let y = written(n, shape, |y| match groups {
        None => layer_norm::forward(ctx, n, shape, &x, &gamma, &beta, 1e-5, y),
        Some(g) => group_norm::forward(ctx, n, shape, g, &x, &gamma, &beta, 1e-5, y),
    });
    let dx = written(n, shape, |dx| match groups {
        None => {
            let mut scratch = vec![f32::NAN; layer_norm::scratch_len(n, shape)];
            layer_norm::backward(
                ctx,
                n,
                shape,
                &x,
                &dy,
                &gamma,
                1e-5,
                &mut scratch,
                &mut dgamma,
                &mut dbeta,
                dx,
            );
        }
        Some(g) => {
            let mut scratch = vec![f32::NAN; group_norm::scratch_len(n, shape)];
            group_norm::backward(
                ctx,
                n,
                shape,
                g,
                &x,
                &dy,
                &gamma,
                1e-5,
                &mut scratch,
                &mut dgamma,
                &mut dbeta,
                dx,
            );
        }
    });
    [y, dx, dgamma, dbeta].concat()
}

#[test]
fn norms_have_the_same_bits_everywhere() {
    for (n, shape) in shapes() {
        for groups in [None, Some(1), Some(2), Some(shape.c)] {
            let what = format!("norm of {shape:?} in {groups:?}");
            same_everywhere(&what, &contexts(), |ctx| norm(ctx, n, shape, groups));
        }
    }
}

#[test]
fn group_norm_of_one_pixel_is_layer_norm() {
    let shape = ActShape::new(1, 1, 50);
    let [one, other] = [None, Some(1)].map(|groups| norm(&fastest(), 9, shape, groups));
    let other: Vec<f64> = other.into_iter().map(f64::from).collect();
    assert_close("layer norm", &one, &other, 1e-6);
}

#[test]
fn gates_and_concatenation_are_exact_everywhere() {
    for (n, shape) in shapes() {
        let mut random = Random::new(3);
        let pixel = ActShape::new(1, 1, shape.c);
        let (x, dy) = (random.activation(n, shape), random.activation(n, shape));
        let factors = random.activation(n, pixel);
        let y = same_everywhere("gate", &contexts(), |ctx| {
            written(n, shape, |y| gate::forward(ctx, n, shape, &x, &factors, y))
        });
        let (values, given) = (dense(n, shape, &x), dense(n, pixel, &factors));
        for (index, y) in y.iter().enumerate() {
            let (image, c) = (index / shape.values(), index % shape.c);
            assert_eq!(*y, values[index] * given[image * shape.c + c]);
        }
        let gradient = same_everywhere("gate gradient", &contexts(), |ctx| {
            written(n, pixel, |out| {
                gate::backward_factors(ctx, n, shape, &x, &dy, out)
            })
        });
        let upstream = dense(n, shape, &dy);
        let mut expected = vec![0.0; n * shape.c];
        for (index, (x, dy)) in values.iter().zip(&upstream).enumerate() {
            let (image, c) = (index / shape.values(), index % shape.c);
            expected[image * shape.c + c] += f64::from(*x) * f64::from(*dy);
        }
        assert_close("gate gradient", &gradient, &expected, 1e-6);

        let other = ActShape::new(shape.h, shape.w, 21);
        let z = random.activation(n, other);
        let joined = concat::joined(shape, other);
        let both = same_everywhere("concat", &contexts(), |ctx| {
            written(n, joined, |y| {
                concat::forward(ctx, n, (shape, &x), (other, &z), y)
            })
        });
        let tail = dense(n, other, &z);
        for (pixel, channels) in both.chunks(joined.c).enumerate() {
            let (a, b) = channels.split_at(shape.c);
            assert_eq!(a, &values[pixel * shape.c..][..shape.c]);
            assert_eq!(b, &tail[pixel * 21..][..21]);
        }
        let mut arena = unwritten(n, joined);
        concat::forward(&fastest(), n, (shape, &x), (other, &z), &mut arena);
        let apart = written(n, other, |dx| {
            concat::backward(&fastest(), n, (joined, &arena), shape.c, (other, dx));
        });
        assert_eq!(apart, tail);
    }
}

#[test]
fn adaptive_pooling_agrees_with_windows_where_they_divide() {
    let shape = ActShape::new(12, 8, 19);
    let x = Random::new(5).activation(3, shape);
    let adaptive = |ctx: &Context, to: [usize; 2]| {
        let out = ActShape::new(to[0], to[1], shape.c);
        let mut y = unwritten(3, out);
        adaptive_avg_pool::forward(ctx, 3, shape, to, &x, &mut y);
        let dx = written(3, shape, |dx| {
            adaptive_avg_pool::backward(ctx, 3, shape, to, &y, dx);
        });
        [dense(3, out, &y), dx].concat()
    };
    for to in [[1, 1], [3, 4], [5, 3], [7, 7], [13, 16]] {
        same_everywhere("adaptive pooling", &contexts(), |ctx| adaptive(ctx, to));
    }
    let ctx = fastest();
    let windows = keepbest_kernels::PoolShape {
        input: shape,
        kernel: [4, 2],
        stride: [4, 2],
        padding: [0, 0].into(),
        dilation: [1, 1],
        ceil_mode: false,
    };
    let out = ActShape::new(3, 4, shape.c);
    let expected = written(3, out, |y| {
        avg_pool::forward(&ctx, 3, &windows, true, &x, y)
    });
    assert_eq!(adaptive(&ctx, [3, 4])[..expected.len()], expected);
    let out = ActShape::new(1, 1, shape.c);
    let expected = written(3, out, |y| global_avg_pool::forward(&ctx, 3, shape, &x, y));
    assert_eq!(adaptive(&ctx, [1, 1])[..expected.len()], expected);
}

#[test]
fn stochastic_depth_drops_whole_images_at_its_rate() {
    let (n, shape) = (2000, ActShape::new(1, 2, 3));
    let x = Random::new(8).activation(n, shape);
    let y = same_everywhere("stochastic depth", &contexts(), |ctx| {
        written(n, shape, |y| {
            dropout::whole_images(ctx, n, shape, 0.25, 99, &x, y)
        })
    });
    let values = dense(n, shape, &x);
    let mut dropped = 0;
    for (x, y) in values.chunks(6).zip(y.chunks(6)) {
        if y.iter().all(|v| *v == 0.0) {
            dropped += 1;
        } else {
            let expected: Vec<f64> = x.iter().map(|v| f64::from(*v) / 0.75).collect();
            assert_close("a kept image", y, &expected, 1e-6);
        }
    }
    // Four standard deviations.
    assert!((420..580).contains(&dropped), "dropped {dropped}");
}
