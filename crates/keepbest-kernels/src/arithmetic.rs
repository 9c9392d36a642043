//! Two maps by `+`, `-`, `*`, `/`, maximum or minimum, value by value; where one has a single row, column or channel, it stands
//! for all of the other's.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::{ActShape, Context};

/// What is computed of two values. NaN propagates, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// The larger; the gradient of equal values is shared, as `torch.maximum` does.
    Maximum,
    /// The smaller; the gradient of equal values is shared, as `torch.minimum` does.
    Minimum,
}

/// Channels whose sums a task has at a time.
const BLOCK: usize = 64;

impl Arithmetic {
    /// Whether the gradients depend on the values.
    pub fn reads_values(self) -> bool {
        !matches!(self, Arithmetic::Add | Arithmetic::Sub)
    }

    /// Gradient of the first value, or of the second.
    #[inline(always)]
    fn slope(self, first: bool, dy: f32, a: f32, b: f32) -> f32 {
        let (own, rival) = if first { (a, b) } else { (b, a) };
        match self {
            Arithmetic::Add => dy,
            Arithmetic::Sub if first => dy,
            Arithmetic::Sub => -dy,
            Arithmetic::Mul => dy * rival,
            Arithmetic::Div if first => dy / b,
            Arithmetic::Div => -dy * ((a / b) / b),
            Arithmetic::Maximum | Arithmetic::Minimum if own == rival => dy * 0.5,
            Arithmetic::Maximum if own < rival => 0.0,
            Arithmetic::Minimum if own > rival => 0.0,
            Arithmetic::Maximum | Arithmetic::Minimum => dy,
        }
    }
}

/// The shape of two maps joined by arithmetic; `None` where they do not fit.
pub fn joined(a: ActShape, b: ActShape) -> Option<ActShape> {
    let side = |a: usize, b: usize| match (a, b) {
        (a, b) if a == b => Some(a),
        (1, other) | (other, 1) => Some(other),
        _ => None,
    };
    Some(ActShape::new(
        side(a.h, b.h)?,
        side(a.w, b.w)?,
        side(a.c, b.c)?,
    ))
}

/// A row of an operand: what stands for each pixel of the output's row.
#[derive(Clone, Copy)]
struct Row<'a> {
    values: &'a [f32],
    /// Floats from pixel to pixel; 0 where one stands for all.
    step: usize,
    channels: usize,
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn pixel(&self, x: usize) -> &'a [f32] {
        &self.values[x * self.step..][..self.channels]
    }
}

/// An operand, seen by the output's rows.
#[derive(Clone, Copy)]
struct Operand<'a> {
    shape: ActShape,
    values: &'a [f32],
}

impl<'a> Operand<'a> {
    fn row(&self, image: usize, y: usize) -> Row<'a> {
        let shape = self.shape;
        let y = if shape.h == 1 { 0 } else { y };
        let start = image * shape.image_stride() + y * shape.w * shape.c;
        Row {
            values: &self.values[start..][..shape.w * shape.c],
            step: if shape.w == 1 { 0 } else { shape.c },
            channels: shape.c,
        }
    }
}

#[inline(always)]
fn each(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    let c = y.len();
    if a.len() == c && b.len() == c {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f(a, b);
        }
    } else if a.len() == c {
        for (y, &a) in y.iter_mut().zip(a) {
            *y = f(a, b[0]);
        }
    } else {
        for (y, &b) in y.iter_mut().zip(b) {
            *y = f(a[0], b);
        }
    }
}

multiversion! {
    fn forward_row(kind: Arithmetic, a: Row<'_>, b: Row<'_>, c: usize, y: &mut [f32]) {
        for (x, y) in y.chunks_exact_mut(c).enumerate() {
            let (a, b) = (a.pixel(x), b.pixel(x));
            match kind {
                Arithmetic::Add => each(a, b, y, |a, b| a + b),
                Arithmetic::Sub => each(a, b, y, |a, b| a - b),
                Arithmetic::Mul => each(a, b, y, |a, b| a * b),
                Arithmetic::Div => each(a, b, y, |a, b| a / b),
                Arithmetic::Maximum => each(a, b, y, |a, b| if a > b || a.is_nan() { a } else { b }),
                Arithmetic::Minimum => each(a, b, y, |a, b| if a < b || a.is_nan() { a } else { b }),
            }
        }
    }
}

multiversion! {
    /// Adds the gradient of pixels of a row to the sums of some channels, from `first` on; of all channels where there is one sum.
    fn add_slopes(
        kind: Arithmetic,
        of_first: bool,
        a: Row<'_>,
        b: Row<'_>,
        dy: Row<'_>,
        pixels: std::ops::Range<usize>,
        first: usize,
        sums: &mut [f64],
    ) {
        let value = |pixel: &[f32], channel: usize| pixel[if pixel.len() == 1 { 0 } else { channel }];
        for x in pixels {
            let (a, b, dy) = (a.pixel(x), b.pixel(x), dy.pixel(x));
            if sums.len() == 1 {
                let mut sum = sums[0];
                for (channel, &dy) in dy.iter().enumerate().skip(first) {
                    sum += f64::from(kind.slope(of_first, dy, value(a, channel), value(b, channel)));
                }
                sums[0] = sum;
            } else {
                for (channel, sum) in (first..).zip(sums.iter_mut()) {
                    let slope = kind.slope(of_first, dy[channel], value(a, channel), value(b, channel));
                    *sum += f64::from(slope);
                }
            }
        }
    }
}

multiversion! {
    fn slopes_of_row(kind: Arithmetic, of_first: bool, a: Row<'_>, b: Row<'_>, dy: Row<'_>, dx: &mut [f32]) {
        for (x, dx) in dx.chunks_exact_mut(dy.channels).enumerate() {
            let (a, b, dy) = (a.pixel(x), b.pixel(x), dy.pixel(x));
            let value = |pixel: &[f32], channel: usize| pixel[if pixel.len() == 1 { 0 } else { channel }];
            for (channel, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
                *dx = kind.slope(of_first, dy, value(a, channel), value(b, channel));
            }
        }
    }
}

/// `y` = `a` and `b` by `kind`, as large as [`joined`] says.
///
/// # Panics
///
/// When the shapes do not fit or a slice is too short.
pub fn forward(
    ctx: &Context,
    n: usize,
    kind: Arithmetic,
    (a_shape, a): (ActShape, &[f32]),
    (b_shape, b): (ActShape, &[f32]),
    y: &mut [f32],
) {
    let shape = joined(a_shape, b_shape).expect("the shapes were not checked");
    check_activation("a", a, n, a_shape);
    check_activation("b", b, n, b_shape);
    check_activation("y", y, n, shape);
    let [a, b] = [(a_shape, a), (b_shape, b)].map(|(shape, values)| Operand { shape, values });
    let out = Disjoint::new(y);
    let row = shape.w * shape.c;
    run_rows(ctx, n, shape.h, row, &|image, at| {
        // SAFETY: rows are disjoint.
        let y = unsafe { out.part(image * shape.image_stride() + at * row, row) };
        let (a, b) = (a.row(image, at), b.row(image, at));
        forward_row(ctx.isa(), kind, a, b, shape.c, y);
    });
}

/// Gradient of [`forward`] for its first operand, or its second; overwrites `dx`. The values are not read where
/// [`Arithmetic::reads_values`] says so, and may be missing then. Sums are in `f64`, row by row.
///
/// # Panics
///
/// When the shapes do not fit or a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    ctx: &Context,
    n: usize,
    kind: Arithmetic,
    (a_shape, a): (ActShape, &[f32]),
    (b_shape, b): (ActShape, &[f32]),
    dy: &[f32],
    of_first: bool,
    dx: &mut [f32],
) {
    let shape = joined(a_shape, b_shape).expect("the shapes were not checked");
    let target = if of_first { a_shape } else { b_shape };
    check_activation("dy", dy, n, shape);
    check_activation("dx", dx, n, target);
    let dy = Operand { shape, values: dy };
    // Any values do where none is read.
    let [a, b] = if kind.reads_values() {
        check_activation("a", a, n, a_shape);
        check_activation("b", b, n, b_shape);
        [(a_shape, a), (b_shape, b)].map(|(shape, values)| Operand { shape, values })
    } else {
        [dy, dy]
    };
    let out = Disjoint::new(dx);
    let row = target.w * target.c;
    let reduced = shape.values() / target.values();
    run_rows(ctx, n, target.h, row * reduced, &|image, at| {
        // SAFETY: rows are disjoint.
        let dx = unsafe { out.part(image * target.image_stride() + at * row, row) };
        let rows = |at: usize| (a.row(image, at), b.row(image, at), dy.row(image, at));
        if reduced == 1 {
            let (a, b, dy) = rows(at);
            return slopes_of_row(ctx.isa(), kind, of_first, a, b, dy, dx);
        }
        let all = |side: usize, whole: usize, at: usize| match side == whole {
            true => at..at + 1,
            false => 0..whole,
        };
        for (x, dx) in dx.chunks_exact_mut(target.c).enumerate() {
            for (block, dx) in dx.chunks_mut(BLOCK).enumerate() {
                let mut sums = [0.0f64; BLOCK];
                let sums = &mut sums[..dx.len()];
                for y in all(target.h, shape.h, at) {
                    let (a, b, dy) = rows(y);
                    let pixels = all(target.w, shape.w, x);
                    add_slopes(
                        ctx.isa(),
                        kind,
                        of_first,
                        a,
                        b,
                        dy,
                        pixels,
                        block * BLOCK,
                        sums,
                    );
                }
                for (dx, &sum) in dx.iter_mut().zip(&*sums) {
                    *dx = sum as f32;
                }
            }
        }
    });
}
