//! Brightness, contrast, saturation, sharpness and hue, as Pillow's `ImageEnhance` and torchvision's `adjust_hue` on a PIL
//! image: in `f32` and 8 bits at the same places, so bit for bit.
//!
//! Reference: Pillow, `ImageEnhance.py` and `src/libImaging/{Blend,Convert,Filter}.c`.

use crate::preprocessing::luma;
use crate::{Image, ImageShape};

/// From `from` (factor 0) through `to` (factor 1) and beyond.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    // The cast takes off the fraction and ends at 0 and 255.
    (from + factor * (to - from)) as u8
}

fn with_pixels(image: &Image, pixels: Vec<u8>) -> Image {
    Image::new(image.shape(), pixels).expect("as large as before")
}

fn each(image: &Image, change: impl Fn(u8) -> u8) -> Image {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    let pixels = image
        .pixels()
        .iter()
        .map(|&value| table[usize::from(value)]);
    with_pixels(image, pixels.collect())
}

/// The luma of every pixel.
fn grey(image: &Image) -> impl Iterator<Item = u8> + '_ {
    let channels = image.shape().channels;
    image
        .pixels()
        .chunks_exact(channels)
        .map(|pixel| match *pixel {
            [red, green, blue] => luma([red, green, blue]),
            _ => pixel[0],
        })
}

/// Factor 0 is black, 1 leaves the image.
pub(super) fn brightness(image: &Image, factor: f64) -> Image {
    each(image, |value| blend(0, value, factor as f32))
}

/// Factor 0 is the mean luma everywhere, 1 leaves the image.
pub(super) fn contrast(image: &Image, factor: f64) -> Image {
    let sum: u64 = grey(image).map(u64::from).sum();
    let count = image.shape().height * image.shape().width;
    let mean = (sum as f64 / count as f64 + 0.5) as u8;
    each(image, |value| blend(mean, value, factor as f32))
}

/// Factor 0 is grey, 1 leaves the image. A grey image stays.
pub(super) fn saturation(image: &Image, factor: f64) -> Image {
    if image.shape().channels != 3 {
        return image.clone();
    }
    let mut pixels = image.pixels().to_vec();
    for (pixel, grey) in pixels.chunks_exact_mut(3).zip(grey(image)) {
        for value in pixel {
            *value = blend(grey, *value, factor as f32);
        }
    }
    with_pixels(image, pixels)
}

/// Factor 0 is smoothed with the kernel `[1 1 1; 1 5 1; 1 1 1] / 13`, 1 leaves the image. The outermost pixels stay.
pub(super) fn sharpness(image: &Image, factor: f64) -> Image {
    let ImageShape {
        channels,
        height,
        width,
    } = image.shape();
    let stride = width * channels;
    let source = image.pixels();
    let mut pixels = source.to_vec();
    for y in 1..height.saturating_sub(1) {
        for x in channels..stride.saturating_sub(channels) {
            let at = y * stride + x;
            let around: u32 = [at - stride, at, at + stride]
                .iter()
                .map(|&at| {
                    let side = |at: usize| u32::from(source[at]);
                    side(at - channels) + side(at) + side(at + channels)
                })
                .sum();
            // To the nearest; 13 is odd, so there is never a half.
            let smooth = (2 * (around + 4 * u32::from(source[at])) + 13) / 26;
            pixels[at] = blend(smooth as u8, source[at], factor as f32);
        }
    }
    with_pixels(image, pixels)
}

/// Turns the hue by a part of the whole circle, from -0.5 to 0.5, in 8-bit HSV. A grey image stays.
pub(super) fn hue(image: &Image, turn: f64) -> Image {
    if image.shape().channels != 3 {
        return image.clone();
    }
    // Towards 0, then modulo 256.
    let turn = (turn * 255.0) as i32 as u8;
    let mut pixels = image.pixels().to_vec();
    for pixel in pixels.chunks_exact_mut(3) {
        let [hue, saturation, value] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&from_hsv([hue.wrapping_add(turn), saturation, value]));
    }
    with_pixels(image, pixels)
}

fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let below = |value: u8| f32::from(most - value) / range;
    let (red_below, green_below, blue_below) = (below(red), below(green), below(blue));
    let sector =
        |from: f64, plus: f32, minus: f32| (from + f64::from(plus) - f64::from(minus)) as f32;
    let hue = if red == most {
        blue_below - green_below
    } else if green == most {
        sector(2.0, red_below, blue_below)
    } else {
        sector(4.0, green_below, red_below)
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let to_u8 = |x: f32| (f64::from(x) * 255.0) as u8;
    [to_u8(hue), to_u8(saturation), most]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let place = f64::from(hue) * 6.0 / 255.0;
    let sector = place.floor();
    let part = f64::from((place - sector) as f32);
    let saturation = f64::from(f32::from(saturation) / 255.0);
    let of_value = |share: f64| (f64::from(value) * share).round() as u8;
    let low = of_value(1.0 - saturation);
    let falling = of_value(1.0 - saturation * part);
    let rising = of_value(1.0 - saturation * (1.0 - part));
    match sector as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}
