//! Changes of an image's tones by table: posterize, solarize, autocontrast, equalize, as Pillow's `ImageOps`.

use crate::Image;

/// Each channel through a table of its own, made from the channel's histogram.
fn by_histogram(image: &Image, table: impl Fn(&[u64; 256]) -> [u8; 256]) -> Image {
    let channels = image.shape().channels;
    let mut pixels = image.pixels().to_vec();
    for channel in 0..channels {
        let mut histogram = [0u64; 256];
        for &value in pixels.iter().skip(channel).step_by(channels) {
            histogram[usize::from(value)] += 1;
        }
        let table = table(&histogram);
        for value in pixels.iter_mut().skip(channel).step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
    Image::new(image.shape(), pixels).expect("as large as before")
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// Keeps the upper `bits` bits of every value.
pub(super) fn posterize(image: &Image, bits: u32) -> Image {
    let mask = !(0xffu32 >> bits) as u8;
    by_histogram(image, |_| identity().map(|value| value & mask))
}

/// Turns the values from `threshold` on into their negatives.
pub(super) fn solarize(image: &Image, threshold: f64) -> Image {
    let change = |value: u8| {
        if f64::from(value) < threshold {
            value
        } else {
            255 - value
        }
    };
    by_histogram(image, |_| identity().map(change))
}

/// Stretches each channel over all values.
pub(super) fn autocontrast(image: &Image) -> Image {
    by_histogram(image, |histogram| {
        let least = histogram.iter().position(|&count| count > 0);
        let most = histogram.iter().rposition(|&count| count > 0);
        let (Some(least), Some(most)) = (least, most) else {
            return identity();
        };
        if least == most {
            return identity();
        }
        let scale = 255.0 / (most - least) as f64;
        let offset = -(least as f64) * scale;
        // The cast takes off the fraction and ends at 0 and 255.
        identity().map(|value| (f64::from(value) * scale + offset) as u8)
    })
}

/// Makes each channel's histogram as even as a table can.
pub(super) fn equalize(image: &Image) -> Image {
    by_histogram(image, |histogram| {
        let mut counts = histogram.iter().filter(|&&count| count > 0);
        // The brightest value is left out, as it cannot become brighter.
        counts.next_back();
        let step = counts.sum::<u64>() / 255;
        if step == 0 {
            return identity();
        }
        let mut sum = step / 2;
        std::array::from_fn(|value| {
            let level = sum / step;
            sum += histogram[value];
            level.min(255) as u8
        })
    })
}
