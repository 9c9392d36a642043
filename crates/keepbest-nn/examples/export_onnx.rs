//! Writes every zoo model, trained for two steps, as ONNX in each form, beside images and the scores that keepbest
//! gives them: for `tests/golden/check_onnx.py`.
//!
//! `cargo run -p keepbest-nn --example export_onnx -- DIR`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use keepbest_formats::safetensors::Layout;
use keepbest_formats::{Dtype, Tensor};
use keepbest_nn::onnx::{OnnxInput, OnnxOptions, PixelOrder, export};
use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, ModelSpec, Network, zoo};

const CLASSES: usize = 10;
const IMAGES: usize = 5;
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out] = arguments.as_slice() else {
        return Err("usage: export_onnx DIR".into());
    };
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    for entry in zoo::list() {
        // VGGs are half a gigabyte a form: interop/exchange.py has them. Stems are by size.
        if entry.name.starts_with("vgg") || entry.name.ends_with("-cifar") {
            continue;
        }
        // The small networks as they are used by default, the others small enough to be quick.
        let (channels, size) = match entry.name {
            "simple-cnn" | "lenet5" => (1, 28),
            name if name.ends_with("-imagenet") => (3, 96),
            _ => (3, 32),
        };
        let options = zoo::ZooOptions::new(channels, size, size, CLASSES);
        write_model(out, entry.name, &zoo::spec(entry.name, &options)?)?;
    }
    for (name, text) in [
        ("every-layer", EVERY_LAYER),
        ("one-input", ONE_INPUT),
        ("graph", GRAPH),
    ] {
        let mut spec: serde_json::Value = serde_json::from_str(text)?;
        spec["classes"] = CLASSES.into();
        if let Some(head) = spec["layers"]
            .as_array_mut()
            .and_then(|layers| layers.last_mut())
        {
            head["out"] = CLASSES.into();
        }
        write_model(out, name, &ModelSpec::from_json(&spec)?)?;
    }
    Ok(())
}

/// Values that several layers read, arithmetic with broadcasts, uneven windows, and rows, columns and channels that move about.
const GRAPH: &str = r#"{
    "version": 3, "name": "graph", "classes": 10,
    "input": {"channels": 3, "height": 17, "width": 14},
    "layers": [
        {"op": "conv2d", "out": 12, "kernel": 3, "stride": 2, "padding": "same"},
        {"op": "graph", "name": "g", "nodes": [
            {"layer": {"op": "conv2d", "name": "a", "out": 12, "kernel": 3, "padding": [0, 2, 2, 0]}},
            {"layer": {"op": "batch_norm2d", "name": "bn"}},
            {"id": "r", "layer": {"op": "relu"}},
            {"id": "sum", "from": ["bn", "r", "input", "a"], "layer": {"op": "add"}},
            {"layer": {"op": "global_avg_pool2d"}},
            {"id": "gate", "layer": {"op": "sigmoid"}},
            {"id": "gated", "from": ["gate", "sum"], "layer": {"op": "mul"}},
            {"layer": {"op": "conv2d", "name": "s", "out": 1, "kernel": 1}},
            {"id": "attention", "layer": {"op": "sigmoid"}},
            {"id": "attended", "from": ["attention", "gated"], "layer": {"op": "mul"}},
            {"id": "q", "from": ["attended", "gate"], "layer": {"op": "div"}},
            {"id": "high", "from": ["q", "a"], "layer": {"op": "maximum"}},
            {"id": "low", "from": ["high", "sum"], "layer": {"op": "minimum"}},
            {"id": "d", "from": ["low", "r"], "layer": {"op": "sub"}},
            {"id": "square", "from": ["d", "d"], "layer": {"op": "mul"}},
            {"from": ["d", "attention", "square"], "layer": {"op": "concat"}},
            {"layer": {"op": "channel_slice", "start": 1}},
            {"layer": {"op": "channel_shuffle", "groups": 4}}
        ]},
        {"op": "pad2d", "top": 1, "left": 2, "mode": "reflect"},
        {"op": "pad2d", "right": 1, "mode": "edge"},
        {"op": "pad2d", "bottom": 1, "value": 0.25},
        {"op": "max_pool2d", "kernel": [2, 3], "stride": 2, "padding": [1, 0, 0, 2], "dilation": [2, 1]},
        {"op": "conv_transpose2d", "out": 6, "kernel": [3, 2], "stride": 2, "padding": [1, 0, 0, 1], "output_padding": [1, 0],
            "groups": 3},
        {"op": "max_pool2d", "kernel": 3, "stride": 2, "ceil_mode": true},
        {"op": "upsample", "scale": [2, 1.5]},
        {"op": "upsample", "size": [9, 7], "mode": "bilinear"},
        {"op": "upsample", "scale": [0.8, 2], "mode": "bilinear"},
        {"op": "upsample", "size": [9, 5], "mode": "bilinear", "align_corners": true},
        {"op": "upsample", "size": [8, 9]},
        {"op": "avg_pool2d", "kernel": 3, "stride": 2, "ceil_mode": true},
        {"op": "avg_pool2d", "kernel": 2, "stride": 1, "padding": [0, 1, 1, 0], "count_include_pad": false},
        {"op": "crop", "top": 1, "right": 1},
        {"op": "flatten"},
        {"op": "graph", "name": "h", "nodes": [
            {"layer": {"op": "linear", "name": "x", "out": 24}},
            {"layer": {"op": "unflatten", "size": [2, 3, 4]}},
            {"id": "t", "layer": {"op": "conv2d", "name": "t", "out": 3, "kernel": 2}},
            {"layer": {"op": "flatten"}},
            {"from": ["3", "input"], "layer": {"op": "concat"}}
        ]},
        {"op": "linear", "out": 10}
    ]
}"#;

/// What no model of the zoo has: groups, dilation, uneven adaptive pooling, group norm, sums and ReLUs of vectors.
const EVERY_LAYER: &str = r#"{
    "version": 1, "name": "every-layer", "classes": 10,
    "input": {"channels": 3, "height": 17, "width": 14},
    "layers": [
        {"op": "conv2d", "out": 12, "kernel": [3, 2], "stride": [1, 2], "padding": [1, 0]},
        {"op": "relu"},
        {"op": "conv2d", "out": 12, "kernel": 3, "padding": 2, "dilation": 2, "groups": 12, "bias": false},
        {"op": "batch_norm2d", "eps": 0.001},
        {"op": "batch_norm2d"},
        {"op": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1},
        {"op": "avg_pool2d", "kernel": 3, "stride": 1, "padding": 1, "count_include_pad": false},
        {"op": "residual", "body": [{"op": "conv2d", "out": 12, "kernel": 1, "groups": 3}], "shortcut": []},
        {"op": "group_norm", "groups": 4},
        {"op": "gelu"},
        {"op": "relu"},
        {"op": "adaptive_avg_pool2d", "size": [4, 7]},
        {"op": "dropout", "p": 0.5},
        {"op": "flatten"},
        {"op": "relu"},
        {"op": "linear", "out": 16, "bias": false},
        {"op": "residual", "body": [{"op": "linear", "out": 16}, {"op": "relu"}]},
        {"op": "relu"},
        {"op": "linear", "out": 10}
    ]
}"#;

/// The layers of one input since version 3 of the spec.
const ONE_INPUT: &str = include_str!("../tests/specs/one_input.json");

fn write_model(out: &Path, name: &str, spec: &ModelSpec) -> Result<(), Box<dyn Error>> {
    let (c, h, w) = (spec.input.channels, spec.input.height, spec.input.width);
    let mut state = 7u64;
    let mut random = || {
        // PCG's multiplier; the upper bits are good enough for pixels.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let pixels: Vec<u8> = (0..IMAGES * h * w * c).map(|_| random()).collect();
    let (mean, std) = (MEAN[..c].to_vec(), STD[..c].to_vec());
    let images: Vec<f32> = pixels
        .iter()
        .enumerate()
        .map(|(i, &pixel)| (f32::from(pixel) / 255.0 - mean[i % c]) / std[i % c])
        .collect();
    let labels: Vec<u32> = (0..IMAGES as u32).collect();
    let config = EngineConfig {
        batch_size: IMAGES,
        ..Default::default()
    };
    // Two steps, so that running statistics, scales and biases are not what they start as.
    let mut engine = CpuEngine::new(spec, config)?;
    for _ in 0..2 {
        engine.step(Batch::new(&images, &labels), 0.01)?;
    }
    let weights = engine.snapshot().weights();
    let mut scorer = engine.scorer(IMAGES)?;
    scorer.load(&weights)?;
    let mut logits = Vec::new();
    scorer.logits(&images, &mut logits)?;

    let network = Network::new(spec)?;
    let pixels_in = |order| OnnxInput::Pixels {
        order,
        divide_by: 255.0,
        mean: mean.clone(),
        std: std.clone(),
    };
    for (form, input, fold_batch_norm) in [
        ("plain", OnnxInput::Normalised, false),
        ("folded", OnnxInput::Normalised, true),
        ("pixels-last", pixels_in(PixelOrder::ChannelsLast), false),
        ("pixels-first", pixels_in(PixelOrder::ChannelsFirst), true),
    ] {
        let options = OnnxOptions {
            input,
            fold_batch_norm,
            classes: (0..CLASSES)
                .map(|class| format!("class \"{class}\" ☀"))
                .collect(),
            metadata: vec![("form".to_owned(), form.to_owned())],
        };
        let image = export(&network, &weights, &options)?.encode()?;
        let mut file = BufWriter::new(File::create(out.join(format!("{name}.{form}.onnx")))?);
        image.write_to(&mut file)?;
        file.flush()?;
    }
    let images = Tensor::from_f32(&[IMAGES, h, w, c], &images)?;
    let pixels = Tensor::new(Dtype::U8, [IMAGES, h, w, c], pixels)?;
    let logits = Tensor::from_f32(&[IMAGES, CLASSES], &logits)?;
    let tensors = [
        ("images", &images),
        ("pixels", &pixels),
        ("logits", &logits),
    ];
    let mut file = File::create(out.join(format!("{name}.safetensors")))?;
    Layout::new(&tensors, &[])?.write_to(&mut file)?;
    Ok(())
}
