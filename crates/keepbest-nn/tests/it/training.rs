//! Whole training runs against PyTorch: `tests/golden/make_training.py` says how weights and batches are made.

use flate2::read::GzDecoder;
use keepbest_formats::{StateDict, Tensor};
use keepbest_kernels::random::bits;
use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, OptimizerConfig, Precision, zoo};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

#[derive(Deserialize)]
struct Golden {
    seed: u64,
    mean: f32,
    std: f32,
    curves: Vec<Curve>,
}

#[derive(Deserialize)]
struct Curve {
    model: String,
    batch: usize,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    padded: bool,
    filled_elements: u64,
    loss_f64: Vec<f64>,
}

/// The formula's weights for a network with these tensors, and how many elements it filled.
fn starting_weights(template: &StateDict, seed: u64) -> (StateDict, u64) {
    let mut dict = StateDict::new();
    let mut counter = 0;
    for (name, tensor) in template.iter() {
        let (layer, part) = name.rsplit_once('.').unwrap();
        let normalised = template.get(&format!("{layer}.running_mean")).is_some();
        let tensor = if normalised {
            // A fresh batch norm is what the engine starts with.
            tensor.clone()
        } else {
            let weight = template.get(&format!("{layer}.weight")).unwrap();
            let fan_in: usize = weight.shape()[1..].iter().product();
            let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
            assert!(part == "weight" || part == "bias", "{name}");
            let values: Vec<f32> = (0..tensor.elements() as u64)
                .map(|i| {
                    let u = (bits(seed + counter + i, 0) >> 40) as f32 / 16_777_216.0;
                    (2.0 * u - 1.0) * bound
                })
                .collect();
            counter += tensor.elements() as u64;
            Tensor::from_f32(tensor.shape(), &values).unwrap()
        };
        dict.insert(name.to_owned(), tensor).unwrap();
    }
    (dict, counter)
}

fn idx(name: &str, header: usize) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keepbest-data/embedded");
    let file = std::fs::File::open(folder.join(name)).unwrap();
    let mut bytes = vec![];
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes.split_off(header)
}

/// Pixels of images from `first` on: dense, normalised; padded to 32x32 and in 3 channels for `padded`.
fn images(pixels: &[u8], first: usize, count: usize, golden: &Golden, padded: bool) -> Vec<f32> {
    let (size, border, channels) = if padded { (32, 2, 3) } else { (28, 0, 1) };
    let mut out = vec![0.0; count * size * size * channels];
    for image in 0..count {
        for pixel in 0..784 {
            let x = f32::from(pixels[(first + image) * 784 + pixel]);
            let value = (x / 255.0 - golden.mean) / golden.std;
            let (row, column) = (pixel / 28 + border, pixel % 28 + border);
            let at = ((image * size + row) * size + column) * channels;
            out[at..at + channels].fill(value);
        }
    }
    out
}

/// Trains as each of the model's curves says; at least one is 50 steps long.
fn follow(model: &str, precision: Precision, tolerance: f64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/training.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let curves: Vec<&Curve> = golden.curves.iter().filter(|c| c.model == model).collect();
    assert!(curves.iter().any(|c| c.loss_f64.len() == 50));
    for curve in curves {
        follow_curve(&golden, curve, precision, tolerance);
    }
}

fn follow_curve(golden: &Golden, curve: &Curve, precision: Precision, tolerance: f64) {
    let model = &curve.model;
    let (channels, size) = if curve.padded { (3, 32) } else { (1, 28) };
    let spec = zoo::spec(model, &zoo::ZooOptions::new(channels, size, size, 10)).unwrap();
    let config = EngineConfig {
        batch_size: curve.batch,
        precision,
        optimizer: OptimizerConfig::sgd(curve.momentum, curve.weight_decay),
        ..Default::default()
    };
    let mut engine = CpuEngine::new(&spec, config).unwrap();
    let (weights, filled) = starting_weights(&engine.snapshot().weights(), golden.seed);
    assert_eq!(filled, curve.filled_elements);
    engine.load_weights(&weights).unwrap();
    let pixels = idx("train-images-idx3-ubyte.gz", 16);
    let labels = idx("train-labels-idx1-ubyte.gz", 8);
    for (step, expected) in curve.loss_f64.iter().enumerate() {
        let first = step * curve.batch;
        let x = images(&pixels, first, curve.batch, golden, curve.padded);
        let y: Vec<u32> = labels[first..first + curve.batch]
            .iter()
            .map(|l| u32::from(*l))
            .collect();
        let found = engine.step(Batch::new(&x, &y), curve.lr).unwrap().loss;
        let error = (found - expected).abs() / expected;
        assert!(
            error < tolerance,
            "{model} in {precision} at rate {}, step {step}: loss {found}, PyTorch {expected}",
            curve.lr
        );
    }
}

#[test]
fn simple_cnn_follows_pytorchs_loss_for_50_steps() {
    follow("simple-cnn", Precision::F32, 1e-3);
}

#[test]
fn resnet18_follows_pytorchs_loss_for_50_steps() {
    follow("resnet18", Precision::F32, 1e-3);
}

#[test]
fn bf16_follows_pytorchs_loss_for_50_steps_within_its_rounding() {
    if crate::precision::is_here() {
        follow("simple-cnn", Precision::Bf16, 0.05);
        follow("resnet18", Precision::Bf16, 0.05);
    }
}
