//! Colour jitter, as torchvision's `ColorJitter`.

use super::colour;
use crate::Image;
use crate::rng::CounterRng;

/// The strength of changes of colours. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    /// Brightness is multiplied by `1 - x` (0 at least) to `1 + x`.
    pub brightness: f64,
    /// Contrast, likewise.
    pub contrast: f64,
    /// Saturation, likewise. Grey images have none.
    pub saturation: f64,
    /// Hue is turned by up to this part of the circle, 0.5 at most. Grey images have none.
    pub hue: f64,
}

impl Jitter {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Changes what is to be changed, in a random order.
    pub(super) fn apply(&self, mut image: Image, numbers: &mut CounterRng) -> Image {
        let mut order = [0, 1, 2, 3];
        numbers.shuffle(&mut order);
        // Every draw is made whether it is used or not.
        let mut factor = |x: f64| numbers.uniform((1.0 - x).max(0.0), 1.0 + x);
        let (brightness, contrast) = (factor(self.brightness), factor(self.contrast));
        let saturation = factor(self.saturation);
        let hue = numbers.uniform(-self.hue, self.hue);
        for which in order {
            image = match which {
                0 if self.brightness > 0.0 => colour::brightness(&image, brightness),
                1 if self.contrast > 0.0 => colour::contrast(&image, contrast),
                2 if self.saturation > 0.0 => colour::saturation(&image, saturation),
                3 if self.hue > 0.0 => colour::hue(&image, hue),
                _ => image,
            };
        }
        image
    }
}
