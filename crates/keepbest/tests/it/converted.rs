//! Images that are unlike those a model was trained on: grey and colour, depths, alpha, palettes, CMYK, sizes; and scores that are
//! no numbers.

use keepbest::formats::model_file::{ModelFile, encode};
use keepbest::formats::{StateDict, Tensor};
use serde_json::Value;

use crate::support::{Place, photos};

const TRAIN: &str = "train --epochs 1 --batch-size 8 --quiet --json";

/// Models that saw colour of 12x12 alone, and grey of 28x28 alone.
fn place() -> Place {
    let place = Place::with_data();
    photos(&place.path("photos"), &[("cat", 20), ("dog", 20)], 0);
    place.json(&format!("{TRAIN} --data photos --name colour"));
    place.trained("grey", "--epochs 1");
    std::fs::create_dir(place.path("images")).unwrap();
    place
}

fn answers(place: &Place, args: &str) -> Vec<Value> {
    let said = place.ok(args).out;
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A picture with a pattern of its own: `value` of each pixel.
fn value(x: u32, y: u32) -> u8 {
    (x * 19 + y * 7) as u8
}

/// What a model says of an image, without the image's name.
fn says(place: &Place, model: &str, file: &str) -> Value {
    let mut answer = answers(place, &format!("predict {model} images/{file} --json -k 2"));
    answer[0]["top"].take()
}

#[test]
fn grey_and_colour_depths_alpha_and_palettes_are_converted() {
    let place = place();
    let save = |name: &str, image: image::DynamicImage| {
        image.save(place.path("images").join(name)).unwrap();
    };
    let grey = image::GrayImage::from_fn(12, 12, |x, y| image::Luma([value(x, y)]));
    let rgb = image::RgbImage::from_fn(12, 12, |x, y| image::Rgb([value(x, y); 3]));
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(12, 12, |x, y| {
        image::Luma([u16::from(value(x, y)) * 257])
    });
    let deep_rgb = image::ImageBuffer::<image::Rgb<u16>, _>::from_fn(12, 12, |x, y| {
        image::Rgb([u16::from(value(x, y)) * 257; 3])
    });
    let alpha = image::RgbaImage::from_fn(12, 12, |x, y| {
        let v = value(x, y);
        image::Rgba([v, v, v, 9 * x as u8])
    });
    let grey_alpha =
        image::GrayAlphaImage::from_fn(12, 12, |x, y| image::LumaA([value(x, y), 200]));
    save("rgb.png", rgb.into());
    save("grey.png", grey.clone().into());
    save("deep.png", deep.into());
    save("deep-rgb.png", deep_rgb.into());
    save("alpha.png", alpha.into());
    save("grey-alpha.png", grey_alpha.into());
    write_palette_png(&place.path("images/palette.png"), &grey);
    let expected = says(&place, "colour", "rgb.png");
    let all = answers(&place, "predict colour images --json -k 2");
    assert_eq!(all.len(), 7);
    for answer in &all {
        assert_eq!(answer["top"], expected, "{answer}");
        let input = answer["input"].as_str().unwrap();
        let is_grey = [
            "images/grey.png",
            "images/deep.png",
            "images/grey-alpha.png",
        ]
        .contains(&input);
        let shape = if is_grey {
            "12x12x1".into()
        } else {
            Value::Null
        };
        assert_eq!(answer["converted"], shape, "{answer}");
    }
    // It is said once, whatever their number.
    let said = place.ok("predict colour images");
    assert_eq!(said.err.matches("note:").count(), 1, "{}", said.err);
    for words in [
        "12x12x1",
        "the model has seen 12x12x3 alone",
        "grey becomes",
        "--strict",
    ] {
        assert!(said.err.contains(words), "{words}\n{}", said.err);
    }
    let said = place.run("predict colour images --strict");
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);
    said.fails(
        1,
        &[
            "images/grey.png does not fit the model",
            "image is 12x12x1, the model expects 12x12x3",
        ],
    );

    // Colour for a grey model, as Pillow makes it grey.
    let pixel = |x: u32, y: u32| [value(x, y), value(y, x), (5 * x) as u8];
    let colour = image::RgbImage::from_fn(28, 28, |x, y| image::Rgb(pixel(x, y)));
    let by_hand = image::GrayImage::from_fn(28, 28, |x, y| {
        let [r, g, b] = pixel(x, y).map(u32::from);
        image::Luma([((19_595 * r + 38_470 * g + 7_471 * b + 32_768) >> 16) as u8])
    });
    save("28.png", colour.into());
    save("28-grey.png", by_hand.into());
    assert_eq!(
        says(&place, "grey", "28.png"),
        says(&place, "grey", "28-grey.png")
    );
    let said = place.ok("predict grey images/28.png images/28-grey.png");
    assert!(said.err.contains("colour becomes grey"), "{}", said.err);
}

#[test]
fn cmyk_is_converted() {
    let place = place();
    // Cyan ink alone.
    std::fs::write(place.path("images/ink.jpg"), cmyk_jpeg([255, 0, 0, 0])).unwrap();
    let cyan = image::RgbImage::from_pixel(8, 8, image::Rgb([0, 255, 255]));
    cyan.save(place.path("images/cyan.png")).unwrap();
    assert_eq!(
        says(&place, "colour", "ink.jpg"),
        says(&place, "colour", "cyan.png")
    );
    let grey = answers(&place, "predict grey images/ink.jpg --json");
    assert_eq!(grey[0]["converted"], "8x8x3");
}

#[test]
fn other_sizes_are_converted_as_training_would() {
    let place = place();
    let tall = image::RgbImage::from_fn(31, 50, |x, y| image::Rgb([value(x, y), value(y, x), 70]));
    tall.save(place.path("images/tall.png")).unwrap();
    let said = place.ok("predict colour images --json");
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["converted"], "50x31x3");
    assert!(
        said.err.contains("other sizes are resized to cover 12x12"),
        "{}",
        said.err
    );
    place
        .run("predict colour images --strict")
        .fails(1, &["image is 50x31x3, the model expects 12x12x3"]);

    // A model that has the rule from its training says nothing, and does the same to the pixels.
    let file = ModelFile::open(&place.path("runs/colour/best.safetensors")).unwrap();
    let mut metadata = file.metadata.unwrap();
    metadata.preprocessing.as_mut().unwrap()["resize"] = "crop".into();
    write_model(&place, "rule", &file.weights, &metadata);
    let said = place.ok("predict rule.safetensors images --json --strict");
    let recorded: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(recorded["top"], answer["top"]);
    assert!(
        recorded["converted"].is_null() && said.err.is_empty(),
        "{}",
        said.err
    );

    // The rule is one for predict, evaluate, compare and training from the model.
    photos(&place.path("mixed"), &[("cat", 20), ("dog", 20)], 500);
    for file in ["mixed/cat/00.png", "mixed/dog/03.png"] {
        tall.save(place.path(file)).unwrap();
    }
    let found = place.json("evaluate colour --data mixed --json");
    assert_eq!(
        (&found["images"], &found["images_of"]["converted"]),
        (&40.into(), &2.into())
    );
    let said = place.ok("evaluate colour --data mixed");
    for words in ["2 of 40 images are unlike", "(50x31x3)", "--strict"] {
        assert!(said.err.contains(words), "{words}\n{}", said.err);
    }
    for verb in ["evaluate colour", "compare colour colour"] {
        place
            .run(&format!("{verb} --data mixed --strict"))
            .fails(1, &["image is 50x31x3, the model expects 12x12x3"]);
    }
    let said = place.ok("train --data mixed --from colour --epochs 1 --batch-size 8 --name next");
    assert!(said.err.contains("other sizes are resized"), "{}", said.err);
    let next = place.json("inspect next --json");
    assert_eq!(next["preprocessing"]["resize"], "crop");

    // What the parent does is done on, where it says so.
    metadata.preprocessing.as_mut().unwrap()["resize"] = "exact".into();
    write_model(&place, "exact", &file.weights, &metadata);
    place.json(&format!(
        "{TRAIN} --data mixed --from exact.safetensors --name exact"
    ));
    let exact = place.json("inspect exact --json");
    assert_eq!(exact["preprocessing"]["resize"], "exact");
}

#[test]
fn weights_and_scores_that_are_no_numbers_are_an_error() {
    let place = place();
    photos(&place.path("images"), &[("cat", 1), ("dog", 1)], 0);
    let file = ModelFile::open(&place.path("runs/colour/best.safetensors")).unwrap();
    let metadata = file.metadata.unwrap();
    // Each weight as it is, times a number.
    let scaled = |by: f32| {
        let mut weights = StateDict::new();
        for (name, tensor) in file.weights.iter() {
            let changed = match tensor.as_f32() {
                Ok(values) => {
                    let values: Vec<f32> = values.iter().map(|value| value * by).collect();
                    Tensor::from_f32(tensor.shape(), &values).unwrap()
                }
                Err(_) => tensor.clone(),
            };
            weights.insert(name, changed).unwrap();
        }
        weights
    };
    write_model(&place, "nan", &scaled(f32::NAN), &metadata);
    write_model(&place, "inf", &scaled(f32::INFINITY), &metadata);
    for model in ["nan", "inf"] {
        for verb in [
            "predict M images",
            "evaluate M",
            "compare M colour",
            "compare colour M",
            "thresholds M --metric f1_macro --out new.safetensors",
            "average M M --out new.safetensors",
            "export M --to new.pth",
            "export M --to new.onnx",
            "train --data photos --epochs 1 --from M",
        ] {
            let verb = verb.replace('M', &format!("{model}.safetensors"));
            let said = place.run(&verb);
            said.fails(1, &[".safetensors cannot be used: conv1.weight holds "]);
            assert!(said.out.is_empty(), "{verb}: {}", said.out);
        }
    }
    assert!(!place.path("new.safetensors").exists() && !place.path("new.pth").exists());

    // Weights that are numbers, and scores that are none.
    write_model(&place, "huge", &scaled(1e25), &metadata);
    let said = place.run("predict huge.safetensors images --json");
    said.fails(1, &["images/cat/00.png: the network's score for"]);
    for line in said.out.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert!(
            answer["error"].is_string() && answer["label"].is_null(),
            "{line}"
        );
    }
    for verb in [
        "evaluate huge.safetensors",
        "compare colour huge.safetensors",
        "thresholds huge.safetensors --metric f1_macro --out new.safetensors",
    ] {
        place.run(verb).fails(
            1,
            &[
                "huge.safetensors cannot be measured: its scores of",
                "are not finite",
            ],
        );
    }
    assert!(!place.path("new.safetensors").exists());
}

fn write_model(
    place: &Place,
    name: &str,
    weights: &StateDict,
    metadata: &keepbest::formats::model_file::ModelMetadata,
) {
    let image = encode(weights, &StateDict::new(), metadata).unwrap();
    let file = std::fs::File::create(place.path(&format!("{name}.safetensors")));
    image.write_to(&mut file.unwrap()).unwrap();
}

/// A PNG whose pixels are places in a palette of greys.
fn write_palette_png(path: &std::path::Path, grey: &image::GrayImage) {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = u32::MAX;
        for byte in kind.iter().chain(data) {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = crc >> 1 ^ (crc & 1) * 0xedb8_8320;
            }
        }
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], kind, data, &(!crc).to_be_bytes()].concat()
    };
    let (width, height) = grey.dimensions();
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 3, 0, 0, 0],
    ]
    .concat();
    let palette: Vec<u8> = (0..=255).flat_map(|value| [value; 3]).collect();
    let rows: Vec<u8> = grey
        .rows()
        .flat_map(|row| std::iter::once(0).chain(row.map(|pixel| pixel.0[0])))
        .collect();
    // One stored block of deflate, and Adler-32.
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &rows {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let length = rows.len() as u16;
    let stored = [
        &[0x78, 0x01, 0x01][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        &rows,
        &(b << 16 | a).to_be_bytes(),
    ];
    let png = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"PLTE", &palette),
        chunk(b"IDAT", &stored.concat()),
        chunk(b"IEND", &[]),
    ];
    std::fs::write(path, png.concat()).unwrap();
}

/// A JPEG of 8x8 pixels of one ink: cyan, magenta, yellow and black, stored upside down as Adobe does.
fn cmyk_jpeg(ink: [u8; 4]) -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| {
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], data].concat()
    };
    let mut frame = vec![8, 0, 8, 0, 8, 4];
    let mut scan = vec![4];
    for component in 1..=4 {
        frame.extend([component, 0x11, 0]);
        scan.extend([component, 0]);
    }
    scan.extend([0, 63, 0]);
    // Fifteen codes of four bits, one for each size of a difference; of AC the end of a block alone.
    let sizes: Vec<u8> = (0..15).collect();
    let dc = [&[0][..], &[0, 0, 0, 15], &[0; 12], &sizes].concat();
    let ac = [&[0x10][..], &[1], &[0; 15], &[0]].concat();
    let mut bits = String::new();
    for value in ink {
        // The mean of the block less 128, times 8: quantised by 8.
        let level = i32::from(255 - value) - 128;
        let size = 32 - level.unsigned_abs().leading_zeros();
        let low = if level < 0 {
            level + (1 << size) - 1
        } else {
            level
        };
        bits += &format!("{size:04b}");
        if size > 0 {
            bits += &format!("{low:0width$b}", width = size as usize);
        }
        bits += "0";
    }
    while bits.len() % 8 != 0 {
        bits.push('1');
    }
    let mut data = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        data.push(byte);
        if byte == 0xff {
            data.push(0);
        }
    }
    let table = [&[0][..], &[8; 64]].concat();
    [
        vec![0xff, 0xd8],
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0"),
        segment(0xdb, &table),
        segment(0xc0, &frame),
        segment(0xc4, &dc),
        segment(0xc4, &ac),
        segment(0xda, &scan),
        data,
        vec![0xff, 0xd9],
    ]
    .concat()
}
