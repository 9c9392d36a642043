//! Augmentation: what is done to training images at random, as a pure function of (seed, epoch, image).
//!
//! Everything but erasing and mixing works on the 8-bit image and does what torchvision's v2 transforms do to a PIL image, bit
//! for bit: cropping on the image as it was read, which it brings to the model's size, all others at that size. Erasing and
//! mixing work on the network's input.

mod affine;
mod colour;
mod crop;
mod erase;
#[cfg(test)]
mod golden_tests;
mod jitter;
mod mix;
mod placement;
mod text;
mod tone;
mod trivial;

use serde::{Deserialize, Serialize};

pub use jitter::Jitter;
pub use mix::Mixed;
pub use text::AugmentationError;

use crate::rng::{CounterRng, Stream};
use crate::{Image, Preprocessing, PreprocessingError};

/// What is done to a training image at random. The default does nothing.
///
/// In this order, whatever the order in the text: crop, shift, flip, rotate, jitter, trivial; then, on the network's
/// input, erase; then, between the images of a batch, mixup or cutmix.
///
/// | part | does | as torchvision v2's |
/// |---|---|---|
/// | `crop:MIN` | cuts out a part of the area, at least MIN, of aspect ratio 3:4 to 4:3, and resizes it | `RandomResizedCrop(scale=(MIN, 1))` |
/// | `shift:PIXELS` | moves by up to so many pixels each way | `RandomCrop(size, padding=PIXELS)` |
/// | `flip` | mirrors left and right, half of the images | `RandomHorizontalFlip()` |
/// | `rotate:DEGREES` | turns by up to so much each way | `RandomRotation(DEGREES)` |
/// | `jitter:X` or `jitter:B/C/S/H` | changes brightness, contrast, saturation and hue; X is of the first three | `ColorJitter(B, C, S, H)` |
/// | `trivial` | one of 14 changes, of a strength at random (Müller and Hutter, arXiv 2103.10158) | `TrivialAugmentWide()` |
/// | `erase:P` | sets a rectangle to the mean, with probability P (Zhong et al., arXiv 1708.04896) | `RandomErasing(P)` after `Normalize` |
/// | `mixup:ALPHA` | mixes neighbours of the batch and their labels (Zhang et al., arXiv 1710.09412) | `MixUp(alpha=ALPHA)` |
/// | `cutmix:ALPHA` | puts a rectangle of the neighbour in (Yun et al., arXiv 1905.04899) | `CutMix(alpha=ALPHA)` |
///
/// With both `mixup` and `cutmix`, each batch gets one of them, each as likely. What moves in from outside has pixel
/// value 0 before normalisation.
///
/// ```
/// use keepbest_data::Augmentation;
/// let augmentation: Augmentation = "flip,shift:2,rotate:15,jitter:0.2/0.2/0.2/0.05,erase:0.25,mixup:0.2".parse()?;
/// assert_eq!((augmentation.flip, augmentation.shift, augmentation.rotate), (true, 2, 15.0));
/// assert_eq!(augmentation.to_string().parse::<Augmentation>()?, augmentation);
/// assert_eq!("none".parse::<Augmentation>()?, Augmentation::default());
/// # Ok::<(), keepbest_data::AugmentationError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augmentation {
    /// Least share of the image's area that is cut out and resized; `None` leaves the image whole.
    pub crop: Option<f64>,
    /// Shift by up to this many pixels, up or down and left or right, each whole number of pixels as likely.
    pub shift: u32,
    /// Mirror left and right with probability one half.
    pub flip: bool,
    /// Turn by up to this many degrees, either way.
    pub rotate: f64,
    /// Change brightness, contrast, saturation and hue.
    pub jitter: Jitter,
    /// TrivialAugment, wide.
    pub trivial: bool,
    /// Probability of erasing a rectangle.
    pub erase: f64,
    /// Alpha of mixup; 0 for none.
    pub mixup: f64,
    /// Alpha of cutmix; 0 for none.
    pub cutmix: f64,
}

/// The numbers of each change have a sequence of their own, so switching one on does not change another. (Shift and
/// flip came first and share the sequence without a number.)
#[derive(Clone, Copy)]
enum Change {
    Crop = 1,
    Rotate = 2,
    Jitter = 3,
    Trivial = 4,
    Erase = 5,
}

/// Which image of which epoch: what the random numbers depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub seed: u64,
    pub epoch: u64,
    /// Index in the data set.
    pub image: usize,
}

impl Draw {
    fn numbers(self, change: Change) -> CounterRng {
        let counters = [self.epoch, self.image as u64, change as u64];
        CounterRng::new(self.seed, Stream::Augment, &counters)
    }
}

impl Augmentation {
    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Changes an image, and brings it to the model's shape. It is cropped as it was read, so that a small part keeps its detail.
    pub(crate) fn change(
        &self,
        image: &Image,
        preprocessing: &Preprocessing,
        draw: Draw,
    ) -> Result<Image, PreprocessingError> {
        let fitted = match self.crop {
            Some(least) => {
                let to = [preprocessing.input.height, preprocessing.input.width];
                let image = preprocessing.fit_channels(image)?;
                crop::random(&image, to, least, &mut draw.numbers(Change::Crop))
            }
            None => preprocessing.fit(image)?,
        };
        Ok(self.change_fitted(fitted, draw))
    }

    /// Changes an image of the model's shape.
    fn change_fitted(&self, image: Image, draw: Draw) -> Image {
        let mut image = self.placement(draw).apply(image);
        if self.rotate > 0.0 {
            let mut numbers = draw.numbers(Change::Rotate);
            let degrees = numbers.uniform(-self.rotate, self.rotate);
            image = affine::Affine::rotation(degrees, image.shape()).apply(&image);
        }
        if !self.jitter.is_none() {
            image = self.jitter.apply(image, &mut draw.numbers(Change::Jitter));
        }
        if self.trivial {
            image = trivial::random(image, &mut draw.numbers(Change::Trivial));
        }
        image
    }

    /// Changes the network's input for one image: `[height, width, channels]`.
    pub(crate) fn change_input(&self, input: &mut [f32], shape: crate::ImageShape, draw: Draw) {
        if self.erase > 0.0 {
            let mut numbers = draw.numbers(Change::Erase);
            if numbers.unit() < self.erase {
                erase::random(input, shape, &mut numbers);
            }
        }
    }
}
