//! Image files and their decoding.
//!
//! Everything becomes 8-bit grey or RGB: a 16-bit value `v` becomes `(v + 128) / 257`, an alpha channel is dropped (as
//! Pillow's `convert("RGB")` does), palettes and CMYK become RGB, and EXIF's orientation is applied. The kind of file is
//! told by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use crate::guard::{BoxError, guarded};
use crate::image::MAX_DECODED_BYTES;
use crate::readers::disk::{io_error, open_file, read_file};
use crate::readers::limits;
use crate::{DataError, Image, ImageShape};

/// Extensions of the image files that are read, lower case.
pub(crate) const EXTENSIONS: [&str; 16] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "jif", "webp", "bmp", "dib", "tif", "tiff", "gif", "ppm",
    "pgm", "pbm", "pnm",
];

pub(crate) fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    })
}

/// Reads an image file from a stream, such as standard input. `origin` names it in errors.
///
/// # Errors
/// As [`decode_image`]; also when there are more bytes than an image file may have (1 GiB).
pub fn read_image_from(reader: impl Read, origin: &Path) -> Result<Image, DataError> {
    let limit = limits::IMAGE_FILE_BYTES;
    let mut bytes = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    let found = read.map_err(|source| io_error(origin, source))? as u64;
    if found > limit {
        return Err(DataError::OverLimit {
            path: origin.to_owned(),
            found,
            what: "bytes and more".to_owned(),
            limit,
        });
    }
    decode_image(&bytes, origin)
}

/// Reads and decodes an image file.
pub(crate) fn read_image(path: &Path) -> Result<Image, DataError> {
    decode_image(&read_file(path, limits::IMAGE_FILE_BYTES)?, path)
}

/// Decodes a PNG, JPEG, WebP, BMP, TIFF, GIF (its first frame) or PNM image. `origin` names it in errors.
///
/// # Errors
/// When it is not a whole image of these kinds, or takes more than 512 MiB decoded.
pub fn decode_image(bytes: &[u8], origin: &Path) -> Result<Image, DataError> {
    decode_image_within(bytes, origin, u64::MAX)
}

/// As [`decode_image`], for images of up to this many pixels: height times width, by the header, before any memory is taken for them.
///
/// # Errors
/// As [`decode_image`]; also when there are more pixels.
pub fn decode_image_within(bytes: &[u8], origin: &Path, pixels: u64) -> Result<Image, DataError> {
    let failed = |source| failed(origin, source);
    let image = guarded(|| {
        let mut decoder = decoder(Source::Bytes(Cursor::new(bytes)))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > pixels {
            return Err(
                format!("{height}x{width} are more than {pixels} pixels, the limit").into(),
            );
        }
        if bytes.starts_with(JPEG_START) {
            check_jpeg_end(bytes)?;
        }
        if let Some(chunks) = bytes.strip_prefix(PNG_START) {
            check_png_palette(chunks)?;
        }
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(image)
    })
    .map_err(failed)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, pixels) = to_grey_or_rgb(image);
    Image::new(ImageShape::new(height, width, channels), pixels).ok_or_else(|| {
        failed("the decoder delivered another number of pixels than it announced".into())
    })
}

/// The shape that [`decode_image`] will give, from the header alone.
pub(crate) fn probe_image(path: &Path) -> Result<ImageShape, DataError> {
    let file = open_file(path)?;
    let probed = guarded(|| {
        let mut decoder = decoder(Source::File(BufReader::new(file)))?;
        let (width, height) = decoder.dimensions();
        let channels = if is_grey(decoder.color_type()) { 1 } else { 3 };
        let (width, height) = (width as usize, height as usize);
        Ok(match decoder.orientation()? {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => ImageShape::new(width, height, channels),
            _ => ImageShape::new(height, width, channels),
        })
    });
    probed.map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: BoxError) -> DataError {
    DataError::Image {
        path: path.to_owned(),
        others: 0,
        source,
    }
}

/// Where an image is read from. One type, so that the decoders of all kinds of files are compiled once.
enum Source<'a> {
    Bytes(Cursor<&'a [u8]>),
    File(BufReader<File>),
}

impl Read for Source<'_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Bytes(bytes) => bytes.read(buffer),
            Source::File(file) => file.read(buffer),
        }
    }
}

impl BufRead for Source<'_> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Source::Bytes(bytes) => bytes.fill_buf(),
            Source::File(file) => file.fill_buf(),
        }
    }

    #[inline]
    fn consume(&mut self, amount: usize) {
        match self {
            Source::Bytes(bytes) => bytes.consume(amount),
            Source::File(file) => file.consume(amount),
        }
    }
}

impl Seek for Source<'_> {
    #[inline]
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Source::Bytes(bytes) => bytes.seek(to),
            Source::File(file) => file.seek(to),
        }
    }
}

fn decoder(mut reader: Source<'_>) -> Result<impl ImageDecoder, BoxError> {
    if reader.fill_buf()?.is_empty() {
        return Err("the file is empty".into());
    }
    let mut reader = ImageReader::new(reader).with_guessed_format()?;
    if reader.format().is_none() {
        return Err("not a PNG, JPEG, WebP, BMP, TIFF, GIF or PNM image".into());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Limits(_) => BoxError::from(format!(
            "its sides take more than {} MiB decoded, the limit for one image",
            MAX_DECODED_BYTES >> 20
        )),
        error => error.into(),
    })?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(format!(
            "{height}x{width} takes more than {} MiB decoded",
            MAX_DECODED_BYTES >> 20
        )
        .into());
    }
    Ok(decoder)
}

fn is_grey(color: ColorType) -> bool {
    matches!(
        color,
        ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
    )
}

/// Number of channels (1 or 3) and the pixels.
fn to_grey_or_rgb(image: DynamicImage) -> (usize, Vec<u8>) {
    fn kept<T: Copy>(values: &[T], from: usize, keep: usize, convert: impl Fn(T) -> u8) -> Vec<u8> {
        values
            .chunks_exact(from)
            .flat_map(|pixel| pixel[..keep].iter().map(|&value| convert(value)))
            .collect()
    }
    let same = |value: u8| value;
    let narrow = |value: u16| ((u32::from(value) + 128) / 257) as u8;
    match image {
        DynamicImage::ImageLuma8(pixels) => (1, pixels.into_raw()),
        DynamicImage::ImageRgb8(pixels) => (3, pixels.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => (1, kept(pixels.as_raw(), 2, 1, same)),
        DynamicImage::ImageRgba8(pixels) => (3, kept(pixels.as_raw(), 4, 3, same)),
        DynamicImage::ImageLuma16(pixels) => (1, kept(pixels.as_raw(), 1, 1, narrow)),
        DynamicImage::ImageLumaA16(pixels) => (1, kept(pixels.as_raw(), 2, 1, narrow)),
        DynamicImage::ImageRgb16(pixels) => (3, kept(pixels.as_raw(), 3, 3, narrow)),
        DynamicImage::ImageRgba16(pixels) => (3, kept(pixels.as_raw(), 4, 3, narrow)),
        other => (3, other.into_rgb8().into_raw()),
    }
}

const JPEG_START: &[u8] = &[0xff, 0xd8];

/// The decoder fills up a JPEG file that breaks off with grey, without a word; so look for its end marker first. Segments
/// (which may hold whole thumbnails) are passed over up to the first scan; in scans `FF D9` can only be the end.
fn check_jpeg_end(bytes: &[u8]) -> Result<(), BoxError> {
    let truncated = || BoxError::from("the JPEG file is truncated: it has no end marker");
    let mut at = 2;
    loop {
        match bytes.get(at..at + 2) {
            Some([0xff, 0xff]) => at += 1,
            Some([0xff, 0xda]) => break,
            Some([0xff, 0x01 | 0xd0..=0xd7]) => at += 2,
            Some([0xff, _]) => {
                let length = bytes.get(at + 2..at + 4).ok_or_else(truncated)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            // Something else: for the decoder to judge.
            Some(_) => return Ok(()),
            None => return Err(truncated()),
        }
    }
    if bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]) {
        Ok(())
    } else {
        Err(truncated())
    }
}

const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The decoder (png 0.18.1) panics on a palette that is no whole number of colours. Everything else is for it to judge.
fn check_png_palette(mut chunks: &[u8]) -> Result<(), BoxError> {
    while let Some(([a, b, c, d, kind @ ..], rest)) = chunks.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match kind {
            b"PLTE" if !length.is_multiple_of(3) => {
                return Err(format!("its palette has {length} bytes, three a colour").into());
            }
            b"IDAT" | b"IEND" => break,
            _ => {}
        }
        // The data, then its checksum.
        chunks = rest.get(length.saturating_add(4)..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_in_any_case() {
        for (name, expected) in [
            ("a.PNG", true),
            ("a.jpeg", true),
            ("a.Jpg", true),
            ("a.GIF", true),
            ("a.jfif", true),
            ("a.svg", false),
            ("png", false),
        ] {
            assert_eq!(has_image_extension(Path::new(name)), expected, "{name}");
        }
    }
}
