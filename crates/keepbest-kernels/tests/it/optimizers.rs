//! Optimizer steps against PyTorch's algorithms written out in `f64`.

use keepbest_kernels::optim::{Adam, Sgd, Update, adam, sgd};
use proptest::prelude::*;

use crate::support::{Random, assert_close, contexts, fastest, same_everywhere};

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sgd_follows_the_algorithm(
        len in 1usize..40_000, momentum in prop_oneof![Just(0.0), 0.1f64..0.99], dampening in prop_oneof![Just(0.0), 0.0f64..0.9],
        nesterov: bool, weight_decay in prop_oneof![Just(0.0), 0.0f64..0.1], seed: u64,
    ) {
        let dampening = if nesterov { 0.0 } else { dampening };
        let start = Random::new(seed).values(len);
        let gradients: Vec<Vec<f32>> = (1..=3).map(|k| Random::new(seed ^ k).values(len)).collect();
        let config = |step: usize| Sgd {
            learning_rate: 0.1, momentum, dampening, nesterov, weight_decay, first_step: step == 0, gradient_scale: 0.5,
        };
        let actual = same_everywhere("sgd", &contexts(), |ctx| {
            let (mut p, mut b) = (start.clone(), vec![f32::NAN; len]);
            for (step, gradient) in gradients.iter().enumerate() {
                let buffer = (momentum != 0.0).then_some(Update::InPlace(&mut b));
                sgd(ctx, &config(step), gradient, Update::InPlace(&mut p), buffer);
            }
            p
        });
        let mut p: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
        let mut b = vec![0.0; len];
        for (step, gradient) in gradients.iter().enumerate() {
            for i in 0..len {
                let g = 0.5 * f64::from(gradient[i]) + weight_decay * p[i];
                b[i] = if step == 0 { g } else { momentum * b[i] + (1.0 - dampening) * g };
                let d = if momentum == 0.0 { g } else if nesterov { g + momentum * b[i] } else { b[i] };
                p[i] -= 0.1 * d;
            }
        }
        assert_close("sgd", &actual, &p, 1e-6);
    }

    #[test]
    fn adam_follows_the_algorithm(len in 1usize..40_000, decoupled: bool, weight_decay in prop_oneof![Just(0.0), 0.0f64..0.1], seed: u64) {
        let start = Random::new(seed).values(len);
        let gradients: Vec<Vec<f32>> = (1..=3).map(|k| Random::new(seed ^ k).values(len)).collect();
        let config = |step: u64| Adam {
            learning_rate: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, decoupled, step, gradient_scale: 1.0,
        };
        let actual = same_everywhere("adam", &contexts(), |ctx| {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
            for (step, gradient) in (1..).zip(&gradients) {
                let slots = (Update::InPlace(&mut p), Update::InPlace(&mut m), Update::InPlace(&mut v));
                adam(ctx, &config(step), gradient, slots.0, slots.1, slots.2);
            }
            p
        });
        let mut p: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
        let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
        for (step, gradient) in (1..).zip(&gradients) {
            for i in 0..len {
                let mut g = f64::from(gradient[i]);
                if decoupled { p[i] *= 1.0 - 0.01 * weight_decay } else { g += weight_decay * p[i] }
                m[i] += 0.1 * (g - m[i]);
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (c1, c2) = (1.0 - 0.9f64.powi(step), 1.0 - 0.999f64.powi(step));
                p[i] -= 0.01 / c1 * m[i] / ((v[i] / c2).sqrt() + 1e-8);
            }
        }
        assert_close("adam", &actual, &p, 1e-6);
    }
}

#[test]
fn out_of_place_gives_the_same_bits_and_leaves_the_old_values() {
    let ctx = fastest();
    let len = 40_001;
    let (p, b, g) = (
        Random::new(1).values(len),
        Random::new(2).values(len),
        Random::new(3).values(len),
    );
    let config = Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
        dampening: 0.0,
        nesterov: true,
        weight_decay: 5e-4,
        first_step: false,
        gradient_scale: 1.0,
    };
    let (mut p1, mut b1) = (p.clone(), b.clone());
    sgd(
        &ctx,
        &config,
        &g,
        Update::InPlace(&mut p1),
        Some(Update::InPlace(&mut b1)),
    );
    let (mut p2, mut b2) = (vec![f32::NAN; len], vec![f32::NAN; len]);
    let momentum = Update::Copy {
        old: &b,
        new: &mut b2,
    };
    sgd(
        &ctx,
        &config,
        &g,
        Update::Copy {
            old: &p,
            new: &mut p2,
        },
        Some(momentum),
    );
    assert_eq!((p1, b1), (p2, b2));
}
