//! Batch norm: statistics, application, gradients.

use keepbest_kernels::batch_norm::Upstream;
use keepbest_kernels::{ActShape, Buffer, Context, PoolShape, batch_norm, max_pool};
use proptest::prelude::*;

use crate::support::{
    Random, assert_close, bits, contexts, dense, fastest, same_everywhere, unwritten,
};

struct Problem {
    n: usize,
    shape: ActShape,
    x: Buffer,
    y: Buffer,
    dy: Buffer,
    gamma: Vec<f32>,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
}

impl Problem {
    fn new(n: usize, shape: ActShape, offset: f32, seed: u64) -> Problem {
        let mut random = Random::new(seed);
        let mut x = random.activation(n, shape);
        x.iter_mut().for_each(|v| *v += offset);
        let mut problem = Problem {
            n,
            shape,
            x,
            y: random.activation(n, shape),
            dy: random.activation(n, shape),
            gamma: random.values(shape.c),
            mean: vec![],
            inv_std: vec![],
        };
        let (mean, var) = problem.moments();
        problem.mean = mean.iter().map(|&m| m as f32).collect();
        problem.inv_std = var
            .iter()
            .map(|&v| (1.0 / (v + 1e-5).sqrt()) as f32)
            .collect();
        problem
    }

    fn count(&self) -> f64 {
        (self.n * self.shape.pixels()) as f64
    }

    /// Sum over images and pixels of `term(dense index)`, per channel.
    fn per_channel(&self, mut term: impl FnMut(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.shape.c];
        for index in 0..self.n * self.shape.values() {
            sums[index % self.shape.c] += term(index);
        }
        sums
    }

    fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let x = dense(self.n, self.shape, &self.x);
        let mean: Vec<f64> = self
            .per_channel(|i| f64::from(x[i]))
            .iter()
            .map(|s| s / self.count())
            .collect();
        let var = self.per_channel(|i| (f64::from(x[i]) - mean[i % self.shape.c]).powi(2));
        (mean, var.iter().map(|s| s / self.count()).collect())
    }

    fn statistics(&self, ctx: &Context) -> (Vec<f32>, Vec<f32>) {
        let c = self.shape.c;
        let mut scratch = vec![f32::NAN; batch_norm::scratch_len(self.n, self.shape)];
        let (mut mean, mut var) = (vec![f32::NAN; c], vec![f32::NAN; c]);
        batch_norm::statistics(
            ctx,
            self.n,
            self.shape,
            &self.x,
            &mut scratch,
            &mut mean,
            &mut var,
        );
        (mean, var)
    }

    fn apply(&self, ctx: &Context, residual: bool, relu: bool) -> Vec<f32> {
        let mut y = unwritten(self.n, self.shape);
        let residual = residual.then_some(&self.dy[..]);
        batch_norm::apply(
            ctx,
            self.n,
            self.shape,
            &self.x,
            &self.gamma,
            &self.mean,
            residual,
            relu,
            &mut y,
        );
        dense(self.n, self.shape, &y)
    }

    /// dgamma, dbeta, dx, dresidual.
    fn backward(&self, ctx: &Context, relu: bool, frozen: bool) -> [Vec<f32>; 4] {
        let c = self.shape.c;
        let mut scratch = vec![f32::NAN; batch_norm::scratch_len(self.n, self.shape)];
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; c], vec![f32::NAN; c]);
        let (mut dx, mut dresidual) =
            (unwritten(self.n, self.shape), unwritten(self.n, self.shape));
        let call = if frozen {
            batch_norm::backward_frozen
        } else {
            batch_norm::backward
        };
        call(
            ctx,
            self.n,
            self.shape,
            &self.x,
            Upstream::Output {
                dy: &self.dy,
                y: relu.then_some(&self.y[..]),
            },
            &self.mean,
            &self.inv_std,
            &self.gamma,
            &mut scratch,
            &mut dgamma,
            &mut dbeta,
            &mut dx,
            Some(&mut dresidual),
        );
        [
            dgamma,
            dbeta,
            dense(self.n, self.shape, &dx),
            dense(self.n, self.shape, &dresidual),
        ]
    }

    fn backward_reference(&self, relu: bool, frozen: bool) -> [Vec<f64>; 4] {
        let c = self.shape.c;
        let x = dense(self.n, self.shape, &self.x);
        let y = dense(self.n, self.shape, &self.y);
        let dy = dense(self.n, self.shape, &self.dy);
        let masked: Vec<f64> = dy
            .iter()
            .zip(&y)
            .map(|(&dy, &y)| if relu && y <= 0.0 { 0.0 } else { f64::from(dy) })
            .collect();
        let normal = |i: usize| {
            (f64::from(x[i]) - f64::from(self.mean[i % c])) * f64::from(self.inv_std[i % c])
        };
        let dgamma = self.per_channel(|i| masked[i] * normal(i));
        let dbeta = self.per_channel(|i| masked[i]);
        let dx = (0..masked.len())
            .map(|i| {
                let centred = (dbeta[i % c] + normal(i) * dgamma[i % c]) / self.count();
                let inner = masked[i] - if frozen { 0.0 } else { centred };
                f64::from(self.gamma[i % c]) * f64::from(self.inv_std[i % c]) * inner
            })
            .collect();
        [dgamma, dbeta, dx, masked]
    }

    fn check(&self, ctx: &Context) {
        let (mean, var) = self.moments();
        let (actual_mean, actual_var) = self.statistics(ctx);
        // Means near zero are judged by the spread of what they are the mean of.
        for c in 0..self.shape.c {
            let error = (f64::from(actual_mean[c]) - mean[c]).abs();
            assert!(
                error < 1e-6 * (mean[c].abs() + var[c].sqrt()),
                "mean {} for {}",
                actual_mean[c],
                mean[c]
            );
        }
        if self.count() > 1.0 {
            let scale = mean
                .iter()
                .zip(&var)
                .map(|(m, v)| m.abs() / v.sqrt())
                .fold(1.0, f64::max);
            assert_close("variance", &actual_var, &var, 1e-6 * scale);
        }
        for (residual, relu) in [(false, false), (true, false), (false, true), (true, true)] {
            let expected: Vec<f64> = (dense(self.n, self.shape, &self.x).iter())
                .zip(dense(self.n, self.shape, &self.dy))
                .enumerate()
                .map(|(i, (&x, r))| {
                    let c = i % self.shape.c;
                    let v = f64::from(x) * f64::from(self.gamma[c]) + f64::from(self.mean[c]);
                    let v = v + if residual { f64::from(r) } else { 0.0 };
                    if relu { v.max(0.0) } else { v }
                })
                .collect();
            assert_close("apply", &self.apply(ctx, residual, relu), &expected, 1e-6);
        }
        for (relu, frozen) in [(false, false), (true, false), (false, true), (true, true)] {
            let expected = self.backward_reference(relu, frozen);
            let [dgamma, dbeta, dx, dresidual] = self.backward(ctx, relu, frozen);
            // A sum may cancel: its error is judged by the size of its terms.
            let terms = self.count().sqrt();
            for (actual, expected) in dgamma
                .iter()
                .chain(&dbeta)
                .zip(expected[0].iter().chain(&expected[1]))
            {
                assert!(
                    (f64::from(*actual) - expected).abs() < 3e-6 * terms,
                    "{actual} for {expected}"
                );
            }
            if self.count() > 2.0 {
                assert_close("dx", &dx, &expected[2], 1e-5);
            }
            assert_close("dresidual", &dresidual, &expected[3], 1e-12);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_f64(n in 1usize..18, h in 1usize..12, w in 1usize..12, c in 1usize..100, seed: u64) {
        Problem::new(n, ActShape::new(h, w, c), 0.0, seed).check(&fastest());
    }
}

/// Small enough for Miri.
#[test]
fn tiny_shapes_agree_with_f64() {
    for ctx in contexts().into_iter().take(2) {
        Problem::new(2, ActShape::new(2, 3, 18), 0.0, 4).check(&ctx);
    }
}

#[test]
fn large_maps_and_far_means() {
    let ctx = fastest();
    Problem::new(3, ActShape::new(32, 32, 64), 0.0, 1).check(&ctx);
    Problem::new(70, ActShape::new(1, 1, 33), 0.0, 2).check(&ctx);
    let far = Problem::new(5, ActShape::new(20, 20, 48), 100.0, 3);
    let (mean, var) = far.moments();
    let (actual_mean, actual_var) = far.statistics(&ctx);
    assert_close("far mean", &actual_mean, &mean, 1e-7);
    assert_close("far variance", &actual_var, &var, 1e-6);
}

#[test]
fn bits_are_the_same_everywhere() {
    let contexts = contexts();
    for (n, shape) in [
        (3, ActShape::new(19, 23, 40)),
        (17, ActShape::new(4, 4, 70)),
        (6, ActShape::new(1, 1, 33)),
        (2, ActShape::new(30, 30, 3)),
    ] {
        let problem = Problem::new(n, shape, 0.5, 11);
        same_everywhere("batch norm", &contexts, |ctx| {
            let (mut all, var) = problem.statistics(ctx);
            all.extend(var);
            all.extend(problem.apply(ctx, true, true));
            all.extend(problem.apply(ctx, false, false));
            all.extend(problem.backward(ctx, true, false).concat());
            all.extend(problem.backward(ctx, false, true).concat());
            all
        });
    }
}

/// Batch norm, ReLU and max pooling in one pass, and one after the other: the same bits, all of them.
#[test]
fn pooling_in_the_same_pass_changes_no_bits() {
    let shapes = [
        (ActShape::new(28, 28, 32), [2, 2], 3),
        (ActShape::new(7, 9, 20), [2, 2], 5),
        (ActShape::new(11, 8, 70), [3, 2], 2),
        (ActShape::new(2, 2, 130), [2, 2], 17),
        (ActShape::new(40, 40, 48), [4, 3], 1),
    ];
    for (seed, (shape, kernel, n)) in shapes.into_iter().enumerate() {
        let pool = PoolShape {
            input: shape,
            kernel,
            stride: kernel,
            padding: [0, 0].into(),
            dilation: [1, 1],
            ceil_mode: false,
        };
        let output = pool.output().unwrap();
        let mut random = Random::new(seed as u64);
        let mut x = random.activation(n, shape);
        // Ties, and a NaN.
        x.iter_mut().step_by(7).for_each(|v| *v = 0.25);
        x[shape.c] = f32::NAN;
        let dy = random.activation(n, output);
        let [scale, shift, mean, gamma] = [0; 4].map(|_| random.values(shape.c));
        let inv_std: Vec<f32> = random.values(shape.c).iter().map(|v| v.abs()).collect();
        for ctx in contexts() {
            let winners = max_pool::indices_len(n, output);
            let mut normalised = unwritten(n, shape);
            batch_norm::apply(
                &ctx,
                n,
                shape,
                &x,
                &scale,
                &shift,
                None,
                true,
                &mut normalised,
            );
            let (mut y, mut indices) = (unwritten(n, output), vec![0; winners]);
            max_pool::forward(&ctx, n, &pool, &normalised, &mut y, Some(&mut indices));
            let (mut fused, mut fused_indices) = (unwritten(n, output), vec![0; winners]);
            max_pool::forward_normalised(
                &ctx,
                n,
                &pool,
                &x,
                &scale,
                &shift,
                &mut fused,
                &mut fused_indices,
            );
            assert_eq!(bits(&dense(n, output, &fused)), bits(&dense(n, output, &y)));
            assert_eq!(fused_indices, indices);

            let mut spread = unwritten(n, shape);
            max_pool::backward(&ctx, n, &pool, &dy, &indices, &mut spread);
            let separate = Upstream::Output {
                dy: &spread,
                y: Some(&normalised),
            };
            let together = Upstream::Pooled {
                pool: &pool,
                dy: &dy,
                y: &y,
                indices: &indices,
            };
            for backward in [batch_norm::backward, batch_norm::backward_frozen] {
                let [separate, together] = [separate, together].map(|upstream| {
                    let mut scratch = vec![f32::NAN; batch_norm::scratch_len(n, shape)];
                    let (mut dgamma, mut dbeta) =
                        (vec![f32::NAN; shape.c], vec![f32::NAN; shape.c]);
                    let mut dx = unwritten(n, shape);
                    backward(
                        &ctx,
                        n,
                        shape,
                        &x,
                        upstream,
                        &mean,
                        &inv_std,
                        &gamma,
                        &mut scratch,
                        &mut dgamma,
                        &mut dbeta,
                        &mut dx,
                        None,
                    );
                    [dgamma, dbeta, dense(n, shape, &dx)].map(|values| bits(&values))
                });
                assert_eq!(together, separate, "{shape:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "do not tile")]
fn overlapping_windows_are_refused() {
    let shape = ActShape::new(8, 8, 4);
    let pool = PoolShape {
        input: shape,
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1].into(),
        dilation: [1, 1],
        ceil_mode: false,
    };
    let zeros = vec![0.0; 1000];
    let upstream = Upstream::Pooled {
        pool: &pool,
        dy: &zeros,
        y: &zeros,
        indices: &[0; 1000],
    };
    batch_norm::backward(
        &fastest(),
        1,
        shape,
        &zeros,
        upstream,
        &zeros,
        &zeros,
        &zeros,
        &mut vec![0.0; 1000],
        &mut [0.0; 4],
        &mut [0.0; 4],
        &mut vec![0.0; 1000],
        None,
    );
}
