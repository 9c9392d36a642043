//! Affine maps of an image, to the nearest pixel, as Pillow's `Image.transform(..., AFFINE, NEAREST)`: positions in 16.16
//! fixed point, taken at the centres of pixels.
//!
//! Reference: Pillow, `src/libImaging/Geometry.c`, `affine_fixed`; torchvision, `_get_inverse_affine_matrix`.

use crate::{Image, ImageShape};

/// From a place in the result to the place in the source: `x' = a x + b y + c`, `y' = d x + e y + f`, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    pub a: f64,
    pub b: f64,
    pub c: f64,
    pub d: f64,
    pub e: f64,
    pub f: f64,
}

impl Affine {
    const IDENTITY: Self = Self {
        a: 1.0,
        b: 0.0,
        c: 0.0,
        d: 0.0,
        e: 1.0,
        f: 0.0,
    };

    /// Turned about the centre, anticlockwise.
    pub(super) fn rotation(degrees: f64, shape: ImageShape) -> Self {
        let angle = -degrees * (std::f64::consts::PI / 180.0);
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let (x, y) = (shape.width as f64 / 2.0, shape.height as f64 / 2.0);
        Self {
            a: cos,
            b: sin,
            c: x - (cos * x + sin * y),
            d: -sin,
            e: cos,
            f: y - (cos * y - sin * x),
        }
    }

    /// Each row moved by `slope` times its number, to the left.
    pub(super) fn shear_x(slope: f64) -> Self {
        Self {
            b: slope,
            ..Self::IDENTITY
        }
    }

    /// Each column moved by `slope` times its number, upwards.
    pub(super) fn shear_y(slope: f64) -> Self {
        Self {
            d: slope,
            ..Self::IDENTITY
        }
    }

    /// Moved by whole pixels, to the right and down.
    pub(super) fn translation(right: i32, down: i32) -> Self {
        Self {
            c: -f64::from(right),
            f: -f64::from(down),
            ..Self::IDENTITY
        }
    }

    /// The image mapped; 0 where it comes from outside.
    pub(super) fn apply(&self, image: &Image) -> Image {
        let shape = image.shape();
        let ImageShape {
            channels,
            height,
            width,
        } = shape;
        let fixed = |v: f64| (v * 65_536.0 + 0.5).floor() as i64;
        let Self { a, b, c, d, e, f } = *self;
        let (step_x, step_y) = (fixed(a), fixed(d));
        let mut row_x = fixed(c + a * 0.5 + b * 0.5);
        let mut row_y = fixed(f + d * 0.5 + e * 0.5);
        let pixels = image.pixels();
        let mut out = vec![0; shape.size()];
        for row in out.chunks_exact_mut(width * channels) {
            let (mut x, mut y) = (row_x, row_y);
            for pixel in row.chunks_exact_mut(channels) {
                // Negative ones become huge, and are outside too.
                let (column, line) = ((x >> 16) as usize, (y >> 16) as usize);
                if column < width && line < height {
                    let from = (line * width + column) * channels;
                    pixel.copy_from_slice(&pixels[from..from + channels]);
                }
                x += step_x;
                y += step_y;
            }
            row_x += fixed(b);
            row_y += fixed(e);
        }
        Image::new(shape, out).expect("as large as before")
    }
}
