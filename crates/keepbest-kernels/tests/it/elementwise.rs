//! ReLU, sums, copies, dropout, reductions.

use keepbest_kernels::{ActShape, Context, activation, add, dropout, reduce, relu};
use proptest::prelude::*;

use crate::support::{Random, bits, contexts, dense, fastest, same_everywhere, unwritten};

fn values(len: usize, seed: u64) -> Vec<f32> {
    Random::new(seed).values(len)
}

/// Runs a kernel that fills a slice of `len`.
fn filled(len: usize, kernel: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    kernel(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elementwise_kernels_are_exact_everywhere(len in 0usize..100_000, seed: u64) {
        let (a, b) = (values(len, seed), values(len, !seed));
        let contexts = contexts();
        let y = same_everywhere("relu", &contexts, |ctx| filled(len, |y| relu::forward(ctx, &a, y)));
        prop_assert!(y.iter().zip(&a).all(|(&y, &a)| y == a.max(0.0)));
        let dx = same_everywhere("relu gradient", &contexts, |ctx| filled(len, |dx| relu::backward(ctx, &y, &b, dx)));
        let masked = |y: f32, dy: f32| if y > 0.0 { dy } else { 0.0 };
        prop_assert!(dx.iter().zip(y.iter().zip(&b)).all(|(&dx, (&y, &dy))| dx == masked(y, dy)));
        let sum = same_everywhere("add", &contexts, |ctx| filled(len, |y| add::forward(ctx, &a, &b, false, y)));
        prop_assert!(sum.iter().zip(a.iter().zip(&b)).all(|(&y, (&a, &b))| y == a + b));
        let sum = same_everywhere("add relu", &contexts, |ctx| filled(len, |y| add::forward(ctx, &a, &b, true, y)));
        prop_assert!(sum.iter().zip(a.iter().zip(&b)).all(|(&y, (&a, &b))| y == (a + b).max(0.0)));
        let total = same_everywhere("accumulate", &contexts, |ctx| {
            let mut dst = a.clone();
            add::accumulate(ctx, &mut dst, &b);
            dst
        });
        prop_assert!(total.iter().zip(a.iter().zip(&b)).all(|(&y, (&a, &b))| y == a + b));
        let scaled = same_everywhere("scale", &contexts, |ctx| {
            let mut x = a.clone();
            reduce::scale(ctx, &mut x, 0.3);
            x
        });
        prop_assert!(scaled.iter().zip(&a).all(|(&y, &a)| y == a * 0.3));
    }

    #[test]
    fn sum_of_squares(len in 0usize..100_000, seed: u64) {
        let x = values(len, seed);
        let exact: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
        let sums: Vec<f64> = contexts()
            .iter()
            .map(|ctx| reduce::sum_squares(ctx, &x, &mut vec![f64::NAN; reduce::sum_squares_scratch_len(len)]))
            .collect();
        prop_assert!((sums[0] - exact).abs() <= 1e-12 * exact);
        prop_assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
    }

    #[test]
    fn images_survive_packing(n in 0usize..20, h in 1usize..9, w in 1usize..9, c in 1usize..70, seed: u64) {
        let shape = ActShape::new(h, w, c);
        let images = values(n * shape.values(), seed);
        let ctx = fastest();
        let mut y = unwritten(n, shape);
        activation::pack_images(&ctx, n, shape, &images, &mut y);
        prop_assert_eq!(&dense(n, shape, &y), &images);
        let mut back = vec![f32::NAN; images.len()];
        activation::unpack_images(&ctx, n, shape, &y, &mut back);
        prop_assert_eq!(back, images);
    }

    #[test]
    fn dropout_has_one_mask_for_both_directions(n in 1usize..20, h in 1usize..40, c in 1usize..70, p in 0.0f64..1.0, key: u64) {
        let shape = ActShape::new(h, 7, c);
        let mut random = Random::new(key);
        let (x, dy) = (random.activation(n, shape), random.activation(n, shape));
        let run = |ctx: &Context, x: &[f32], backward: bool| {
            let mut y = unwritten(n, shape);
            if backward {
                dropout::backward(ctx, n, shape, p, key, x, &mut y);
            } else {
                dropout::forward(ctx, n, shape, p, key, x, &mut y);
            }
            dense(n, shape, &y)
        };
        let y = same_everywhere("dropout", &contexts(), |ctx| run(ctx, &x, false));
        let dx = run(&fastest(), &dy, true);
        let factor = (1.0 / (1.0 - p)) as f32;
        for (((y, dx), x), dy) in y.iter().zip(&dx).zip(dense(n, shape, &x)).zip(dense(n, shape, &dy)) {
            let kept = *y != 0.0 || x == 0.0;
            prop_assert_eq!(*y, if kept { x * factor } else { 0.0 });
            prop_assert_eq!(*dx, if kept { dy * factor } else { 0.0 });
        }
    }
}

#[test]
fn dropout_masks_differ_between_keys_and_images() {
    let shape = ActShape::new(8, 8, 8);
    let ctx = fastest();
    let mask = |key: u64| {
        let mut y = unwritten(2, shape);
        dropout::forward(&ctx, 2, shape, 0.5, key, &vec![1.0; shape.len(2)], &mut y);
        dense(2, shape, &y)
    };
    let (a, b) = (mask(1), mask(2));
    assert_ne!(bits(&a), bits(&b));
    assert_ne!(bits(&a[..512]), bits(&a[512..]));
}
