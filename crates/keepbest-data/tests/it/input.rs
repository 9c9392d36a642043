use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, GrayAlphaImage, ImageBuffer, ImageFormat, RgbaImage};
use keepbest_data::{DataError, Image, ImageShape, decode_image, list_images, load_image};

use crate::fixtures::*;

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Result<Image, DataError> {
    decode_image(bytes, Path::new("stdin"))
}

#[test]
fn png_is_lossless_in_grey_and_colour() {
    let image = decode(&encoded(grey(0, 1, 2), ImageFormat::Png)).unwrap();
    assert_eq!(image.shape(), ImageShape::new(28, 56, 1));
    assert!(image.pixels() == grey(0, 1, 2).as_raw());
    let image = decode(&encoded(colour(0, 20, 30), ImageFormat::Png)).unwrap();
    assert_eq!(image.shape(), ImageShape::new(20, 30, 3));
    assert!(image.pixels() == colour(0, 20, 30).as_raw());
}

#[test]
fn alpha_is_dropped_and_16_bits_are_rounded() {
    let rgba = RgbaImage::from_fn(5, 4, |x, y| {
        image::Rgba([x as u8, y as u8, 200, (x * 50) as u8])
    });
    let image = decode(&encoded(rgba, ImageFormat::Png)).unwrap();
    assert_eq!(image.shape(), ImageShape::new(4, 5, 3));
    assert_eq!(image.pixels()[3..9], [1, 0, 200, 2, 0, 200]);

    let grey_alpha = GrayAlphaImage::from_fn(3, 1, |x, _| image::LumaA([x as u8 * 10, 0]));
    let image = decode(&encoded(grey_alpha, ImageFormat::Png)).unwrap();
    assert_eq!(
        (image.shape(), image.pixels()),
        (ImageShape::new(1, 3, 1), &[0, 10, 20][..])
    );

    let values = [0u16, 128, 129, 256, 257, 32_768, 65_406, 65_407, 65_535];
    let deep = ImageBuffer::from_fn(9, 1, |x, _| image::Luma([values[x as usize]]));
    let image = decode(&encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Png)).unwrap();
    assert_eq!(image.pixels(), [0, 0, 1, 1, 1, 128, 254, 255, 255]);
    let deep = ImageBuffer::from_fn(2, 1, |x, _| image::Rgba([257 * x as u16, 514, 65_535, 7]));
    let image = decode(&encoded(DynamicImage::ImageRgba16(deep), ImageFormat::Png)).unwrap();
    assert_eq!(image.pixels(), [0, 2, 255, 1, 2, 255]);
}

/// The decoder has code for several instruction sets; this digest holds for each of them.
#[test]
fn jpeg_decodes_to_the_same_pixels_everywhere() {
    let bytes = encoded(colour(5, 37, 61), ImageFormat::Jpeg);
    let image = decode(&bytes).unwrap();
    assert_eq!(image.shape(), ImageShape::new(37, 61, 3));
    assert_eq!(
        blake3::hash(image.pixels()).to_hex().as_str(),
        "29edb08c4ac03e771f3fd737da4205ab69a7197f4d6c4e91388b8465369c595a"
    );
    let grey = decode(&encoded(grey(5, 2, 2), ImageFormat::Jpeg)).unwrap();
    assert_eq!(grey.shape(), ImageShape::new(56, 56, 1));
}

#[test]
fn exif_orientation_is_applied_also_to_the_shape_in_advance() {
    let folder = temp();
    fs::create_dir(folder.path().join("a")).unwrap();
    let upright = encoded(colour(5, 16, 24), ImageFormat::Jpeg);
    // APP1 with a TIFF block of one entry: orientation (0x0112), short, one value: 6, rotate by 90 degrees.
    let tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = upright[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((2 + 6 + tiff.len() as u16).to_be_bytes());
    turned.extend(b"Exif\0\0");
    turned.extend(tiff);
    turned.extend(&upright[2..]);

    let (before, after) = (decode(&upright).unwrap(), decode(&turned).unwrap());
    assert_eq!(
        (before.shape(), after.shape()),
        (ImageShape::new(16, 24, 3), ImageShape::new(24, 16, 3))
    );
    let at = |image: &Image, y: usize, x: usize| {
        let start = (y * image.shape().width + x) * 3;
        image.pixels()[start..start + 3].to_vec()
    };
    for (y, x) in [(0, 0), (3, 7), (15, 23)] {
        assert_eq!(at(&before, y, x), at(&after, x, 15 - y));
    }
    fs::write(folder.path().join("a/turned.jpg"), turned).unwrap();
    assert_eq!(
        open(folder.path()).unwrap().train.shape(),
        Some(ImageShape::new(24, 16, 3))
    );
}

#[test]
fn damage_anywhere_in_a_png_is_an_error() {
    let whole = encoded(grey(1, 1, 1), ImageFormat::Png);
    for length in 0..whole.len() - 12 {
        assert!(
            decode(&whole[..length]).is_err(),
            "{length} bytes of {}",
            whole.len()
        );
    }
    for at in 0..whole.len() - 12 {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        assert!(decode(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn a_jpeg_that_breaks_off_is_an_error() {
    let whole = encoded(colour(1, 40, 40), ImageFormat::Jpeg);
    for length in 0..whole.len() - 1 {
        assert!(
            decode(&whole[..length]).is_err(),
            "{length} bytes of {}",
            whole.len()
        );
    }
    // Bytes after the end are common (cameras put a second image there).
    let mut longer = whole.clone();
    longer.extend(b"trailer");
    assert!(decode(&longer).unwrap() == decode(&whole).unwrap());
}

#[test]
fn what_is_no_image_says_so() {
    let message = |bytes: &[u8]| in_full(&decode(bytes).unwrap_err());
    assert_eq!(message(b""), "cannot decode stdin: the file is empty");
    assert_eq!(
        message(b"hello, world"),
        "cannot decode stdin: not a PNG, JPEG, WebP, BMP, TIFF, GIF or PNM image"
    );
    assert!(matches!(
        load_image(Path::new("missing.png")),
        Err(DataError::NotFound { .. })
    ));
    // A header that declares 2 GiB of pixels.
    let mut huge = encoded(grey(1, 1, 1), ImageFormat::Png);
    huge[16..24].copy_from_slice(&[0, 0, 0xb5, 0x04, 0, 0, 0xb5, 0x04]);
    let mut crc = flate2::Crc::new();
    crc.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let message = message(&huge);
    assert!(
        message.contains("limit") || message.contains("MiB"),
        "{message}"
    );
}

#[test]
fn images_of_idx_files_by_number() {
    let folder = temp();
    write_idx(folder.path(), 20, 20);
    for name in ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"] {
        let path = folder.path().join(name);
        let load = |index: &str| load_image(Path::new(&format!("{}#{index}", path.display())));
        for index in [0, 7, 19] {
            assert!(load(&index.to_string()).unwrap() == test_set().image(index).unwrap());
        }
        let error = load("20").unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("{name}: no image 20: there are 20")),
            "{error}"
        );
        assert!(load("x").is_err());
    }
    let path = folder.path().join("t10k-images-idx3-ubyte");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..16 + 784 * 7 + 100]).unwrap();
    let load = |index: usize| load_image(Path::new(&format!("{}#{index}", path.display())));
    assert!(load(6).is_ok());
    for index in [7, 12] {
        let error = load(index).unwrap_err().to_string();
        assert!(
            error.ends_with("truncated: expected 15696 bytes, found 5604"),
            "{error}"
        );
    }
}

#[test]
fn folders_of_images_are_listed_in_order() {
    let folder = temp();
    write_class_folders(folder.path(), 2, 2);
    fs::write(folder.path().join("z.JPG"), "").unwrap();
    fs::write(folder.path().join("a.txt"), "").unwrap();
    let listed = list_images(folder.path()).unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "ankle/000.png",
            "ankle/001.png",
            "bag/000.png",
            "bag/001.png",
            "z.JPG"
        ]
    );
}

#[test]
fn webp_bmp_tiff_and_pnm_are_lossless_too() {
    for format in [
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ] {
        let image = decode(&encoded(colour(3, 21, 30), format)).unwrap();
        assert_eq!(image.shape(), ImageShape::new(21, 30, 3), "{format:?}");
        assert!(image.pixels() == colour(3, 21, 30).as_raw(), "{format:?}");
    }
    let deep = ImageBuffer::from_fn(2, 1, |x, _| image::Luma([257 * (x as u16 + 1)]));
    let image = decode(&encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Tiff)).unwrap();
    assert_eq!(
        (image.shape(), image.pixels()),
        (ImageShape::new(1, 2, 1), &[1, 2][..])
    );
}

#[test]
fn every_kind_that_breaks_off_is_an_error_or_the_same_image() {
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Gif,
        ImageFormat::Pnm,
    ] {
        let whole = encoded(colour(1, 9, 11), format);
        let image = decode(&whole).unwrap();
        for length in 0..whole.len() {
            match decode(&whole[..length]) {
                Err(_) => {}
                Ok(cut) => assert!(
                    cut == image,
                    "{format:?}: {length} of {} bytes",
                    whole.len()
                ),
            }
        }
    }
}

/// A PNG of 6x8 pixels, colours 0 and 1 by turns, with this palette and these transparencies.
fn indexed(palette: &[u8], transparencies: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], kind, data, &crc.sum().to_be_bytes()].concat()
    };
    let rows = [[0, 0x01, 0x01, 0x01]; 8].concat();
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    pixels.write_all(&rows).unwrap();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[0, 0, 0, 6, 0, 0, 0, 8, 4, 3, 0, 0, 0]),
        chunk(b"PLTE", palette),
        chunk(b"tRNS", transparencies),
        chunk(b"IDAT", &pixels.finish().unwrap()),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn palettes_that_are_none_are_errors() {
    let image = decode(&indexed(&[1, 2, 3, 4, 5, 6], &[0, 255])).unwrap();
    assert_eq!(image.pixels()[..6], [1, 2, 3, 4, 5, 6]);
    for (length, expected) in [
        (49, "its palette has 49 bytes"),
        (50, "its palette has 50 bytes"),
        (771, "PLTE"),
    ] {
        let error = decode(&indexed(&vec![7; length], &[])).unwrap_err();
        assert!(in_full(&error).contains(expected), "{}", in_full(&error));
    }
}

/// Found by fuzzing: zune-jpeg 0.5.15 panics on it.
#[test]
fn a_decoder_that_panics_is_an_error() {
    let path = "../../fuzz/corpus/image/progressive-that-stops-its-decoder.jpg";
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    // Where it does not panic (it depends on the processor) it refuses the file or fills it up.
    if let Err(error) = decode(&bytes) {
        assert!(
            in_full(&error).starts_with("cannot decode stdin: "),
            "{error}"
        );
    }
}

#[test]
fn of_a_gif_the_first_frame_counts() {
    let frames = [3, 7].map(|index| {
        // Few colours, so that its palette holds them all.
        let image = image::imageops::grayscale(&grey(index, 1, 1));
        let few = RgbaImage::from_fn(28, 28, |x, y| {
            let value = image.get_pixel(x, y).0[0] & 0xc0;
            image::Rgba([value, 255 - value, 7, 255])
        });
        image::Frame::new(few)
    });
    let expected = frames[0].buffer().clone();
    let mut bytes = Vec::new();
    image::codecs::gif::GifEncoder::new(&mut bytes)
        .encode_frames(frames)
        .unwrap();
    let image = decode(&bytes).unwrap();
    assert_eq!(image.shape(), ImageShape::new(28, 28, 3));
    let expected = DynamicImage::from(expected).into_rgb8();
    assert!(image.pixels() == expected.as_raw());
}
