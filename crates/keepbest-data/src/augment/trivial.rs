//! TrivialAugment (Müller and Hutter, arXiv 2103.10158), wide, as torchvision's `TrivialAugmentWide`: one of 14 changes, of
//! one of 31 strengths.

use super::affine::Affine;
use super::{colour, tone};
use crate::Image;
use crate::rng::CounterRng;

/// One of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

pub(super) const OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];

/// Strengths there are of each change.
pub(super) const STRENGTHS: u32 = 31;

/// A random change.
pub(super) fn random(image: Image, numbers: &mut CounterRng) -> Image {
    let op = OPS[numbers.below(OPS.len() as u64) as usize];
    let strength = numbers.below(u64::from(STRENGTHS)) as u32;
    op.apply(image, strength, numbers.coin())
}

impl Op {
    /// The change of `strength` 0 to 30; `negative` turns it round where it has two directions.
    pub(super) fn apply(self, image: Image, strength: u32, negative: bool) -> Image {
        let signed = |most: f32| {
            let size = linspace(0.0, most, strength);
            if negative { -size } else { size }
        };
        match self {
            Self::Identity => image,
            Self::ShearX => Affine::shear_x(signed(0.99)).apply(&image),
            Self::ShearY => Affine::shear_y(signed(0.99)).apply(&image),
            Self::TranslateX => Affine::translation(signed(32.0) as i32, 0).apply(&image),
            Self::TranslateY => Affine::translation(0, signed(32.0) as i32).apply(&image),
            Self::Rotate => Affine::rotation(signed(135.0), image.shape()).apply(&image),
            Self::Brightness => colour::brightness(&image, 1.0 + signed(0.99)),
            Self::Color => colour::saturation(&image, 1.0 + signed(0.99)),
            Self::Contrast => colour::contrast(&image, 1.0 + signed(0.99)),
            Self::Sharpness => colour::sharpness(&image, 1.0 + signed(0.99)),
            Self::Posterize => {
                let lost = (strength as f32 / 5.0).round_ties_even() as u32;
                tone::posterize(&image, 8 - lost)
            }
            Self::Solarize => tone::solarize(&image, 255.0 * linspace(1.0, 0.0, strength)),
            Self::AutoContrast => tone::autocontrast(&image),
            Self::Equalize => tone::equalize(&image),
        }
    }
}

/// Value `at` of `torch.linspace(from, to, 31)`: in f32, counted from the nearer end.
fn linspace(from: f32, to: f32, at: u32) -> f64 {
    let last = STRENGTHS - 1;
    let step = (to - from) / last as f32;
    f64::from(if at < STRENGTHS / 2 {
        step.mul_add(at as f32, from)
    } else {
        (-step).mul_add((last - at) as f32, to)
    })
}
