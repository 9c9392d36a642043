//! Writes golden model files of every schema that this build writes: a full model with thresholds takes schema 2, all
//! others schema 1.
//!
//! `cargo run -p keepbest-formats --example golden_models -- --out crates/keepbest-formats/tests/golden`
//!
//! Golden files of a schema are made once, when it is released, and opened by tests forever: do not
//! make those of an older schema anew.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use keepbest_formats::model_file::{Attachments, ModelImage, ModelMetadata, encode};
use keepbest_formats::{Dtype, StateDict, Tensor};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, out] = arguments.as_slice() else {
        return Err("usage: golden_models --out DIR".into());
    };
    if flag != "--out" {
        return Err("usage: golden_models --out DIR".into());
    }
    let out = PathBuf::from(out);
    fs::create_dir_all(&out)?;

    let weights = weights()?;
    let mut training = StateDict::new();
    training.insert("step", Tensor::from_i64(&[], &[1200])?)?;
    training.insert("conv.weight.momentum", ramp(&[2, 1, 3, 3], 0.5)?)?;
    training.insert("fc.weight.momentum", ramp(&[3, 2], -0.25)?)?;
    let metadata = ModelMetadata {
        step: 1200,
        epoch: 7,
        attachments: Attachments {
            model: Some(json!({
                "version": 1,
                "name": "golden",
                "input": {"channels": 1, "height": 28, "width": 28},
                "classes": 3,
                "layers": [{"conv2d": {"name": "conv", "out": 2, "kernel": 3}}],
            })),
            classes: vec!["T-shirt/top".into(), "\"quoted\"".into(), "été ☀".into()],
            preprocessing: Some(json!({"mean": [0.2860], "std": [0.3530]})),
            training: Some(json!({"seed": u64::MAX, "learning_rate": 0.1, "patience_left": 3})),
            evaluation: Some(json!({"val/accuracy": 0.8912, "val/loss": "NaN"})),
            history: Some(json!([{"epoch": 6, "val/accuracy": 0.8875}])),
            provenance: Some(json!({"data": "fashion-mnist"})),
            ..Attachments::default()
        },
        ..ModelMetadata::default()
    };

    let decided = ModelMetadata {
        attachments: Attachments {
            thresholds: Some(json!({
                "values": [0.25, 0.5, 0.25],
                "metric": "f1_macro",
                "split": "val",
                "before": 0.75,
                "after": 0.875,
            })),
            ..metadata.attachments.clone()
        },
        ..metadata
    };
    let nothing = StateDict::new();
    for (name, image) in [
        ("full", encode(&weights, &training, &metadata)?),
        ("full", encode(&weights, &training, &decided)?),
        (
            "params",
            encode(&weights, &nothing, &metadata.into_params())?,
        ),
    ] {
        write(&out, name, &image)?;
    }
    Ok(())
}

fn write(out: &Path, name: &str, image: &ModelImage) -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    image.write_to(&mut bytes)?;
    let schema = image.seal().schema;
    fs::write(
        out.join(format!("schema-{schema}-{name}.safetensors")),
        bytes,
    )?;
    Ok(())
}

/// Tensors of each alignment, a scalar, an empty one, and names beyond ASCII.
fn weights() -> Result<StateDict, Box<dyn Error>> {
    let mut weights = StateDict::new();
    weights.insert("conv.weight", ramp(&[2, 1, 3, 3], -1.0)?)?;
    weights.insert("bn.running_mean", ramp(&[2], 0.0)?)?;
    weights.insert("bn.num_batches_tracked", Tensor::from_i64(&[], &[1200])?)?;
    weights.insert("mask", Tensor::new(Dtype::Bool, [3], vec![1u8, 0, 1])?)?;
    weights.insert(
        "half",
        Tensor::new(Dtype::F16, [2], vec![0x00u8, 0x3c, 0x00, 0xc0])?,
    )?;
    weights.insert("empty", Tensor::new(Dtype::F32, [0, 4], Vec::new())?)?;
    weights.insert("fc.weight", ramp(&[3, 2], 4.0)?)?;
    weights.insert("模型.偏置", ramp(&[3], 8.0)?)?;
    Ok(weights)
}

/// f32 values `start`, `start + 0.125`, ...
fn ramp(shape: &[usize], start: f32) -> Result<Tensor, Box<dyn Error>> {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|at| start + at as f32 * 0.125).collect();
    Ok(Tensor::from_f32(shape, &values)?)
}
