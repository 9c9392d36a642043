//! Group normalisation (Wu and He, arXiv 1803.08494), `torch.nn.GroupNorm`: mean and variance over the pixels and the channels
//! of a group, of each image on its own.

use crate::chunks::{check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::{ActShape, Context};

/// Channels summed side by side.
const LANES: usize = 16;

/// `f32` values of scratch that [`backward`] needs for `n` images of `shape`.
pub fn scratch_len(n: usize, shape: ActShape) -> usize {
    2 * n * shape.c
}

/// Channels of one group.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    width: usize,
    /// All channels of a pixel.
    c: usize,
}

impl Group {
    /// Adds `term(place, channel of the group)` over all pixels of an image, in f64 and in an order that depends on shapes
    /// alone, and gives each block of up to [`LANES`] channels' sums to `take`.
    #[inline(always)]
    fn sums(
        self,
        values: usize,
        term: impl Fn(usize, usize) -> f64,
        mut take: impl FnMut(usize, &[f64]),
    ) {
        for start in (0..self.width).step_by(LANES) {
            let len = LANES.min(self.width - start);
            let mut lanes = [0.0f64; LANES];
            for pixel in (0..values).step_by(self.c) {
                for (lane, sum) in lanes[..len].iter_mut().enumerate() {
                    let channel = start + lane;
                    *sum += term(pixel + self.first + channel, channel);
                }
            }
            take(start, &lanes[..len]);
        }
    }

    #[inline(always)]
    fn total(self, values: usize, term: impl Fn(usize, usize) -> f64) -> f64 {
        let mut total = 0.0;
        self.sums(values, term, |_, lanes| total += lanes.iter().sum::<f64>());
        total
    }

    /// Mean and `1 / sqrt(variance + eps)` of an image.
    #[inline(always)]
    fn moments(self, x: &[f32], eps: f64) -> (f64, f64) {
        let count = (x.len() / self.c * self.width) as f64;
        let mean = self.total(x.len(), |at, _| f64::from(x[at])) / count;
        let squares = self.total(x.len(), |at, _| {
            let d = f64::from(x[at]) - mean;
            d * d
        });
        (mean, 1.0 / (squares / count + eps).sqrt())
    }
}

multiversion! {
    fn forward_group(group: Group, x: &[f32], gamma: &[f32], beta: &[f32], eps: f64, y: &Disjoint<'_, f32>, start: usize) {
        let (mean, inv_std) = group.moments(x, eps);
        let (mean, inv_std) = (mean as f32, inv_std as f32);
        let (first, width) = (group.first, group.width);
        let (gamma, beta) = (&gamma[first..first + width], &beta[first..first + width]);
        for pixel in (0..x.len()).step_by(group.c) {
            // SAFETY: groups of channels are disjoint.
            let y = unsafe { y.part(start + pixel + first, width) };
            let x = &x[pixel + first..][..width];
            for i in 0..width {
                y[i] = ((x[i] - mean) * inv_std).mul_add(gamma[i], beta[i]);
            }
        }
    }
}

multiversion! {
    /// Also gives this image's share of the gradients of gamma and beta.
    fn backward_group(
        group: Group,
        x: &[f32],
        dy: &[f32],
        gamma: &[f32],
        eps: f64,
        dx: &Disjoint<'_, f32>,
        start: usize,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let (mean, inv_std) = group.moments(x, eps);
        let (first, width) = (group.first, group.width);
        let gamma = &gamma[first..first + width];
        let (mut of_scale, mut of_shift) = (0.0, 0.0);
        group.sums(x.len(), |at, _| f64::from(dy[at]) * ((f64::from(x[at]) - mean) * inv_std), |at, sums| {
            for (lane, &sum) in sums.iter().enumerate() {
                dgamma[at + lane] = sum as f32;
                of_scale += sum * f64::from(gamma[at + lane]);
            }
        });
        group.sums(x.len(), |at, _| f64::from(dy[at]), |at, sums| {
            for (lane, &sum) in sums.iter().enumerate() {
                dbeta[at + lane] = sum as f32;
                of_shift += sum * f64::from(gamma[at + lane]);
            }
        });
        let count = (x.len() / group.c * width) as f64;
        let (of_scale, of_shift) = ((of_scale / count) as f32, (of_shift / count) as f32);
        let (mean, inv_std) = (mean as f32, inv_std as f32);
        for pixel in (0..x.len()).step_by(group.c) {
            // SAFETY: groups of channels are disjoint.
            let dx = unsafe { dx.part(start + pixel + first, width) };
            let (x, dy) = (&x[pixel + first..][..width], &dy[pixel + first..][..width]);
            for i in 0..width {
                let normal = (x[i] - mean) * inv_std;
                dx[i] = inv_std * (normal.mul_add(-of_scale, dy[i] * gamma[i]) - of_shift);
            }
        }
    }
}

/// Runs `body(image, group)` over all groups of all images.
fn run(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    groups: usize,
    body: &(dyn Fn(usize, Group) + Sync),
) {
    assert!(
        groups > 0 && shape.c.is_multiple_of(groups),
        "group norm: {} channels in {groups} groups",
        shape.c
    );
    let width = shape.c / groups;
    ctx.pool().run(n * groups, &|task, _| {
        let group = Group {
            first: task % groups * width,
            width,
            c: shape.c,
        };
        body(task / groups, group);
    });
}

/// `y = (x - mean) / sqrt(variance + eps) * gamma + beta` with mean and variance over each image's groups of channels.
///
/// # Panics
///
/// When a slice is too short or `groups` does not divide the channels.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    groups: usize,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f64,
    y: &mut [f32],
) {
    check_activation("x", x, n, shape);
    check_activation("y", y, n, shape);
    check_len("gamma", gamma, shape.c);
    check_len("beta", beta, shape.c);
    let out = Disjoint::new(y);
    run(ctx, n, shape, groups, &|image, group| {
        let start = image * shape.image_stride();
        let x = &x[start..][..shape.values()];
        forward_group(ctx.isa(), group, x, gamma, beta, eps, &out, start);
    });
}

/// Gradient of [`forward`]; overwrites `dgamma`, `dbeta` and `dx`.
///
/// # Panics
///
/// As [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: ActShape,
    groups: usize,
    x: &[f32],
    dy: &[f32],
    gamma: &[f32],
    eps: f64,
    scratch: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dx: &mut [f32],
) {
    let c = shape.c;
    check_activation("x", x, n, shape);
    check_activation("dy", dy, n, shape);
    check_activation("dx", dx, n, shape);
    for (name, slice) in [("gamma", gamma), ("dgamma", &*dgamma), ("dbeta", &*dbeta)] {
        check_len(name, slice, c);
    }
    check_len("scratch", scratch, scratch_len(n, shape));
    let (partials, out) = (Disjoint::new(scratch), Disjoint::new(dx));
    run(ctx, n, shape, groups, &|image, group| {
        let start = image * shape.image_stride();
        let (x, dy) = (
            &x[start..][..shape.values()],
            &dy[start..][..shape.values()],
        );
        let part = image * 2 * c + group.first;
        // SAFETY: each task takes its own image's and group's part.
        let (dgamma, dbeta) = unsafe {
            (
                partials.part(part, group.width),
                partials.part(part + c, group.width),
            )
        };
        backward_group(
            ctx.isa(),
            group,
            x,
            dy,
            gamma,
            eps,
            &out,
            start,
            dgamma,
            dbeta,
        );
    });
    let images = scratch[..2 * n * c].chunks_exact(2 * c);
    for channel in 0..c {
        let total = |at: usize| images.clone().map(|part| f64::from(part[at])).sum::<f64>() as f32;
        dgamma[channel] = total(channel);
        dbeta[channel] = total(c + channel);
    }
}
