//! Maps of another size by bilinear interpolation, as `torch.nn.functional.interpolate` computes it.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::{ActShape, Context};

/// How a map is brought to another size.
#[derive(Clone, Debug, PartialEq)]
pub struct Bilinear {
    input: ActShape,
    output: ActShape,
    rows: Vec<Blend>,
    columns: Vec<Blend>,
}

/// A coordinate between two others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// The one before it.
    pub low: usize,
    /// The one behind it, or the same.
    pub high: usize,
    /// Share of the one behind.
    pub share: f32,
}

impl Bilinear {
    /// Interpolation of `input` at these rows and columns.
    ///
    /// # Panics
    ///
    /// For coordinates that are not in the input, or none.
    pub fn new(input: ActShape, rows: Vec<Blend>, columns: Vec<Blend>) -> Bilinear {
        let output = ActShape::new(rows.len(), columns.len(), input.c);
        assert!(!output.is_empty(), "bilinear: an output without values");
        let inside = |blends: &[Blend], size| blends.iter().all(|b| b.low.max(b.high) < size);
        assert!(
            inside(&rows, input.h) && inside(&columns, input.w),
            "bilinear: a coordinate outside of the input"
        );
        Bilinear {
            input,
            output,
            rows,
            columns,
        }
    }

    /// Shape of an output image.
    pub fn output(&self) -> ActShape {
        self.output
    }

    /// `y` = `x` at the other size.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn forward(&self, ctx: &Context, n: usize, x: &[f32], y: &mut [f32]) {
        let (input, output) = (self.input, self.output);
        check_activation("x", x, n, input);
        check_activation("y", y, n, output);
        let out = Disjoint::new(y);
        let row = output.w * output.c;
        run_rows(ctx, n, output.h, 4 * row, &|image, at| {
            // SAFETY: rows are disjoint.
            let y = unsafe { out.part(image * output.image_stride() + at * row, row) };
            let Blend { low, high, share } = self.rows[at];
            let len = input.w * input.c;
            let of = |row: usize| &x[image * input.image_stride() + row * len..][..len];
            forward_row(
                ctx.isa(),
                &self.columns,
                (of(low), of(high)),
                share,
                input.c,
                y,
            );
        });
    }

    /// Gradient of [`forward`](Self::forward), image by image. Overwrites `dx`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn backward(&self, ctx: &Context, n: usize, dy: &[f32], dx: &mut [f32]) {
        let (input, output) = (self.input, self.output);
        check_activation("dy", dy, n, output);
        check_activation("dx", dx, n, input);
        let out = Disjoint::new(dx);
        ctx.pool().run(n, &|image, _| {
            // SAFETY: images are disjoint.
            let dx = unsafe { out.part(image * input.image_stride(), input.values()) };
            let dy = &dy[image * output.image_stride()..][..output.values()];
            backward_image(ctx.isa(), self, dy, dx);
        });
    }
}

multiversion! {
    fn forward_row(columns: &[Blend], rows: (&[f32], &[f32]), down: f32, c: usize, y: &mut [f32]) {
        for (y, &Blend { low, high, share }) in y.chunks_exact_mut(c).zip(columns) {
            let (low, high) = (low * c, high * c);
            let above = (&rows.0[low..low + c], &rows.0[high..high + c]);
            let below = (&rows.1[low..low + c], &rows.1[high..high + c]);
            let (rest, up) = (1.0 - share, 1.0 - down);
            for (channel, y) in y.iter_mut().enumerate() {
                *y = up * (rest * above.0[channel] + share * above.1[channel])
                    + down * (rest * below.0[channel] + share * below.1[channel]);
            }
        }
    }
}

multiversion! {
    fn backward_image(map: &Bilinear, dy: &[f32], dx: &mut [f32]) {
        let ActShape { w, c, .. } = map.input;
        dx.fill(0.0);
        let mut pixels = dy.chunks_exact(c);
        for row in &map.rows {
            for column in &map.columns {
                let Some(dy) = pixels.next() else { return };
                for (y, down) in [(row.low, 1.0 - row.share), (row.high, row.share)] {
                    for (x, along) in [(column.low, 1.0 - column.share), (column.high, column.share)] {
                        let part = down * along;
                        let dx = &mut dx[(y * w + x) * c..][..c];
                        for (dx, &dy) in dx.iter_mut().zip(dy) {
                            *dx += part * dy;
                        }
                    }
                }
            }
        }
    }
}
