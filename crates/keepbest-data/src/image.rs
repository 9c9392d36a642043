//! A decoded image and its shape.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Channels, height and width of an image, in pixels. Displays as `28x28x1` (height x width x channels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageShape {
    /// Number of channels: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl ImageShape {
    /// A shape from height, width and channels, in the order they are laid out.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Number of values in one image: `height * width * channels`, saturating.
    pub const fn size(&self) -> usize {
        self.height
            .saturating_mul(self.width)
            .saturating_mul(self.channels)
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// An 8-bit image: rows first, channels last (HWC), dense. Cloning shares the pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    shape: ImageShape,
    pixels: Bytes,
}

impl Image {
    /// An image from its shape and its `height * width * channels` pixel values; `None` when their number differs.
    pub fn new(shape: ImageShape, pixels: impl Into<Bytes>) -> Option<Self> {
        let pixels = pixels.into();
        (pixels.len() == shape.size()).then_some(Self { shape, pixels })
    }

    /// Height, width and channels.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The pixel values, HWC.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Which image it is: the first eight bytes, little-endian, of BLAKE3 over its shape as text and its pixels. One whose colours
    /// are all grey is the same as in one channel.
    pub fn digest(&self) -> u64 {
        let (colours, rest) = self.pixels.as_chunks::<3>();
        let is_grey = self.shape.channels == 3
            && rest.is_empty()
            && colours.iter().all(|[r, g, b]| r == g && g == b);
        let grey: Vec<u8>;
        let (shape, pixels) = if is_grey {
            grey = colours.iter().map(|[value, _, _]| *value).collect();
            let ImageShape { height, width, .. } = self.shape;
            (ImageShape::new(height, width, 1), &*grey)
        } else {
            (self.shape, &*self.pixels)
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(shape.to_string().as_bytes());
        hasher.update(pixels);
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({})", self.shape)
    }
}

/// The most that one decoded image may take: 512 MiB.
pub(crate) const MAX_DECODED_BYTES: u64 = 512 << 20;
