//! Softmax and cross entropy, in `f64` with `libm`, so that the bits are the same on every machine.

use crate::Context;
use crate::chunks::check_len;
use crate::disjoint::Disjoint;

/// Result of [`softmax_cross_entropy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOutput {
    /// Mean loss, as `torch.nn.CrossEntropyLoss` with `reduction="mean"`.
    pub loss: f64,
    /// Images whose largest logit (the first of equals) is at the label.
    pub correct: u32,
}

#[derive(Clone, Copy, Default)]
struct Partial {
    nll: f64,
    smooth: f64,
    weight: f64,
    correct: u32,
}

const GROUPS: usize = 64;

/// Cross entropy of softmax, as `torch.nn.CrossEntropyLoss(weight, label_smoothing, reduction="mean")`, and its gradient.
///
/// `logits` and `dlogits` hold the `classes` values of image `i` from `i * stride` on (`stride` is
/// [`ActShape::image_stride`](crate::ActShape::image_stride) of a `1 x 1 x classes` activation). With class weights the mean
/// is weighted: the sum over images divided by the sum of their labels' weights.
///
/// # Panics
///
/// When a slice is too short, `n` is 0, or a label is not below `classes`.
#[allow(clippy::too_many_arguments)]
pub fn softmax_cross_entropy(
    ctx: &Context,
    n: usize,
    classes: usize,
    logits: &[f32],
    stride: usize,
    labels: &[u32],
    label_smoothing: f64,
    class_weights: Option<&[f32]>,
    dlogits: Option<&mut [f32]>,
) -> LossOutput {
    assert!(
        n > 0 && classes > 0 && stride >= classes,
        "loss: no images, no classes, or a stride below the classes"
    );
    let needed = (n - 1) * stride + classes;
    check_len("logits", logits, needed);
    check_len("labels", labels, n);
    assert!(
        labels[..n].iter().all(|&label| (label as usize) < classes),
        "loss: label out of range"
    );
    if let Some(weights) = class_weights {
        check_len("class weights", weights, classes);
    }
    if let Some(gradient) = &dlogits {
        check_len("dlogits", gradient, needed);
    }
    let weight_of = |class: usize| class_weights.map_or(1.0, |weights| f64::from(weights[class]));
    let mut total_weight = 0.0;
    for &label in &labels[..n] {
        total_weight += weight_of(label as usize);
    }
    let weight_sum: f64 = (0..classes).map(weight_of).sum();
    let spread = label_smoothing / classes as f64;
    let gradient = dlogits.map(Disjoint::new);
    let group = n.div_ceil(GROUPS);
    let mut partials = [Partial::default(); GROUPS];
    let shared = Disjoint::new(&mut partials);
    ctx.pool().run(n.div_ceil(group), &|task, _| {
        let mut partial = Partial::default();
        for image in task * group..n.min((task + 1) * group) {
            let row = &logits[image * stride..][..classes];
            let label = labels[image] as usize;
            let (max, sum) = max_and_sum(row);
            let log_sum = libm::log(sum);
            let log_probability = |class: usize| f64::from(row[class]) - max - log_sum;
            partial.nll -= weight_of(label) * log_probability(label);
            partial.weight += weight_of(label);
            if label_smoothing != 0.0 {
                for class in 0..classes {
                    partial.smooth -= weight_of(class) * log_probability(class);
                }
            }
            if argmax(row) == Some(label) {
                partial.correct += 1;
            }
            if let Some(gradient) = &gradient {
                // SAFETY: rows of images are disjoint, `stride` being at least `classes`.
                let out = unsafe { gradient.part(image * stride, classes) };
                for (class, out) in out.iter_mut().enumerate() {
                    let probability = libm::exp(f64::from(row[class]) - max) / sum;
                    let hit = if class == label { 1.0 } else { 0.0 };
                    let nll = (1.0 - label_smoothing) * weight_of(label) * (probability - hit);
                    let smooth = spread * (weight_sum * probability - weight_of(class));
                    *out = ((nll + smooth) / total_weight) as f32;
                }
            }
        }
        // SAFETY: one element a task.
        unsafe { shared.set(task, partial) };
    });
    let mut sum = Partial::default();
    for partial in partials {
        sum.nll += partial.nll;
        sum.smooth += partial.smooth;
        sum.weight += partial.weight;
        sum.correct += partial.correct;
    }
    let loss = ((1.0 - label_smoothing) * sum.nll + spread * sum.smooth) / sum.weight;
    LossOutput {
        loss,
        correct: sum.correct,
    }
}

/// Softmax of `n` rows of `classes` logits, `stride` floats apart, into dense `out[n][classes]`.
///
/// # Panics
///
/// When a slice is too short or `stride` is below `classes`.
pub fn softmax(n: usize, classes: usize, logits: &[f32], stride: usize, out: &mut [f64]) {
    assert!(stride >= classes, "softmax: stride below the classes");
    if n == 0 || classes == 0 {
        return;
    }
    check_len("logits", logits, (n - 1) * stride + classes);
    check_len("out", out, n * classes);
    for (image, out) in out.chunks_exact_mut(classes).take(n).enumerate() {
        let row = &logits[image * stride..][..classes];
        let (max, sum) = max_and_sum(row);
        for (out, &logit) in out.iter_mut().zip(row) {
            *out = libm::exp(f64::from(logit) - max) / sum;
        }
    }
}

/// Largest value, and the sum of exponentials relative to it.
fn max_and_sum(row: &[f32]) -> (f64, f64) {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let mut sum = 0.0;
    for &logit in row {
        sum += libm::exp(f64::from(logit) - max);
    }
    (max, sum)
}

/// Index of the first largest value; none when a value is NaN.
fn argmax(row: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, &value) in row.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if value > row[best] {
            best = index;
        }
    }
    Some(best)
}
