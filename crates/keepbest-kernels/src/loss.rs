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

/// The labels of a batch: one an image, or two with their shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labels<'a> {
    /// Each image's own label.
    pub own: &'a [u32],
    /// What was mixed into the images, where something was.
    pub mixed: Option<SecondLabels<'a>>,
}

/// Second labels, of images that are mixtures of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SecondLabels<'a> {
    /// Each image's other label.
    pub others: &'a [u32],
    /// The share of each image's own label, from 0 to 1; the rest is the other's.
    pub shares: &'a [f64],
}

impl<'a> From<&'a [u32]> for Labels<'a> {
    fn from(own: &'a [u32]) -> Self {
        Labels { own, mixed: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Labels<'a> {
    fn from(own: &'a Vec<u32>) -> Self {
        own.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Labels<'a> {
    fn from(own: &'a [u32; N]) -> Self {
        own.as_slice().into()
    }
}

impl Labels<'_> {
    /// Both labels of an image with their shares, which sum to 1.
    fn of(&self, image: usize) -> [(usize, f64); 2] {
        let own = self.own[image] as usize;
        match self.mixed {
            None => [(own, 1.0), (own, 0.0)],
            Some(SecondLabels { others, shares }) => [
                (own, shares[image]),
                (others[image] as usize, 1.0 - shares[image]),
            ],
        }
    }

    fn check(&self, n: usize, classes: usize) {
        let fits = |labels: &[u32]| labels[..n].iter().all(|&l| (l as usize) < classes);
        check_len("labels", self.own, n);
        assert!(fits(self.own), "loss: label out of range");
        if let Some(SecondLabels { others, shares }) = self.mixed {
            check_len("other labels", others, n);
            check_len("shares", shares, n);
            assert!(fits(others), "loss: other label out of range");
        }
    }
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
/// An image of two labels counts as its two labels' losses, each times its share: the loss of mixup (Zhang et al., arXiv
/// 1710.09412) and cutmix, and without class weights `CrossEntropyLoss` of the class probabilities made of the shares. Its
/// weight is the same mean of the labels' weights. As correct counts the label of the larger share.
///
/// # Panics
///
/// When a slice is too short, `n` is 0, or a label is not below `classes`.
#[allow(clippy::too_many_arguments)]
pub fn softmax_cross_entropy<'a>(
    ctx: &Context,
    n: usize,
    classes: usize,
    logits: &[f32],
    stride: usize,
    labels: impl Into<Labels<'a>>,
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
    let labels = labels.into();
    labels.check(n, classes);
    if let Some(weights) = class_weights {
        check_len("class weights", weights, classes);
    }
    if let Some(gradient) = &dlogits {
        check_len("dlogits", gradient, needed);
    }
    let weight_of = |class: usize| class_weights.map_or(1.0, |weights| f64::from(weights[class]));
    let mut total_weight = 0.0;
    let image_weight = |[(own, share), (other, rest)]: [(usize, f64); 2]| {
        share * weight_of(own) + rest * weight_of(other)
    };
    for image in 0..n {
        total_weight += image_weight(labels.of(image));
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
            let targets @ [(own, share), (other, rest)] = labels.of(image);
            let (max, sum) = max_and_sum(row);
            let log_sum = libm::log(sum);
            let log_probability = |class: usize| f64::from(row[class]) - max - log_sum;
            partial.nll -= share * weight_of(own) * log_probability(own)
                + rest * weight_of(other) * log_probability(other);
            partial.weight += image_weight(targets);
            if label_smoothing != 0.0 {
                for class in 0..classes {
                    partial.smooth -= weight_of(class) * log_probability(class);
                }
            }
            if argmax(row) == Some(if share >= 0.5 { own } else { other }) {
                partial.correct += 1;
            }
            if let Some(gradient) = &gradient {
                // SAFETY: rows of images are disjoint, `stride` being at least `classes`.
                let out = unsafe { gradient.part(image * stride, classes) };
                for (class, out) in out.iter_mut().enumerate() {
                    let probability = libm::exp(f64::from(row[class]) - max) / sum;
                    let nll_of = |label: usize, share: f64| {
                        let hit = if class == label { 1.0 } else { 0.0 };
                        (1.0 - label_smoothing) * (share * weight_of(label)) * (probability - hit)
                    };
                    let nll = nll_of(own, share) + nll_of(other, rest);
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
