//! A small model whose weights tell its step, and runs of it.

use std::path::{Path, PathBuf};

use keepbest_core::{Metrics, Objective};
use keepbest_formats::model_file::ModelFile;
use keepbest_formats::{StateDict, Tensor};
use keepbest_keeper::{Evaluation, Keeper, KeeperConfig, OwnedSnapshot, RunView, SnapshotHandle};
use serde_json::json;
use tempfile::TempDir;

pub(crate) struct Runs {
    parent: TempDir,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    /// In memory where there is such a place, for sessions by the hundred.
    pub(crate) fn in_memory() -> Self {
        Self {
            parent: in_memory(),
        }
    }

    pub(crate) fn parent(&self) -> &Path {
        self.parent.path()
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.parent.path().join("run")
    }

    pub(crate) fn create(&self, config: KeeperConfig) -> Keeper {
        Keeper::create(&self.run(), "seed = 1\n", config).unwrap()
    }

    pub(crate) fn view(&self) -> RunView {
        RunView::open(self.run()).unwrap()
    }
}

/// A folder for disk states that are made, not measured: in memory where there is such a place.
pub(crate) fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

pub(crate) fn config() -> KeeperConfig {
    KeeperConfig::new(Objective::new("val/accuracy").unwrap())
}

/// Weights and optimizer state that depend on the step alone, larger than a sector.
pub(crate) fn snapshot(step: u64) -> SnapshotHandle {
    let values = |seed: u64, len: usize| -> Vec<f32> {
        (0..len as u64)
            .map(|i| ((i * 31 + seed * 1009) % 997) as f32)
            .collect()
    };
    let mut weights = StateDict::new();
    weights
        .insert(
            "fc.weight",
            Tensor::from_f32(&[10, 30], &values(step, 300)).unwrap(),
        )
        .unwrap();
    weights
        .insert(
            "fc.bias",
            Tensor::from_f32(&[10], &values(step + 1, 10)).unwrap(),
        )
        .unwrap();
    let mut training_state = StateDict::new();
    training_state
        .insert(
            "fc.weight.momentum",
            Tensor::from_f32(&[10, 30], &values(step + 2, 300)).unwrap(),
        )
        .unwrap();
    SnapshotHandle::new(OwnedSnapshot {
        step,
        weights,
        training_state,
    })
}

/// The F1 is best for 0.62, so that the best by it is another than that by accuracy.
pub(crate) fn accuracy(value: f64) -> Metrics {
    Metrics::from_iter([
        ("val/accuracy", value),
        ("val/loss", 1.0 - value),
        ("val/f1_macro", 1.0 - (value - 0.62).abs()),
    ])
}

/// A run that keeps a best by F1 as well.
pub(crate) fn two_bests() -> KeeperConfig {
    KeeperConfig {
        others: vec![Objective::new("val/f1_macro").unwrap()],
        ..config()
    }
}

/// The step of the best by F1.
pub(crate) fn best_by_f1(run: &Path) -> u64 {
    step_of(&run.join("best.val-f1_macro.safetensors"))
}

/// Offers the evaluation of epoch `epoch`, ten steps each. Returns whether it improved.
pub(crate) fn offer(keeper: &mut Keeper, epoch: u64, value: f64) -> bool {
    let evaluation = Evaluation::of(&snapshot(epoch * 10), epoch, accuracy(value));
    keeper
        .offer(evaluation, json!({ "epoch": epoch }))
        .unwrap()
        .is_improved()
}

/// As `offer`, and waits for the disk.
pub(crate) fn offer_and_wait(keeper: &mut Keeper, epoch: u64, value: f64) -> bool {
    let improved = offer(keeper, epoch, value);
    keeper.wait();
    improved
}

pub(crate) fn open(path: &Path) -> ModelFile {
    ModelFile::open(path).unwrap()
}

/// Step and recorded accuracy of a model file.
pub(crate) fn step_of(path: &Path) -> u64 {
    open(path).metadata.unwrap().step
}

pub(crate) fn best_step(run: &Path) -> u64 {
    step_of(&run.join("best.safetensors"))
}

pub(crate) fn last_step(run: &Path) -> u64 {
    step_of(&run.join("last.safetensors"))
}

/// Names of the checkpoints on disk, hidden ones included.
pub(crate) fn checkpoints(run: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
