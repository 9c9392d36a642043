//! Trains, writes a `best.pt`, trains on, and reads the file back to train on from it: for
//! `tests/golden/check_resume.py`, where PyTorch does the same.
//!
//! `cargo run -p keepbest-nn --example resume_pth -- DIR`
//!
//! With `--back`, goes on from the checkpoints that PyTorch wrote there half-way: the same losses to 1e-3.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use keepbest_formats::Tensor;
use keepbest_formats::pth::{Checkpoint, OptimizerState, PthFile};
use keepbest_formats::safetensors::Layout;
use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, ModelSpec, OptimizerConfig, Role, zoo};
use serde_json::json;

const BEFORE: usize = 5;
const AFTER: usize = 10;
const RATE: f64 = 0.001;
const BATCH: usize = 16;
const TOLERANCE: f64 = 1e-3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (step, out): (Step, _) = match arguments.as_slice() {
        [out] => (resume, out),
        [flag, out] if flag == "--back" => (come_back, out),
        _ => return Err("usage: resume_pth [--back] DIR".into()),
    };
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    let sgd = OptimizerConfig::sgd(0.9, 5e-4);
    let adam = json!({"type": "adam", "weight_decay": 1e-3});
    let adamw = json!({"type": "adamw", "beta1": 0.8});
    step(out, "simple-cnn", "sgd", (1, 28), sgd)?;
    for (name, optimizer) in [("adam", adam), ("adamw", adamw)] {
        let optimizer = serde_json::from_value(optimizer)?;
        step(out, "simple-cnn", name, (1, 28), optimizer)?;
    }
    Ok(())
}

/// What is done for each model and optimizer: folder, model, name of the optimizer, channels and size of the images, optimizer.
type Step = fn(&Path, &str, &str, (usize, usize), OptimizerConfig) -> Result<(), Box<dyn Error>>;

/// Images and labels of one step.
type Pair = (Vec<f32>, Vec<u32>);

fn resume(
    out: &Path,
    model: &str,
    optimizer_name: &str,
    (channels, size): (usize, usize),
    optimizer: OptimizerConfig,
) -> Result<(), Box<dyn Error>> {
    let spec = zoo::spec(model, &zoo::ZooOptions::new(channels, size, size, 10))?;
    let config = EngineConfig {
        batch_size: BATCH,
        optimizer: optimizer.clone(),
        ..Default::default()
    };
    let batches = batches(BATCH, size * size * channels);
    let mut engine = CpuEngine::new(&spec, config.clone())?;
    losses(&mut engine, &batches[..BEFORE])?;

    let snapshot = engine.snapshot();
    let parameters = engine.network().layout().tensors().iter();
    let parameters = parameters.filter(|tensor| tensor.role == Role::Trained);
    let parameters: Vec<String> = parameters.map(|tensor| tensor.name.clone()).collect();
    let after = losses(&mut engine, &batches[BEFORE..])?;
    let checkpoint = Checkpoint {
        weights: snapshot.weights(),
        optimizer: Some(OptimizerState {
            settings: optimizer,
            learning_rate: RATE,
            steps: Some(snapshot.step()),
            parameters,
            tensors: snapshot.training_state(),
        }),
        step: Some(snapshot.step()),
        // What comes next, for the check.
        keepbest: Some(json!({"next_losses": after})),
        ..Checkpoint::default()
    };
    let path = out.join(format!("{model}-{optimizer_name}.pt"));
    let mut file = BufWriter::new(File::create(&path)?);
    checkpoint.encode()?.write_to(&mut file)?;
    file.flush()?;

    let again = losses(&mut restored(&path, &spec, config)?, &batches[BEFORE..])?;
    if again != after {
        return Err(format!("{}: losses {again:?}, were {after:?}", path.display()).into());
    }
    write_batches(&path, &batches[BEFORE..], [BATCH, size, size, channels])
}

/// Goes on from what PyTorch wrote after half of the losses: nothing in it is keepbest's but the names of the tensors.
fn come_back(
    out: &Path,
    model: &str,
    optimizer_name: &str,
    (channels, size): (usize, usize),
    optimizer: OptimizerConfig,
) -> Result<(), Box<dyn Error>> {
    let spec = zoo::spec(model, &zoo::ZooOptions::new(channels, size, size, 10))?;
    let config = EngineConfig {
        batch_size: BATCH,
        optimizer,
        ..Default::default()
    };
    let path = out.join(format!("back/{model}-{optimizer_name}.pt"));
    let mut engine = restored(&path, &spec, config)?;
    let batches = batches(BATCH, size * size * channels);
    let found = losses(&mut engine, &batches[BEFORE + AFTER / 2..])?;
    let expected = std::fs::read_to_string(path.with_extension("json"))?;
    let expected: Vec<f64> = serde_json::from_str(&expected)?;
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = apart.fold(0.0, f64::max);
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE;
    if found.len() != expected.len() || !found.iter().zip(&expected).all(is_close) {
        return Err(format!(
            "{}: losses {found:?}, PyTorch's {expected:?}",
            path.display()
        )
        .into());
    }
    println!("{model}-{optimizer_name}: back from PyTorch, largest difference {worst:.1e}");
    Ok(())
}

/// An engine that goes on from the file.
fn restored(
    path: &Path,
    spec: &ModelSpec,
    config: EngineConfig,
) -> Result<CpuEngine, Box<dyn Error>> {
    let mut engine = CpuEngine::new(spec, config)?;
    let tensors = engine.network().layout().tensors().iter();
    let trained = tensors.filter(|tensor| tensor.role == Role::Trained);
    let trained: Vec<String> = trained.map(|tensor| tensor.name.clone()).collect();
    let file = PthFile::open(path)?;
    let read = file.checkpoint(file.weights(None)?, &trained)?;
    engine.load_weights(&read.weights)?;
    let optimizer = read.optimizer.ok_or("no optimizer in the file")?;
    let steps = optimizer.steps.ok_or("no steps in the file")?;
    engine.load_training_state(&optimizer.tensors, steps)?;
    Ok(engine)
}

fn losses(engine: &mut CpuEngine, batches: &[Pair]) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut losses = Vec::new();
    for (images, labels) in batches {
        losses.push(engine.step(Batch::new(images, labels), RATE)?.loss);
    }
    Ok(losses)
}

/// Images of noise around a level that depends on the class.
fn batches(batch: usize, image: usize) -> Vec<Pair> {
    let mut state = 11u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..BEFORE + AFTER)
        .map(|_| {
            let labels: Vec<u32> = (0..batch).map(|_| (random() * 10.0) as u32).collect();
            let images = labels
                .iter()
                .flat_map(|&label| vec![label as f32 / 5.0 - 1.0; image])
                .map(|level| level + random() - 0.5)
                .collect();
            (images, labels)
        })
        .collect()
}

fn write_batches(path: &Path, batches: &[Pair], shape: [usize; 4]) -> Result<(), Box<dyn Error>> {
    let mut images = vec![];
    let mut labels = vec![];
    for (own_images, own_labels) in batches {
        images.extend(own_images);
        labels.extend(own_labels.iter().map(|&label| i64::from(label)));
    }
    let [batch, h, w, c] = shape;
    let images = Tensor::from_f32(&[batches.len(), batch, h, w, c], &images)?;
    let labels = Tensor::from_i64(&[batches.len(), batch], &labels)?;
    let mut file = File::create(path.with_extension("safetensors"))?;
    Layout::new(&[("images", &images), ("labels", &labels)], &[])?.write_to(&mut file)?;
    Ok(())
}
