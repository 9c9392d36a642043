//! Throughput of training or inference on random images, as one line of JSON. `bench/` drives it.
//!
//! `bench_step --model simple-cnn|resnet18|resnet50 [--batch 64] [--steps 20] [--threads N] [--infer] [--precision f32|bf16] [--snapshots] [--profile]`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, OptimizerConfig, Precision, zoo};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (mut model, mut batch, mut steps, mut threads) = ("simple-cnn".to_owned(), 64, 20, None);
    let mut precision = Precision::F32;
    let (mut infer, mut snapshots, mut profile) = (false, false, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--model" => model = value()?,
            "--batch" => batch = value()?.parse()?,
            "--steps" => steps = value()?.parse()?,
            "--threads" => threads = Some(value()?.parse()?),
            "--infer" => infer = true,
            "--precision" => {
                let name = value()?;
                let named = Precision::ALL.iter().find(|it| it.name() == name);
                precision = *named.ok_or("--precision is f32 or bf16")?;
            }
            "--snapshots" => snapshots = true,
            "--profile" => profile = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    // Images as each is usually trained on.
    let (channels, size) = match model.as_str() {
        "simple-cnn" => (1, 28),
        "resnet50" => (3, 224),
        _ => (3, 32),
    };
    let spec = zoo::spec(&model, &zoo::ZooOptions::new(channels, size, size, 10))?;
    let config = EngineConfig {
        batch_size: batch,
        threads,
        precision,
        optimizer: OptimizerConfig::sgd(0.9, 5e-4),
        ..Default::default()
    };
    let mut engine = CpuEngine::new(&spec, config)?;
    // A fixed pattern: the arithmetic does not depend on the values.
    let images: Vec<f32> = (0..batch * channels * size * size)
        .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    let mut scorer = engine.scorer(batch)?;
    scorer.load_snapshot(&engine.snapshot())?;
    let mut logits = vec![];
    let mut held = None;
    let mut times = Vec::with_capacity(steps);
    let mut snapshot_times = Vec::with_capacity(steps);
    for step in 0..steps + 3 {
        if step == 3 && profile {
            engine.start_profile();
        }
        let start = Instant::now();
        if infer {
            scorer.logits(&images, &mut logits)?;
        } else {
            engine.step(Batch::new(&images, &labels), 1e-3)?;
        }
        if snapshots {
            let begun = Instant::now();
            held = Some(engine.snapshot());
            snapshot_times.push(begun.elapsed().as_secs_f64());
        }
        // The first steps touch fresh memory.
        if step >= 3 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    drop(held);
    if let Some(profile) = engine.profile() {
        eprintln!("{profile}");
    }
    times.sort_by(f64::total_cmp);
    let rate = |time: f64| batch as f64 / time;
    let mut told = serde_json::json!({
        "images_per_second": rate(times[steps / 2]),
        "min": rate(times[steps - 1]),
        "max": rate(times[0]),
        "steps": steps,
    });
    if snapshots {
        snapshot_times.sort_by(f64::total_cmp);
        let micros = |time: &f64| 1e6 * time;
        told["snapshot_microseconds"] = serde_json::json!({
            "median": micros(&snapshot_times[snapshot_times.len() / 2]),
            "most": snapshot_times.last().map(micros),
        });
    }
    println!("{told}");
    Ok(())
}
