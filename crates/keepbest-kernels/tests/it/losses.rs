//! Cross entropy against the definition, and against numbers PyTorch gives.

use keepbest_kernels::{ActShape, Context, Isa, loss};
use proptest::prelude::*;

use crate::support::{Random, assert_close, contexts, dense, fastest, same_everywhere, unwritten};

struct Reference {
    loss: f64,
    gradient: Vec<f64>,
    correct: u32,
}

/// PyTorch's definition, term by term.
fn reference(
    rows: &[f32],
    classes: usize,
    labels: &[u32],
    smoothing: f64,
    weights: &[f64],
) -> Reference {
    let mut result = Reference {
        loss: 0.0,
        gradient: vec![0.0; rows.len()],
        correct: 0,
    };
    let total: f64 = labels.iter().map(|&label| weights[label as usize]).sum();
    for (image, (row, &label)) in rows.chunks(classes).zip(labels).enumerate() {
        let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        let log_p: Vec<f64> = row.iter().map(|&v| f64::from(v) - sum.ln()).collect();
        // The target distribution, each class's share times the class's weight.
        let target: Vec<f64> = (0..classes)
            .map(|c| {
                let hit = if c == label as usize {
                    (1.0 - smoothing) * weights[c]
                } else {
                    0.0
                };
                hit + smoothing / classes as f64 * weights[c]
            })
            .collect();
        let mass: f64 = target.iter().sum();
        for c in 0..classes {
            result.loss -= target[c] * log_p[c] / total;
            result.gradient[image * classes + c] = (mass * log_p[c].exp() - target[c]) / total;
        }
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        result.correct += u32::from(row.iter().position(|&v| v == best) == Some(label as usize));
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cross_entropy_agrees_with_the_definition(n in 1usize..150, classes in 1usize..30, smoothing in 0.0f64..0.5, weighted: bool, seed: u64) {
        let shape = ActShape::new(1, 1, classes);
        let mut random = Random::new(seed);
        let mut logits = random.activation(n, shape);
        logits.iter_mut().for_each(|v| *v *= 5.0);
        let labels: Vec<u32> = (0..n).map(|_| random.below(classes) as u32).collect();
        let weights: Vec<f32> = (0..classes).map(|_| random.value().abs() + 0.1).collect();
        let run = |ctx: &Context| {
            let mut gradient = unwritten(n, shape);
            let weights = weighted.then_some(&weights[..]);
            let output = loss::softmax_cross_entropy(
                ctx, n, classes, &logits, shape.image_stride(), &labels, smoothing, weights, Some(&mut gradient),
            );
            (output, dense(n, shape, &gradient))
        };
        let (output, gradient) = run(&fastest());
        same_everywhere("loss", &contexts(), |ctx| {
            let (other, gradient) = run(ctx);
            assert_eq!(other.loss.to_bits(), output.loss.to_bits());
            gradient
        });
        let wide: Vec<f64> = weights.iter().map(|&w| if weighted { f64::from(w) } else { 1.0 }).collect();
        let expected = reference(&dense(n, shape, &logits), classes, &labels, smoothing, &wide);
        prop_assert!((output.loss - expected.loss).abs() < 1e-12 * expected.loss.abs().max(1.0));
        prop_assert_eq!(output.correct, expected.correct);
        if classes > 1 {
            assert_close("loss gradient", &gradient, &expected.gradient, 1e-6);
        }
    }
}

#[test]
fn extreme_logits_and_nan() {
    let ctx = Context::new(Isa::fastest(), 2).unwrap();
    let call = |logits: &[f32], label: u32| {
        loss::softmax_cross_entropy(
            &ctx,
            1,
            logits.len(),
            logits,
            logits.len(),
            &[label],
            0.0,
            None,
            None,
        )
    };
    assert!((call(&[1000.0, 0.0], 1).loss - 1000.0).abs() < 1e-9);
    assert_eq!(
        call(&[1000.0, 0.0], 0),
        loss::LossOutput {
            loss: 0.0,
            correct: 1
        }
    );
    assert!(call(&[f32::NAN, 0.0], 0).loss.is_nan());
    assert_eq!(call(&[f32::NAN, 0.0], 0).correct, 0);
    assert_eq!(call(&[1.0, 1.0], 0).correct, 1);
    assert_eq!(call(&[1.0, 1.0], 1).correct, 0);
}

#[test]
fn softmax_sums_to_one_and_orders_as_logits() {
    let mut out = vec![f64::NAN; 6];
    loss::softmax(
        2,
        3,
        &[1.0, 2.0, 3.0, f32::NAN, -900.0, 0.0, 900.0],
        4,
        &mut out,
    );
    assert!((out[..3].iter().sum::<f64>() - 1.0).abs() < 1e-15);
    assert!((out[2] - 0.665_240_955_774_821_8).abs() < 1e-15);
    assert_eq!(out[3..], [0.0, 0.0, 1.0]);
}

#[test]
#[should_panic(expected = "label out of range")]
fn a_label_out_of_range_panics() {
    loss::softmax_cross_entropy(&fastest(), 1, 2, &[0.0, 0.0], 2, &[2], 0.0, None, None);
}
