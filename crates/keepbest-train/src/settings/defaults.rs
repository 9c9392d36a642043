//! Defaults that the rows of settings are made with.

use keepbest_data::{Augmentation, ImageShape, Mirrored};

use super::augmentation::{default_augmentation, strong_augmentation};
use super::{ImageSize, Resize};

/// Defaults that depend on the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataDefaults {
    /// Size of the network's input.
    pub image_size: ImageSize,
    /// The way images of other sizes are brought to it.
    pub resize: Resize,
    /// Random changes that keep an image of its class.
    pub augment: Augmentation,
    /// The same for a long run, in which the network would learn the images by heart.
    pub strong_augment: Augmentation,
    /// Images to train on; 0 where it is not known yet.
    pub train_images: usize,
}

impl DataDefaults {
    /// The defaults for so many images, which are brought to `input` like this.
    pub(crate) fn new(
        input: ImageShape,
        resize: Resize,
        mirrored: &Mirrored,
        train_images: usize,
    ) -> Self {
        Self {
            image_size: ImageSize {
                height: input.height,
                width: input.width,
            },
            resize,
            augment: default_augmentation(mirrored, input),
            strong_augment: strong_augmentation(mirrored, input),
            train_images,
        }
    }
}

impl Default for DataDefaults {
    fn default() -> Self {
        let image_size = ImageSize {
            height: 28,
            width: 28,
        };
        Self {
            image_size,
            resize: Resize::None,
            augment: Augmentation::default(),
            strong_augment: Augmentation::default(),
            train_images: 0,
        }
    }
}

/// The data set trained on when none is named: it ships inside the program.
pub const DEFAULT_DATA: &str = keepbest_data::DEFAULT_SOURCE;

/// The network trained when none is named.
pub const DEFAULT_MODEL: &str = "simple-cnn";
