//! What happens to an image between the file and the network; recorded with the model and replayed at predict.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::resize::{centre, resize_part, shorter_side};
use crate::watch::Stage;
use crate::{Dataset, Image, ImageShape, Normaliser, PrepareError, PreprocessingError, Watch};

/// The rule by which an image of another size becomes one of the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ResizeRule {
    /// It does not: the size must match.
    #[default]
    None,
    /// Resized to the model's height and width, whatever that does to the aspect ratio.
    Exact,
    /// Resized, keeping the aspect ratio, so that the model's height and width are just covered; then the centre is cut
    /// out. For a square model that is torchvision's `Resize(size)` and `CenterCrop(size)`. With a
    /// [`shorter_side`](Preprocessing::shorter_side) the image is first resized to that: `Resize(256)` and `CenterCrop(224)`.
    Crop,
}

/// The rule by which an image with another number of channels becomes one of the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChannelRule {
    /// It does not: the number of channels must match.
    #[default]
    None,
    /// Grey becomes red = green = blue = grey.
    ToRgb,
    /// Colour becomes luma, ITU-R BT.601 as Pillow computes it: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
    ToGrey,
}

impl ResizeRule {
    /// The rule where images are of several sizes and none is asked for.
    pub(crate) const FOR_MIXED_SIZES: Self = Self::Crop;
}

impl ChannelRule {
    /// The rule where images are of both kinds.
    pub(crate) fn to(channels: usize) -> Self {
        match channels {
            3 => Self::ToRgb,
            1 => Self::ToGrey,
            _ => Self::None,
        }
    }
}

/// A difference of an image from all that a model has seen: see [`Preprocessing::unrecorded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unrecorded {
    /// In height or width.
    pub size: bool,
    /// In being grey or in colour.
    pub channels: bool,
}

impl Unrecorded {
    /// Whether it differs at all.
    pub fn any(self) -> bool {
        self.size || self.channels
    }
}

/// The whole way from a decoded image to the network's input, as data.
///
/// In order: channel rule, resize rule, then per channel `(pixel / divide_by - mean) / std` in `f32`, which is
/// torchvision's `ToTensor` and `Normalize`. Reading it from JSON or TOML checks the values and refuses unknown keys.
///
/// ```
/// use keepbest_data::{Image, ImageShape, Preprocessing};
///
/// let preprocessing = Preprocessing::new(ImageShape::new(1, 2, 1)).with_normalisation(vec![0.5], vec![0.25]);
/// let image = Image::new(ImageShape::new(1, 2, 1), vec![0u8, 255]).unwrap();
/// let mut out = [0.0; 2];
/// preprocessing.apply(&image, &mut out)?;
/// assert_eq!(out, [-2.0, 2.0]);
///
/// let other = Image::new(ImageShape::new(2, 2, 3), vec![0u8; 12]).unwrap();
/// let error = preprocessing.apply(&other, &mut out).unwrap_err();
/// assert_eq!(error.to_string(), "image is 2x2x3, the model expects 1x2x1");
/// # Ok::<(), keepbest_data::PreprocessingError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Preprocessing {
    /// The shape the model takes.
    pub input: ImageShape,
    /// What happens to an image of another size.
    pub resize: ResizeRule,
    /// What the shorter side of an image becomes before [`ResizeRule::Crop`] cuts the model's size out of it, in pixels; as much as
    /// just covers that size when absent.
    pub shorter_side: Option<usize>,
    /// What happens to an image with another number of channels.
    pub channels: ChannelRule,
    /// What an 8-bit pixel value is divided by first: 255.
    pub divide_by: f32,
    /// Mean of each channel, after the division.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, after the division.
    pub std: Vec<f32>,
}

/// The same fields before they are checked.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Preprocessing", deny_unknown_fields)]
struct Unchecked {
    input: ImageShape,
    resize: ResizeRule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shorter_side: Option<usize>,
    channels: ChannelRule,
    divide_by: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl TryFrom<Unchecked> for Preprocessing {
    type Error = PreprocessingError;

    fn try_from(fields: Unchecked) -> Result<Self, PreprocessingError> {
        let Unchecked {
            input,
            resize,
            shorter_side,
            channels,
            divide_by,
            mean,
            std,
        } = fields;
        let preprocessing = Self {
            input,
            resize,
            shorter_side,
            channels,
            divide_by,
            mean,
            std,
        };
        preprocessing.validate()?;
        Ok(preprocessing)
    }
}

impl From<Preprocessing> for Unchecked {
    fn from(preprocessing: Preprocessing) -> Self {
        let Preprocessing {
            input,
            resize,
            shorter_side,
            channels,
            divide_by,
            mean,
            std,
        } = preprocessing;
        Self {
            input,
            resize,
            shorter_side,
            channels,
            divide_by,
            mean,
            std,
        }
    }
}

impl Preprocessing {
    /// No conversion, division by 255, mean 0 and standard deviation 1.
    pub fn new(input: ImageShape) -> Self {
        Self {
            input,
            resize: ResizeRule::None,
            shorter_side: None,
            channels: ChannelRule::None,
            divide_by: 255.0,
            mean: vec![0.0; input.channels],
            std: vec![1.0; input.channels],
        }
    }

    /// The same with a resize rule.
    pub fn with_resize(mut self, rule: ResizeRule) -> Self {
        self.resize = rule;
        self
    }

    /// The same with a shorter side before the crop.
    pub fn with_shorter_side(mut self, side: usize) -> Self {
        self.shorter_side = Some(side);
        self
    }

    /// The same with a channel rule.
    pub fn with_channels(mut self, rule: ChannelRule) -> Self {
        self.channels = rule;
        self
    }

    /// The same with a rule for every image: where none is recorded because the training images were all of one size or kind,
    /// the one that would have been recorded had they not been. What is recorded stays, and so does every image that it fits.
    pub fn converting(mut self) -> Self {
        if self.resize == ResizeRule::None {
            self.resize = ResizeRule::FOR_MIXED_SIZES;
        }
        if self.channels == ChannelRule::None {
            self.channels = ChannelRule::to(self.input.channels);
        }
        self
    }

    /// What it takes to bring an image of this shape to the model's that no rule is recorded for.
    pub fn unrecorded(&self, shape: ImageShape) -> Unrecorded {
        let same_size = (shape.height, shape.width) == (self.input.height, self.input.width);
        let channels_fit = shape.channels == self.input.channels
            || match self.channels {
                ChannelRule::None => false,
                ChannelRule::ToRgb => shape.channels == 1,
                ChannelRule::ToGrey => shape.channels == 3,
            };
        Unrecorded {
            size: !same_size && self.resize == ResizeRule::None,
            channels: !channels_fit,
        }
    }

    /// What becomes of images that differ so, in words; `None` when they do not.
    pub fn conversion_words(&self, differ: Unrecorded) -> Option<String> {
        let ImageShape { height, width, .. } = self.input;
        let channels = match (differ.channels, self.input.channels) {
            (false, _) => None,
            (true, 1) => Some("colour becomes grey".to_owned()),
            (true, _) => Some("grey becomes red = green = blue".to_owned()),
        };
        let size = differ.size.then(|| match self.resize {
            ResizeRule::Crop => {
                format!("other sizes are resized to cover {height}x{width} and cut to its centre")
            }
            _ => format!("other sizes are resized to {height}x{width}"),
        });
        let words: Vec<String> = channels.into_iter().chain(size).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The same with another mean and standard deviation of each channel.
    pub fn with_normalisation(mut self, mean: Vec<f32>, std: Vec<f32>) -> Self {
        self.mean = mean;
        self.std = std;
        self
    }

    /// The same with mean and standard deviation measured on all images of `train`, after channel and resize rule.
    ///
    /// Exact and so independent of the order: sums of pixels and of their squares are whole numbers in `u64`, the
    /// variance (of the population) is formed from them in `u128` and rounded once. A channel that is constant gets
    /// standard deviation 1.
    ///
    /// # Errors
    /// When an image cannot be read or does not fit (it is named), or there are none.
    pub fn computed_on(self, train: &dyn Dataset) -> Result<Self, PrepareError> {
        self.computed_watched(train, Watch::none())
    }

    pub(crate) fn computed_watched(
        self,
        train: &dyn Dataset,
        watch: Watch<'_>,
    ) -> Result<Self, PrepareError> {
        self.validate()?;
        let mut sums = ChannelSums::new(self.input.channels);
        for index in 0..train.len() {
            watch.tell(Stage::Measuring, index, train.len())?;
            let image = train.image(index)?;
            let fitted = self.fit(&image).map_err(|source| PrepareError::Image {
                origin: train.source(index),
                source,
            })?;
            sums.add(fitted.pixels());
        }
        let (mean, std) = sums
            .finish(f64::from(self.divide_by))
            .ok_or(PreprocessingError::NoImages)?;
        Ok(self.with_normalisation(mean, std))
    }

    /// Checks that the fields go together.
    ///
    /// # Errors
    /// Names the first field that does not.
    pub fn validate(&self) -> Result<(), PreprocessingError> {
        let invalid = |field, reason: String| Err(PreprocessingError::Invalid { field, reason });
        let ImageShape {
            channels,
            height,
            width,
        } = self.input;
        if !matches!(channels, 1 | 3) {
            return invalid(
                "input",
                format!("has {channels} channels; images have 1 or 3"),
            );
        }
        if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE {
            return invalid(
                "input",
                format!("is {height}x{width}; a side is 1 to {MAX_SIDE}"),
            );
        }
        if let Some(side) = self.shorter_side {
            if self.resize != ResizeRule::Crop {
                return invalid(
                    "shorter_side",
                    "is for the resize rule crop alone".to_owned(),
                );
            }
            if side < height.max(width) || side > MAX_SIDE {
                return invalid(
                    "shorter_side",
                    format!(
                        "is {side}; it is {} (the input's longer side) to {MAX_SIDE}",
                        height.max(width)
                    ),
                );
            }
        }
        match (self.channels, channels) {
            (ChannelRule::ToRgb, 1) => {
                return invalid(
                    "channels",
                    "is to-rgb, but the input has 1 channel".to_owned(),
                );
            }
            (ChannelRule::ToGrey, 3) => {
                return invalid(
                    "channels",
                    "is to-grey, but the input has 3 channels".to_owned(),
                );
            }
            _ => {}
        }
        if !(self.divide_by > 0.0 && self.divide_by.is_finite()) {
            return invalid(
                "divide_by",
                format!("is {}; it must be positive and finite", self.divide_by),
            );
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels {
                return invalid(
                    field,
                    format!("has {} values for {channels} channels", values.len()),
                );
            }
        }
        if let Some(value) = self.mean.iter().find(|value| !value.is_finite()) {
            return invalid("mean", format!("holds {value}; it must be finite"));
        }
        if let Some(value) = self
            .std
            .iter()
            .find(|value| !(**value > 0.0 && value.is_finite()))
        {
            return invalid(
                "std",
                format!("holds {value}; it must be positive and finite"),
            );
        }
        Ok(())
    }

    /// Whether an image of this shape can be brought to the model's.
    ///
    /// # Errors
    /// [`PreprocessingError::Shape`] when no recorded rule does it.
    pub fn accepts(&self, shape: ImageShape) -> Result<(), PreprocessingError> {
        if !self.unrecorded(shape).any() && shape.size() > 0 {
            Ok(())
        } else {
            Err(PreprocessingError::Shape {
                found: shape,
                expected: self.input,
            })
        }
    }

    /// Channel rule alone: an image that the resize rule can bring to the model's shape, still `u8`.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub(crate) fn fit_channels<'a>(
        &self,
        image: &'a Image,
    ) -> Result<Cow<'a, Image>, PreprocessingError> {
        let shape = image.shape();
        self.accepts(shape)?;
        let pixels: Vec<u8> = match (shape.channels, self.input.channels) {
            (1, 3) => in_colour(image.pixels()),
            (3, 1) => image
                .pixels()
                .chunks_exact(3)
                .map(|rgb| luma([rgb[0], rgb[1], rgb[2]]))
                .collect(),
            _ => return Ok(Cow::Borrowed(image)),
        };
        let shape = ImageShape::new(shape.height, shape.width, self.input.channels);
        Ok(Cow::Owned(
            Image::new(shape, pixels).expect("as many pixels"),
        ))
    }

    /// Channel and resize rule: an image of exactly the model's shape, still `u8`. An image of that shape is returned
    /// as it is, unless a shorter side is to be cut from.
    ///
    /// # Errors
    /// [`PreprocessingError::Shape`] when no recorded rule brings it there.
    pub fn fit(&self, image: &Image) -> Result<Image, PreprocessingError> {
        let shape = image.shape();
        self.accepts(shape)?;
        if shape == self.input && self.shorter_side.is_none() {
            return Ok(image.clone());
        }
        // Channels are resized one by one: a large grey image is small before it is three times as much.
        let is_grey = (shape.channels, self.input.channels) == (1, 3);
        let image = match is_grey {
            true => Cow::Borrowed(image),
            false => self.fit_channels(image)?,
        };
        let mut pixels = Cow::Borrowed(image.pixels());
        let channels = image.shape().channels;
        let (from, to) = (
            (shape.height, shape.width),
            (self.input.height, self.input.width),
        );
        if from != to || self.shorter_side.is_some() {
            let resized_to = match (self.resize, self.shorter_side) {
                (ResizeRule::Crop, Some(side)) => shorter_side(from, (side, side)),
                (ResizeRule::Crop, None) => shorter_side(from, to),
                _ => to,
            };
            let part = (centre(resized_to.0, to.0), centre(resized_to.1, to.1));
            pixels = Cow::Owned(resize_part(&pixels, from, channels, resized_to, part));
        }
        if is_grey {
            pixels = Cow::Owned(in_colour(&pixels));
        }
        Ok(Image::new(self.input, pixels.into_owned()).expect("fitted to the input shape"))
    }

    /// The network's input for one image: `out` is `[height, width, channels]`, dense.
    ///
    /// # Errors
    /// [`PreprocessingError::Shape`] when the image does not fit, [`PreprocessingError::OutputLength`] when `out` does
    /// not, [`PreprocessingError::Invalid`] when a field makes no sense.
    pub fn apply(&self, image: &Image, out: &mut [f32]) -> Result<(), PreprocessingError> {
        Normaliser::new(self)?.apply(image, out)
    }
}

/// The longest side of a model's input, in pixels.
const MAX_SIDE: usize = 16_384;

/// Grey pixels as red, green and blue.
fn in_colour(pixels: &[u8]) -> Vec<u8> {
    pixels.iter().flat_map(|&grey| [grey; 3]).collect()
}

pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16)
        as u8
}

/// Sums of pixels and of their squares, by channel.
struct ChannelSums {
    sums: Vec<u64>,
    squares: Vec<u64>,
    pixels: u64,
}

impl ChannelSums {
    fn new(channels: usize) -> Self {
        Self {
            sums: vec![0; channels],
            squares: vec![0; channels],
            pixels: 0,
        }
    }

    fn add(&mut self, pixels: &[u8]) {
        let channels = self.sums.len();
        for (channel, (sum, square)) in self.sums.iter_mut().zip(&mut self.squares).enumerate() {
            for &value in pixels.iter().skip(channel).step_by(channels) {
                *sum += u64::from(value);
                *square += u64::from(value) * u64::from(value);
            }
        }
        self.pixels += (pixels.len() / channels) as u64;
    }

    /// Mean and standard deviation by channel, of pixels divided by `divide_by`; `None` without pixels.
    fn finish(&self, divide_by: f64) -> Option<(Vec<f32>, Vec<f32>)> {
        if self.pixels == 0 {
            return None;
        }
        let n = self.pixels as f64;
        let statistics = self.sums.iter().zip(&self.squares).map(|(&sum, &square)| {
            let mean = sum as f64 / (n * divide_by);
            // n^2 times the variance is a whole number, and not negative.
            let scaled =
                u128::from(self.pixels) * u128::from(square) - u128::from(sum) * u128::from(sum);
            let std = (scaled as f64).sqrt() / (n * divide_by);
            (mean as f32, if scaled == 0 { 1.0 } else { std as f32 })
        });
        Some(statistics.unzip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDataset;

    fn image(height: usize, width: usize, channels: usize, pixels: &[u8]) -> Image {
        Image::new(ImageShape::new(height, width, channels), pixels.to_vec()).unwrap()
    }

    #[test]
    fn statistics_are_those_of_the_population() {
        let shape = ImageShape::new(1, 2, 3);
        let pixels = vec![0, 10, 7, 255, 20, 7, 255, 30, 7, 0, 40, 7];
        let set = MemoryDataset::new("m", shape, pixels, vec![0, 0], vec!["a".to_owned()]).unwrap();
        let computed = Preprocessing::new(shape).computed_on(&set).unwrap();
        assert_eq!(
            computed.mean,
            [0.5, (25.0 / 255.0) as f32, (7.0 / 255.0) as f32]
        );
        assert_eq!(computed.std, [0.5, (125f64.sqrt() / 255.0) as f32, 1.0]);
    }

    #[test]
    fn no_images_is_an_error() {
        let shape = ImageShape::new(1, 1, 1);
        let set = MemoryDataset::new("m", shape, vec![], vec![], vec![]).unwrap();
        let error = Preprocessing::new(shape).computed_on(&set).unwrap_err();
        assert!(
            matches!(
                error,
                PrepareError::Preprocessing(PreprocessingError::NoImages)
            ),
            "{error}"
        );
    }

    #[test]
    fn channels_convert_only_when_recorded() {
        let grey = image(1, 2, 1, &[3, 200]);
        let colour = image(1, 1, 3, &[255, 0, 0]);
        let to_rgb = Preprocessing::new(ImageShape::new(1, 2, 3)).with_channels(ChannelRule::ToRgb);
        assert_eq!(
            to_rgb.fit(&grey).unwrap().pixels(),
            [3, 3, 3, 200, 200, 200]
        );
        let to_grey =
            Preprocessing::new(ImageShape::new(1, 1, 1)).with_channels(ChannelRule::ToGrey);
        assert_eq!(to_grey.fit(&colour).unwrap().pixels(), [76]);
        let strict = Preprocessing::new(ImageShape::new(1, 2, 3));
        assert_eq!(
            strict.fit(&grey).unwrap_err().to_string(),
            "image is 1x2x1, the model expects 1x2x3"
        );
        // A size is not converted because channels are.
        assert!(to_rgb.fit(&image(2, 2, 1, &[0; 4])).is_err());
    }

    #[test]
    fn grey_is_the_same_resized_before_or_after_it_becomes_colour() {
        let pixels: Vec<u8> = (0..77).map(|at: u32| (at * 53 % 256) as u8).collect();
        let grey = Image::new(ImageShape::new(7, 11, 1), pixels).unwrap();
        let colour = Image::new(ImageShape::new(7, 11, 3), in_colour(grey.pixels())).unwrap();
        for (side, rule) in [
            (3, ResizeRule::Exact),
            (3, ResizeRule::Crop),
            (19, ResizeRule::Exact),
            (19, ResizeRule::Crop),
        ] {
            let how = Preprocessing::new(ImageShape::new(side, side, 3)).with_resize(rule);
            let how = how.with_channels(ChannelRule::ToRgb);
            let fitted = how.fit(&grey).unwrap();
            assert_eq!(fitted.pixels(), how.fit(&colour).unwrap().pixels());
        }
    }

    #[test]
    fn a_shorter_side_is_resized_to_before_the_cut() {
        let column = |x: usize| (x * 20) as u8;
        let wide: Vec<u8> = (0..4 * 8).map(|at| column(at % 8)).collect();
        let crop = Preprocessing::new(ImageShape::new(2, 2, 1)).with_resize(ResizeRule::Crop);
        let cut = crop.clone().with_shorter_side(4);
        // No resizing at all: the middle of the image.
        assert_eq!(
            cut.fit(&image(4, 8, 1, &wide)).unwrap().pixels(),
            [60, 80, 60, 80]
        );
        // An image of the model's size is cut from all the same, as torchvision does.
        let (small, twice) = (image(2, 2, 1, &[0, 100, 0, 100]), ImageShape::new(4, 4, 1));
        let resized = Preprocessing::new(twice)
            .with_resize(ResizeRule::Exact)
            .fit(&small)
            .unwrap();
        let middle = [5, 6, 9, 10].map(|at| resized.pixels()[at]);
        assert_eq!(cut.fit(&small).unwrap().pixels(), middle);

        let invalid = |of: Preprocessing| of.validate().unwrap_err().to_string();
        assert!(invalid(cut.clone().with_resize(ResizeRule::Exact)).contains("crop alone"));
        assert!(invalid(crop.clone().with_shorter_side(1)).contains("is 1; it is 2"));
        let json = serde_json::to_value(&cut).unwrap();
        assert_eq!(json["shorter_side"], 4);
        assert_eq!(serde_json::from_value::<Preprocessing>(json).unwrap(), cut);
        assert!(
            serde_json::to_value(&crop)
                .unwrap()
                .get("shorter_side")
                .is_none()
        );
    }

    #[test]
    fn json_round_trips_and_refuses_what_it_does_not_know() {
        let preprocessing = Preprocessing::new(ImageShape::new(28, 28, 1))
            .with_resize(ResizeRule::Crop)
            .with_channels(ChannelRule::ToGrey)
            .with_normalisation(vec![0.286_040_6], vec![0.353_024_2]);
        let json = serde_json::to_value(&preprocessing).unwrap();
        assert_eq!(
            serde_json::from_value::<Preprocessing>(json.clone()).unwrap(),
            preprocessing
        );
        assert_eq!(json["resize"], "crop");
        assert_eq!(json["channels"], "to-grey");

        let changed = |key: &str, value: serde_json::Value| {
            let mut json = json.clone();
            json[key] = value;
            serde_json::from_value::<Preprocessing>(json)
                .unwrap_err()
                .to_string()
        };
        assert!(changed("gamma", 2.into()).contains("unknown field `gamma`"));
        assert!(changed("resize", "stretch".into()).contains("unknown variant `stretch`"));
        assert!(changed("std", vec![0.0].into()).contains("`std` holds 0"));
        assert!(
            changed("mean", vec![0.0, 1.0].into()).contains("`mean` has 2 values for 1 channels")
        );
        assert!(changed("divide_by", 0.into()).contains("`divide_by`"));
        assert!(changed("channels", "to-rgb".into()).contains("to-rgb"));
        let mut missing = json;
        missing.as_object_mut().unwrap().remove("mean");
        assert!(serde_json::from_value::<Preprocessing>(missing).is_err());
    }
}
