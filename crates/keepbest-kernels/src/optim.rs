//! Optimizer steps: PyTorch's formulas, reading the old values from one arena and writing the new ones in place or to another.

use crate::Context;
use crate::disjoint::Disjoint;

const CHUNK: usize = 16384;

/// Values to update: where they stand, or from an arena that must stay as it is (a snapshot holds it) into another.
#[derive(Debug)]
pub enum Update<'a> {
    /// Read and overwrite.
    InPlace(&'a mut [f32]),
    /// Read `old`, write `new`; of one length.
    Copy {
        /// Values before the step.
        old: &'a [f32],
        /// Values after the step.
        new: &'a mut [f32],
    },
}

impl Update<'_> {
    fn len(&self) -> usize {
        match self {
            Update::InPlace(values) => values.len(),
            Update::Copy { old, new } => {
                assert_eq!(
                    old.len(),
                    new.len(),
                    "optimizer: old and new differ in length"
                );
                new.len()
            }
        }
    }

    fn split(&mut self) -> Slot<'_> {
        match self {
            Update::InPlace(values) => Slot {
                old: None,
                new: Disjoint::new(values),
            },
            Update::Copy { old, new } => Slot {
                old: Some(old),
                new: Disjoint::new(new),
            },
        }
    }
}

struct Slot<'a> {
    old: Option<&'a [f32]>,
    new: Disjoint<'a, f32>,
}

impl Slot<'_> {
    /// The part to update, holding the old values.
    ///
    /// # Safety
    ///
    /// Parts of tasks that run at once must be disjoint.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        let new = unsafe { self.new.part(start, len) };
        if let Some(old) = self.old {
            new.copy_from_slice(&old[start..start + len]);
        }
        new
    }
}

/// Sub-chunk that stays in the first-level cache between the copy of the old values and the update.
const BLOCK: usize = 1024;

/// SGD as `torch.optim.SGD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum; 0 for none.
    pub momentum: f64,
    /// Damping of the gradient's share in the momentum buffer.
    pub dampening: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// The first step: the momentum buffer becomes the gradient, whatever it held.
    pub first_step: bool,
    /// Factor on the gradient before all else (clipping); 1 for none.
    pub gradient_scale: f32,
}

#[derive(Clone, Copy)]
struct SgdFactors {
    negative_rate: f32,
    momentum: f32,
    share: f32,
    nesterov: bool,
    weight_decay: f32,
    first_step: bool,
    gradient_scale: f32,
}

multiversion! {
    fn sgd_block(f: &SgdFactors, gradient: &[f32], parameters: &mut [f32]) {
        let f = *f;
        for (p, &g) in parameters.iter_mut().zip(gradient) {
            let g = p.mul_add(f.weight_decay, g * f.gradient_scale);
            *p = g.mul_add(f.negative_rate, *p);
        }
    }
}

multiversion! {
    fn sgd_momentum_block(f: &SgdFactors, gradient: &[f32], parameters: &mut [f32], momentum: &mut [f32]) {
        let f = *f;
        for ((p, b), &g) in parameters.iter_mut().zip(momentum).zip(gradient) {
            let g = p.mul_add(f.weight_decay, g * f.gradient_scale);
            let buffer = if f.first_step { g } else { g.mul_add(f.share, *b * f.momentum) };
            *b = buffer;
            let direction = if f.nesterov { buffer.mul_add(f.momentum, g) } else { buffer };
            *p = direction.mul_add(f.negative_rate, *p);
        }
    }
}

/// One SGD step. `momentum` is required when [`Sgd::momentum`] is not zero.
///
/// # Panics
///
/// When lengths differ, or momentum is not zero and no buffer is given.
pub fn sgd(
    ctx: &Context,
    config: &Sgd,
    gradient: &[f32],
    mut parameters: Update<'_>,
    momentum: Option<Update<'_>>,
) {
    let len = parameters.len();
    assert_eq!(
        gradient.len(),
        len,
        "sgd: gradient and parameters differ in length"
    );
    let factors = SgdFactors {
        negative_rate: -config.learning_rate as f32,
        momentum: config.momentum as f32,
        share: (1.0 - config.dampening) as f32,
        nesterov: config.nesterov,
        weight_decay: config.weight_decay as f32,
        first_step: config.first_step,
        gradient_scale: config.gradient_scale,
    };
    let parameters = parameters.split();
    if config.momentum == 0.0 {
        ctx.for_ranges(len, CHUNK, &|range| {
            blocks(range, &|start, len| {
                // SAFETY: blocks are disjoint.
                let p = unsafe { parameters.part(start, len) };
                sgd_block(ctx.isa(), &factors, &gradient[start..start + len], p);
            });
        });
        return;
    }
    let mut momentum = momentum.expect("sgd: momentum without a buffer");
    assert_eq!(
        momentum.len(),
        len,
        "sgd: momentum and parameters differ in length"
    );
    let momentum = momentum.split();
    ctx.for_ranges(len, CHUNK, &|range| {
        blocks(range, &|start, len| {
            // SAFETY: blocks are disjoint.
            let (p, b) = unsafe { (parameters.part(start, len), momentum.part(start, len)) };
            sgd_momentum_block(ctx.isa(), &factors, &gradient[start..start + len], p, b);
        });
    });
}

fn blocks(range: std::ops::Range<usize>, body: &dyn Fn(usize, usize)) {
    let mut start = range.start;
    while start < range.end {
        let len = BLOCK.min(range.end - start);
        body(start, len);
        start += len;
    }
}

/// Adam as `torch.optim.Adam`, or AdamW as `torch.optim.AdamW` (no AMSGrad).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay: L2 penalty (Adam) or decoupled (AdamW).
    pub weight_decay: f64,
    /// AdamW: shrink the parameters by `learning_rate * weight_decay` instead of adding to the gradient.
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor on the gradient before all else (clipping); 1 for none.
    pub gradient_scale: f32,
}

#[derive(Clone, Copy)]
struct AdamFactors {
    share1: f32,
    beta2: f32,
    share2: f32,
    eps: f32,
    root_correction2: f32,
    negative_step: f32,
    shrink: f32,
    weight_decay: f32,
    gradient_scale: f32,
}

multiversion! {
    fn adam_block(f: &AdamFactors, gradient: &[f32], parameters: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let f = *f;
        for (((p, m), v), &g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
            let value = *p * f.shrink;
            let g = value.mul_add(f.weight_decay, g * f.gradient_scale);
            *m = (g - *m).mul_add(f.share1, *m);
            *v = (g * f.share2).mul_add(g, *v * f.beta2);
            let denominator = v.sqrt() / f.root_correction2 + f.eps;
            *p = value + f.negative_step * (*m / denominator);
        }
    }
}

/// One Adam or AdamW step; `first` and `second` are the moments (`exp_avg`, `exp_avg_sq`), zero before step 1.
///
/// # Panics
///
/// When lengths differ.
pub fn adam(
    ctx: &Context,
    config: &Adam,
    gradient: &[f32],
    mut parameters: Update<'_>,
    mut first: Update<'_>,
    mut second: Update<'_>,
) {
    let len = parameters.len();
    assert!(
        gradient.len() == len && first.len() == len && second.len() == len,
        "adam: gradient, parameters and moments differ in length"
    );
    let step = config.step as f64;
    let correction1 = 1.0 - libm::pow(config.beta1, step);
    let correction2 = 1.0 - libm::pow(config.beta2, step);
    let (shrink, weight_decay) = if config.decoupled {
        (1.0 - config.learning_rate * config.weight_decay, 0.0)
    } else {
        (1.0, config.weight_decay)
    };
    let factors = AdamFactors {
        share1: (1.0 - config.beta1) as f32,
        beta2: config.beta2 as f32,
        share2: (1.0 - config.beta2) as f32,
        eps: config.eps as f32,
        root_correction2: correction2.sqrt() as f32,
        negative_step: (-config.learning_rate / correction1) as f32,
        shrink: shrink as f32,
        weight_decay: weight_decay as f32,
        gradient_scale: config.gradient_scale,
    };
    let (parameters, first, second) = (parameters.split(), first.split(), second.split());
    ctx.for_ranges(len, CHUNK, &|range| {
        blocks(range, &|start, len| {
            // SAFETY: blocks are disjoint.
            let (p, m, v) = unsafe {
                (
                    parameters.part(start, len),
                    first.part(start, len),
                    second.part(start, len),
                )
            };
            adam_block(ctx.isa(), &factors, &gradient[start..start + len], p, m, v);
        });
    });
}

multiversion! {
    fn average_block(share: &f32, values: &[f32], average: &mut [f32]) {
        for (a, &v) in average.iter_mut().zip(values) {
            *a = (v - *a).mul_add(*share, *a);
        }
    }
}

/// Moves an average by `share` of the way to `values` (Polyak and Juditsky, 1992).
///
/// # Panics
///
/// When lengths differ.
pub fn average(ctx: &Context, share: f32, values: &[f32], mut average: Update<'_>) {
    let len = average.len();
    assert_eq!(values.len(), len, "average: lengths differ");
    let slot = average.split();
    ctx.for_ranges(len, CHUNK, &|range| {
        blocks(range, &|start, len| {
            // SAFETY: blocks are disjoint.
            let average = unsafe { slot.part(start, len) };
            average_block(ctx.isa(), &share, &values[start..start + len], average);
        });
    });
}
