//! Memory is bounded: opening a model, saving one, and opening many one after the other.
//!
//! Each case is measured in a process of its own: this test program, started again for that one test.

use std::fs;
use std::path::Path;
use std::process::Command;

use keepbest::core::{Metrics, Objective};
use keepbest::formats::model_file::{self, Attachments, ModelFile, ModelMetadata};
use keepbest::formats::{StateDict, Tensor};
use keepbest::keeper::{Evaluation, Keeper, KeeperConfig, OwnedSnapshot, SnapshotHandle};
use keepbest::model::Model;
use keepbest::nn::{EngineConfig, build_engine, zoo};
use serde_json::{Value, json};

const ALONE: &str = "KEEPBEST_TEST_ALONE";
const MIB: u64 = 1 << 20;

/// Whether this is the process that measures. If not, starts it and passes on what it says.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("memory: ")) {
        println!("{line}");
    }
    false
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Runs `act` and gives how far this process's memory rose above what it was before.
fn rise(act: impl FnOnce()) -> u64 {
    // The peak begins anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    act();
    status("VmHWM:").saturating_sub(before)
}

/// Weights and momentum of `mib` MiB in all, in 20 tensors.
fn tensors(mib: usize) -> (StateDict, StateDict) {
    let (mut weights, mut training) = (StateDict::new(), StateDict::new());
    let length = mib * MIB as usize / 20 / 4;
    for at in 0..20 {
        let values: Vec<f32> = (0..length).map(|i| (i * 31 + at) as f32).collect();
        let tensor = Tensor::from_f32(&[length], &values).unwrap();
        let dict = if at < 10 { &mut weights } else { &mut training };
        dict.insert(format!("tensor{at}"), tensor).unwrap();
    }
    (weights, training)
}

#[test]
fn opening_a_model_takes_no_more_than_its_file() {
    if !alone("memory::opening_a_model_takes_no_more_than_its_file") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (weights, training) = tensors(200);
    let image = model_file::encode(&weights, &training, &ModelMetadata::default()).unwrap();
    image
        .write_to(&mut fs::File::create(&path).unwrap())
        .unwrap();
    let digest = image.weights_digest();
    drop((image, weights, training));
    let length = fs::metadata(&path).unwrap().len();

    let mut sum = 0_u64;
    let opened = rise(|| {
        let model = ModelFile::open(&path).unwrap();
        assert_eq!(model.weights_digest(), digest);
    });
    let used = rise(|| {
        let model = ModelFile::open(&path).unwrap();
        for (_, tensor) in model.weights.iter().chain(model.training.iter()) {
            sum += tensor
                .bytes()
                .iter()
                .map(|&byte| u64::from(byte))
                .sum::<u64>();
        }
    });
    println!(
        "memory: a file of {} MiB verified: {} MiB, every byte used: {} MiB",
        length / MIB,
        opened / MIB,
        used / MIB
    );
    assert!(sum > 0);
    assert!(opened < 16 * MIB, "{opened} bytes to verify");
    assert!(used < length + length / 10, "{used} bytes to use");
}

#[test]
fn saving_takes_little_over_the_snapshot() {
    if !alone("memory::saving_takes_little_over_the_snapshot") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::create(
        &folder.path().join("run"),
        "",
        KeeperConfig::new(Objective::new("val/accuracy").unwrap()),
    )
    .unwrap();
    let (weights, training) = tensors(200);
    let mut save = |epoch: u64| {
        let snapshot = SnapshotHandle::new(OwnedSnapshot {
            step: epoch,
            weights: weights.clone(),
            training_state: training.clone(),
        });
        let mut metrics = Metrics::new();
        metrics.insert("val/accuracy", epoch as f64 / 10.0);
        let evaluation = Evaluation::of(&snapshot, epoch, metrics);
        assert!(keeper.offer(evaluation, Value::Null).unwrap().is_improved());
        keeper.wait();
    };
    let rises: Vec<u64> = (1..=3).map(|epoch| rise(|| save(epoch))).collect();
    let most = rises.iter().max().unwrap();
    println!(
        "memory: saving 200 MiB: {} MiB over the snapshot",
        most / MIB
    );
    assert!(*most < 64 * MIB, "{rises:?}");
    assert!(keeper.finish(json!(null)).unwrap().best_is_saved);
}

#[test]
fn ten_thousand_models_opened_used_and_dropped_leave_nothing() {
    if !alone("memory::ten_thousand_models_opened_used_and_dropped_leave_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    full_model(&path);
    let image = vec![0.5_f32; 28 * 28];
    let mut logits = Vec::new();
    let mut first = None;
    let mut cycle = || {
        let model = Model::open(&path, None).unwrap();
        let mut predictor = model.predictor(1, Some(2)).unwrap();
        predictor.logits(&image, &mut logits).unwrap();
        assert_eq!(first.get_or_insert_with(|| logits.clone()), &logits);
    };
    // The allocator and lazily loaded code settle first.
    (0..500).for_each(|_| cycle());
    let before = status("VmRSS:");
    let threads_before = threads();
    (0..10_000).for_each(|_| cycle());
    let after = status("VmRSS:");
    println!(
        "memory: 10000 models opened, used and dropped: {} KiB before, {} KiB after",
        before >> 10,
        after >> 10
    );
    // Pages of a heap come and go; a leak of 1 KiB a model would be ten times this.
    assert!(after < before + MIB, "{before} bytes before, {after} after");
    assert_eq!(threads(), threads_before, "threads are left");
}

/// A full model of lenet5 that was never trained.
fn full_model(path: &Path) {
    let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10)).unwrap();
    let engine = build_engine("cpu", &spec, EngineConfig::default()).unwrap();
    let metadata = ModelMetadata {
        attachments: Attachments {
            model: Some(serde_json::to_value(&spec).unwrap()),
            ..Attachments::default()
        },
        ..ModelMetadata::default()
    };
    let snapshot = engine.snapshot();
    let image = model_file::encode(&snapshot.weights(), &StateDict::new(), &metadata).unwrap();
    image
        .write_to(&mut fs::File::create(path).unwrap())
        .unwrap();
}
