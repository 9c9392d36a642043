//! Keeps the best model of a training loop written with candle.

mod snapshot;

use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{
    AdamW, Conv2d, Conv2dConfig, Linear, Module, Optimizer, VarBuilder, VarMap, conv2d, linear,
    loss,
};
use keepbest_data::{Batch, Loader, LoaderConfig, PrepareOptions, Prepared, embedded};
use keepbest_keeper::keepbest_core::{Metrics, Objective};
use keepbest_keeper::keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{BestRecord, Evaluation, Keeper, KeeperConfig, SaveMode, SnapshotHandle};
use serde_json::json;
use snapshot::CandleSnapshot;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const EPOCHS: u64 = 8;
const BATCH: usize = 64;

fn main() -> Result<()> {
    let run = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(format!("runs/candle-loop-{}", std::process::id())),
    };
    let data = embedded::fashion_mnist()?.prepare(&PrepareOptions::default())?;
    let best = train(&run, &data)?;

    // The best as it is on disk, every byte verified, in a network of its own.
    let file = ModelFile::open(&best.path)?;
    let variables = VarMap::new();
    let network = Network::new(&variables)?;
    snapshot::restore(&variables, &file.weights)?;
    let again = accuracy(&network, &data)?;
    let recorded = best.metrics.get("val/accuracy");
    println!(
        "{} holds epoch {}: accuracy {again:.4}, recorded {:.4}",
        best.path.display(),
        best.epoch,
        recorded.unwrap_or(f64::NAN)
    );
    if recorded != Some(again) {
        return Err("the reloaded best is not the model that was measured".into());
    }
    Ok(())
}

/// The loop. All that is keepbest's: create, offer, events, should_stop, finish.
fn train(run: &Path, data: &Prepared) -> Result<BestRecord> {
    let mut config = KeeperConfig::new(Objective::new("val/accuracy")?);
    config.save = SaveMode::Params;
    config.keep_last = false;
    config.early_stopping.patience = Some(2);
    config.constants.classes = data.classes.clone();
    let mut keeper = Keeper::create(run, "loop = \"candle\"\n", config)?;

    let variables = VarMap::new();
    let network = Network::new(&variables)?;
    let mut optimizer = AdamW::new_lr(variables.all_vars(), 2e-3)?;
    let loader = Loader::new(
        data.train.clone(),
        &data.preprocessing,
        LoaderConfig::training(BATCH, 1),
    )?;
    let mut step = 0;
    for epoch in 1..=EPOCHS {
        for batch in loader.epoch(epoch, 0) {
            let (images, labels) = tensors(&batch?)?;
            let loss = loss::cross_entropy(&network.forward(&images)?, &labels)?;
            optimizer.backward_step(&loss)?;
            step += 1;
        }
        let snapshot = SnapshotHandle::new(CandleSnapshot::take(&variables, step)?);
        let metrics = Metrics::from_iter([("val/accuracy", accuracy(&network, data)?)]);
        let verdict = keeper.offer(Evaluation::of(&snapshot, epoch, metrics), json!(null))?;
        println!("epoch {epoch}: {}", verdict.reason());
        for event in keeper.events() {
            println!("  {event}");
        }
        if let Some(reason) = keeper.should_stop() {
            println!("stopped: {reason}");
            break;
        }
    }
    let summary = keeper.finish(json!({"steps": step}))?;
    for event in &summary.events {
        println!("  {event}");
    }
    if let Some(failure) = summary.failures.first() {
        return Err(failure.to_string().into());
    }
    summary.best.ok_or_else(|| "there is no best".into())
}

struct Network {
    convolutions: [Conv2d; 2],
    classifier: Linear,
}

impl Network {
    fn new(variables: &VarMap) -> candle_core::Result<Self> {
        let vb = VarBuilder::from_varmap(variables, DType::F32, &Device::Cpu);
        let halve = Conv2dConfig {
            padding: 1,
            stride: 2,
            ..Conv2dConfig::default()
        };
        Ok(Self {
            convolutions: [
                conv2d(1, 16, 3, halve, vb.pp("conv1"))?,
                conv2d(16, 32, 3, halve, vb.pp("conv2"))?,
            ],
            classifier: linear(32 * 7 * 7, 10, vb.pp("fc"))?,
        })
    }

    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = images.clone();
        for convolution in &self.convolutions {
            x = convolution.forward(&x)?.relu()?;
        }
        self.classifier.forward(&x.flatten_from(1)?)
    }
}

/// Images `[n, 1, 28, 28]` and labels `[n]`. With one channel, NHWC and NCHW are the same bytes.
fn tensors(batch: &Batch) -> candle_core::Result<(Tensor, Tensor)> {
    let n = batch.labels.len();
    let images = Tensor::from_slice(&batch.images, (n, 1, 28, 28), &Device::Cpu)?;
    let labels = Tensor::from_slice(&batch.labels, n, &Device::Cpu)?;
    Ok((images, labels))
}

/// Accuracy on the validation images.
fn accuracy(network: &Network, data: &Prepared) -> Result<f64> {
    let config = LoaderConfig::evaluation(200);
    let loader = Loader::new(data.val.clone(), &data.preprocessing, config)?;
    let mut correct = 0;
    for batch in loader.epoch(0, 0) {
        let (images, labels) = tensors(&batch?)?;
        let predicted = network.forward(&images)?.argmax(D::Minus1)?;
        let hits = predicted.eq(&labels)?.to_dtype(DType::U32)?;
        correct += hits.sum_all()?.to_scalar::<u32>()?;
    }
    Ok(f64::from(correct) / data.val.len() as f64)
}
