//! How long it takes to keep a resnet18 with its momentum (90 MB) safe, and to read it back. `bench/store.py` and
//! `bench/save_overhead.py` drive it.
//!
//! `store_speed DIR [BATCH]` reads commands from standard input and answers each with one line of JSON, times in seconds:
//! - `save`: one optimizer step, then a snapshot and its evaluation offered to the keeper. `blocked` is how long the training
//!   loop stood still for it, `durable` how long until the file is best: synced, read back, journalled, its name moved.
//! - `raw`: the bytes of best written to a new file from first to last, then synced once.
//! - `load`: best mapped and verified.
//! - `train N`: N optimizer steps on batches of BATCH (8) images.
//! - `train-saving N`: the same after a snapshot was offered, which is saved meanwhile.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use keepbest::core::{Metrics, Objective};
use keepbest::formats::model_file::ModelFile;
use keepbest::keeper::{Evaluation, Keeper, KeeperConfig, KeeperEvent};
use keepbest::nn::{Batch, Engine, EngineConfig, OptimizerConfig, build_engine, zoo};
use serde_json::{Value, json};

/// When the keeper told that the best is saved, if it has.
fn best_saved(keeper: &mut Keeper) -> Result<Option<Instant>, Box<dyn Error>> {
    for event in keeper.events() {
        match event {
            KeeperEvent::SaveFailed(failure) => return Err(failure.to_string().into()),
            KeeperEvent::Promoted { reference, .. } if reference.is_best() => {
                return Ok(Some(Instant::now()));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: store_speed DIR [BATCH]")?;
    let dir = Path::new(&dir);
    let batch: usize = args.next().map_or(Ok(8), |batch| batch.parse())?;
    let spec = zoo::spec("resnet18", &zoo::ZooOptions::new(3, 32, 32, 10))?;
    let mut config = KeeperConfig::new(Objective::new("val/accuracy")?);
    config.constants.model = Some(serde_json::to_value(&spec)?);
    let mut keeper = Keeper::create(&dir.join("run"), "", config)?;
    let mut engine = build_engine(
        "cpu",
        &spec,
        EngineConfig {
            batch_size: batch,
            optimizer: OptimizerConfig::sgd(0.9, 0.0),
            ..Default::default()
        },
    )?;
    let images: Vec<f32> = (0..batch * 3 * 32 * 32)
        .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    let best = dir.join("run/best.safetensors");
    let mut saves = 0.0;
    // Each better than all before.
    let mut offer = |keeper: &mut Keeper, engine: &dyn Engine| {
        saves += 1e-3;
        let mut metrics = Metrics::new();
        metrics.insert("val/accuracy", saves);
        let snapshot = engine.snapshot();
        keeper.offer(Evaluation::of(&snapshot, 1, metrics), Value::Null)
    };
    for command in std::io::stdin().lock().lines() {
        let command = command?;
        let (command, steps) = command.split_once(' ').unwrap_or((&command, "1"));
        let answer = match command {
            "save" => {
                engine.step(Batch::new(&images, &labels), 1e-3)?;
                let begun = Instant::now();
                offer(&mut keeper, &*engine)?;
                let blocked = begun.elapsed().as_secs_f64();
                let durable = loop {
                    if let Some(told) = best_saved(&mut keeper)? {
                        break told.duration_since(begun).as_secs_f64();
                    }
                    thread::sleep(Duration::from_micros(100));
                };
                keeper.wait();
                keeper.events();
                json!({"blocked": blocked, "durable": durable, "bytes": fs::metadata(&best)?.len()})
            }
            "raw" => {
                let bytes = fs::read(&best)?;
                let path = dir.join("raw");
                let begun = Instant::now();
                let mut file = fs::File::create_new(&path)?;
                file.write_all(&bytes)?;
                file.sync_data()?;
                let seconds = begun.elapsed().as_secs_f64();
                fs::remove_file(&path)?;
                json!({"raw": seconds, "bytes": bytes.len()})
            }
            "load" => {
                let begun = Instant::now();
                let model = ModelFile::open(&best)?;
                let seconds = begun.elapsed().as_secs_f64();
                json!({"load": seconds, "tensors": model.weights.len() + model.training.len()})
            }
            "train" | "train-saving" => {
                let steps: u32 = steps.parse()?;
                let begun = Instant::now();
                if command == "train-saving" {
                    offer(&mut keeper, &*engine)?;
                }
                for _ in 0..steps {
                    engine.step(Batch::new(&images, &labels), 1e-3)?;
                }
                let seconds = begun.elapsed().as_secs_f64();
                keeper.wait();
                // Reports a save that failed.
                let saved = best_saved(&mut keeper)?.is_some();
                json!({"seconds": seconds, "saved": saved})
            }
            other => return Err(format!("unknown command {other:?}").into()),
        };
        println!("{answer}");
    }
    keeper.finish(Value::Null)?;
    Ok(())
}
