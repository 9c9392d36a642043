//! Against Pillow and torchvision: golden/preprocessing.json, made by golden/make_preprocessing.py.

use keepbest_data::{ChannelRule, Image, ImageShape, Normaliser, Preprocessing, ResizeRule};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/preprocessing.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn resizing_is_pillows_bit_for_bit() {
    let golden = golden();
    let cases = golden["resizes"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let channels = number(&case["channels"]);
        let shape =
            |key: &str| ImageShape::new(number(&case[key][0]), number(&case[key][1]), channels);
        let (from, to) = (shape("from"), shape("to"));
        let pixels: Vec<u8> = (0..from.size())
            .map(|i| match case["smooth"].as_bool().unwrap() {
                true => {
                    let (pixel, channel) = (i / channels, i % channels);
                    ((7 * (pixel / from.width) + 3 * (pixel % from.width) + 50 * channel) % 256)
                        as u8
                }
                false => ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345) >> 24) as u8,
            })
            .collect();
        let rule = if case["rule"] == "crop" {
            ResizeRule::Crop
        } else {
            ResizeRule::Exact
        };
        let fitted = Preprocessing::new(to)
            .with_resize(rule)
            .fit(&Image::new(from, pixels).unwrap())
            .unwrap();
        assert_eq!(fitted.pixels(), bytes(&case["pixels"]), "{}", case["name"]);
    }
}

#[test]
fn luma_is_pillows() {
    let golden = golden();
    let (colours, grey) = (
        bytes(&golden["luma"]["colours"]),
        bytes(&golden["luma"]["grey"]),
    );
    let shape = ImageShape::new(1, grey.len(), 3);
    let preprocessing =
        Preprocessing::new(ImageShape::new(1, grey.len(), 1)).with_channels(ChannelRule::ToGrey);
    assert_eq!(
        preprocessing
            .fit(&Image::new(shape, colours).unwrap())
            .unwrap()
            .pixels(),
        grey
    );
}

#[test]
fn normalisation_is_torchvisions_to_the_bit() {
    for case in golden()["normalised"].as_array().unwrap() {
        let value = |key: &str| case[key].as_f64().unwrap() as f32;
        let shape = ImageShape::new(1, 256, 1);
        let preprocessing =
            Preprocessing::new(shape).with_normalisation(vec![value("mean")], vec![value("std")]);
        let image = Image::new(shape, (0..=255).collect::<Vec<u8>>()).unwrap();
        let mut out = [0.0; 256];
        Normaliser::new(&preprocessing)
            .unwrap()
            .apply(&image, &mut out)
            .unwrap();
        let expected: Vec<u32> = bytes(&case["values"])
            .chunks_exact(4)
            .map(|bits| u32::from_be_bytes(bits.try_into().unwrap()))
            .collect();
        assert_eq!(out.map(f32::to_bits).to_vec(), expected);
    }
}
