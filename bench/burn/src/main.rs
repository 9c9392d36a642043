//! Throughput of Burn (flex, its fastest CPU engine in Rust) in training or inference on random images, as the line of
//! JSON that keepbest's `bench_step` prints. `bench/engine.py --burn` drives it.
//!
//! `burn-step --model simple-cnn|resnet18 --batch N --steps N --threads N [--infer]`

mod nets;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use std::error::Error;
use std::time::Instant;

use nets::{Net, ResNet18, SimpleCnn};

/// The first steps touch fresh memory.
const WARM_UP: usize = 3;

struct Options {
    model: String,
    batch: usize,
    steps: usize,
    threads: usize,
    infer: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()?;
    let device = Device::flex();
    // Tensors record what is computed with them only where they train.
    let device = if options.infer {
        device
    } else {
        device.autodiff()
    };
    let seconds = match options.model.as_str() {
        "simple-cnn" => time(SimpleCnn::new(&device), [1, 28, 28], &options, &device)?,
        "resnet18" => time(ResNet18::new(&device), [3, 32, 32], &options, &device)?,
        other => return Err(format!("unknown model {other}").into()),
    };
    let mut rates: Vec<f64> = seconds
        .iter()
        .map(|time| options.batch as f64 / time)
        .collect();
    rates.sort_by(f64::total_cmp);
    let (steps, median) = (rates.len(), rates[rates.len() / 2]);
    let (least, most) = (rates[0], rates[steps - 1]);
    println!(
        "{{\"images_per_second\": {median:.1}, \"min\": {least:.1}, \"max\": {most:.1}, \"steps\": {steps}}}"
    );
    Ok(())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        model: "simple-cnn".to_owned(),
        batch: 64,
        steps: 20,
        threads: 1,
        infer: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--model" => options.model = value()?,
            "--batch" => options.batch = value()?.parse()?,
            "--steps" => options.steps = value()?.parse()?,
            "--threads" => options.threads = value()?.parse()?,
            "--infer" => options.infer = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}

/// Seconds of each step: SGD with momentum 0.9 on cross entropy, or the forward pass alone.
fn time<N: Net>(
    mut net: N,
    [channels, height, width]: [usize; 3],
    options: &Options,
    device: &Device,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let batch = options.batch;
    let shape = [batch, channels, height, width];
    let images = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
    let labels: Vec<i64> = (0..batch as i64).map(|i| i % 10).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), device);
    let loss = CrossEntropyLossConfig::new().init(device);
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    if options.infer {
        net = net.valid();
    }
    let mut seconds = Vec::with_capacity(options.steps);
    for step in 0..WARM_UP + options.steps {
        let since = Instant::now();
        let scores = net.forward(images.clone());
        if options.infer {
            scores.into_data();
        } else {
            let loss = loss.forward(scores, labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(0.01, net, gradients);
            loss.into_data();
        }
        if step >= WARM_UP {
            seconds.push(since.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}
