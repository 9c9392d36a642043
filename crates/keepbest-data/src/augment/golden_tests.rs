//! The changes against torchvision's v2 transforms on PIL images.

use serde::Deserialize;

use super::affine::Affine;
use super::crop::{Rectangle, resized};
use super::trivial::{OPS, STRENGTHS};
use super::{colour, mix};
use crate::{Image, ImageShape};

#[derive(Deserialize)]
struct Golden {
    images: Vec<ImageShape>,
    trivial: Vec<std::collections::BTreeMap<String, Vec<u32>>>,
    rotate: Vec<Rotate>,
    adjust: Vec<Adjust>,
    crop: Vec<Crop>,
    hsv: u32,
    mixup: Vec<f32>,
}
#[derive(Deserialize)]
struct Rotate {
    image: usize,
    degrees: f64,
    crc: u32,
}
#[derive(Deserialize)]
struct Adjust {
    what: String,
    image: usize,
    factor: f64,
    crc: u32,
}
#[derive(Deserialize)]
struct Crop {
    image: usize,
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    to: [usize; 2],
    crc: u32,
}

fn golden() -> (Golden, Vec<Image>) {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/augment.json")).unwrap();
    let pictures = golden.images.iter().enumerate();
    let pictures = pictures
        .map(|(number, &shape)| picture(number, shape))
        .collect();
    (golden, pictures)
}

fn picture(number: usize, shape: ImageShape) -> Image {
    let noise = |i: usize| (((i as u64 * 2_654_435_761 + 12_345) % (1 << 32)) >> 24) as u8;
    let smooth = |i: usize| {
        let (pixel, channel) = (i / shape.channels, i % shape.channels);
        let (y, x) = (pixel / shape.width, pixel % shape.width);
        ((7 * y + 3 * x + 50 * channel) % 200 + 20) as u8
    };
    let value = |i| if number % 2 == 1 { smooth(i) } else { noise(i) };
    Image::new(shape, (0..shape.size()).map(value).collect::<Vec<_>>()).unwrap()
}

fn crc(image: &Image) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(image.pixels());
    crc.sum()
}

#[test]
fn every_change_of_trivial_augment_at_every_strength() {
    let (golden, pictures) = golden();
    for (image, (picture, expected)) in pictures.iter().zip(&golden.trivial).enumerate() {
        assert_eq!(expected.len(), OPS.len());
        for op in OPS {
            let expected = &expected[&format!("{op:?}")];
            assert_eq!(expected.len(), 2 * STRENGTHS as usize);
            let both = [false, true].into_iter();
            let all = both.flat_map(|negative| (0..STRENGTHS).map(move |s| (s, negative)));
            for ((strength, negative), &expected) in all.zip(expected) {
                let found = op.apply(picture.clone(), strength, negative);
                assert_eq!(
                    crc(&found),
                    expected,
                    "image {image}: {op:?} {strength} {negative}"
                );
            }
        }
    }
}

#[test]
fn rotation() {
    let (golden, pictures) = golden();
    assert_eq!(golden.rotate.len(), 60);
    for case in golden.rotate {
        let picture = &pictures[case.image];
        let found = Affine::rotation(case.degrees, picture.shape()).apply(picture);
        assert_eq!(
            crc(&found),
            case.crc,
            "image {}: {}",
            case.image,
            case.degrees
        );
    }
}

#[test]
fn colours() {
    let (golden, pictures) = golden();
    assert_eq!(golden.adjust.len(), 240);
    for case in golden.adjust {
        let change = match &*case.what {
            "brightness" => colour::brightness,
            "contrast" => colour::contrast,
            "saturation" => colour::saturation,
            _ => colour::hue,
        };
        let found = change(&pictures[case.image], case.factor);
        assert_eq!(
            crc(&found),
            case.crc,
            "image {}: {} {}",
            case.image,
            case.what,
            case.factor
        );
    }
}

#[test]
fn hue_of_a_million_colours() {
    let (golden, _) = golden();
    let pixels: Vec<u8> = (0..1u32 << 20)
        .flat_map(|i| {
            let [_, red, green, blue] = (16 * i + (i >> 8) % 16).to_be_bytes();
            [red, green, blue]
        })
        .collect();
    let image = Image::new(ImageShape::new(1024, 1024, 3), pixels).unwrap();
    assert_eq!(crc(&colour::hue(&image, 0.1)), golden.hsv);
}

#[test]
fn cutting_out_and_resizing() {
    let (golden, pictures) = golden();
    assert_eq!(golden.crop.len(), 15);
    for case in golden.crop {
        let Crop {
            top,
            left,
            height,
            width,
            to,
            ..
        } = case;
        let part = Rectangle {
            top,
            left,
            height,
            width,
        };
        assert_eq!(
            crc(&resized(&pictures[case.image], part, to)),
            case.crc,
            "{part:?} to {to:?}"
        );
    }
}

#[test]
fn mixup() {
    let (golden, _) = golden();
    let mut inputs: Vec<f32> = [1.0f32, 2.0, 4.0].iter().flat_map(|x| [*x; 4]).collect();
    mix::blend(&mut inputs, 4, 0.3);
    assert_eq!(inputs, golden.mixup);
}
