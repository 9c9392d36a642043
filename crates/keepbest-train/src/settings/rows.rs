//! Every setting, one row each.

use std::path::PathBuf;

use keepbest_core::classification::DecisionMetric;
use keepbest_data::Augmentation;
use keepbest_nn::CPU;

use super::key::{self, Access};
use super::table::{decided, decided_type, given, named, settings};
use super::value::Value;
use super::{
    AlsoKind, ByteSize, ClassWeights, DEFAULT_DATA, DEFAULT_MODEL, DataDefaults, EvalEvery, Group,
    ImageSize, Key, Mode, Monitors, OptimizerKind, PrecisionKind, Recipe, Resize, Sampling,
    SaveKind, ScheduleKind, Smooth, TimeBudget,
};
use crate::run_name;

settings! {
    images;

    [Data]
    // The fingerprints prove the images, wherever they lie.
    data: String = "data" "DATA"
        "Images to train on: a set that `keepbest data` lists, a folder of images by class, IDX or CIFAR files, a .csv of path and label, or an .npz"
        .may_change_on_resume(),
        default DEFAULT_DATA.into();
    data_dir: Option<PathBuf> = "data-dir" "DIR"
        "Where a named set lies, when not at its usual place"
        .may_change_on_resume().unwritten_when_none(),
        default None;
    image_size: ImageSize = "image-size" "SIZE"
        "Size that images are brought to, such as 32 or 24x32; by default their own, or one that suits where they differ"
        .derived(),
        default images.image_size;
    resize: Resize = "resize" "HOW"
        "How images of other sizes come to it: exact (stretched) or crop (the centre of them)"
        .derived(),
        default images.resize;
    val_fraction: f64 = "val-fraction" "PART"
        "Part of the training images set aside to choose the best, where the data brings no val split"
        .number("a number between 0 and 1", |x| x > 0.0 && x < 1.0),
        default 0.1;
    test_fraction: f64 = "test-fraction" "PART"
        "Part of the training images set aside for the final test, where the data brings no test split; 0 for no test"
        .number("a number from 0 to below 1", |x| (0.0..1.0).contains(&x)),
        default 0.1;
    augment: Augmentation = "augment" "HOW"
        "Random changes to training images: none, or joined by commas any of crop:AREA, shift:PIXELS, flip, rotate:DEGREES, jitter:X, trivial, erase:P, mixup:ALPHA, cutmix:ALPHA; by default what suits the data"
        .derived(),
        default images.augment;
    sampling: Sampling = "sampling" "HOW"
        "Which images an epoch goes through: shuffled (each once) or balanced (as many of every class)",
        default Sampling::Shuffled;
    skip_corrupt: bool = "skip-corrupt" "BOOL"
        "Leave out image files that cannot be read, and record which; without it they are an error",
        default false;
    cache: ByteSize = "cache" "SIZE"
        "Memory for decoded images, such as 4GiB, so that they are decoded once; the result does not depend on it"
        .may_change_on_resume(),
        default ByteSize(keepbest_data::DEFAULT_CACHE_BYTES);

    [Model]
    model: String = "model" "NAME"
        "A network that `keepbest models` lists",
        default DEFAULT_MODEL.into();
    from: Option<String> = "from" "MODEL"
        "Start from the weights of this model; the last layer starts anew when the classes differ",
        default None;
    freeze: Vec<String> = "freeze" "PATTERN"
        "Parameters that stay as they are, such as `layer1.*`; frozen batch norms keep their statistics",
        default Vec::new();
    body_rate: f64 = "body-rate" "FACTOR"
        "Factor on the learning rate of all but the last layer with weights",
        default 1.0;
    freeze_statistics: bool = "freeze-statistics" "BOOL"
        "Every batch norm keeps its statistics and normalises with them, true or false",
        default false;

    [Training]
    recipe: Option<Recipe> = "recipe" "NAME"
        "Settings that go together, for all that is not given: quick (a good model soon), strong (a better one, with time), or none",
        default None;
    epochs: u64 = "epochs" "N"
        "Passes over the training images"
        .number("a whole number from 1 to 1,000,000,000", |n| (1.0..=1e9).contains(&n))
        .may_change_on_resume(),
        default 24;
    time_budget: TimeBudget = "time-budget" "TIME"
        "As many epochs as fit into a time such as 5m or 1h30m, by the speed measured before the first, with the schedule made for them; instead of epochs";
    batch_size: usize = "batch-size" "N"
        "Images a step; by default 64, or all there are to train on"
        .number("a whole number from 1 to 1,000,000", |n| (1.0..=1e6).contains(&n))
        .derived(),
        default match images.train_images {
            0 => 64,
            few => few.min(64),
        };
    optimizer: OptimizerKind = "optimizer" "NAME"
        "sgd, adam or adamw",
        default OptimizerKind::Sgd;
    lr: f64 = "lr" "RATE"
        "Learning rate at its highest; by default 0.05 for sgd (less for batches below 64), 0.002 for adam and adamw"
        .number("a finite number above 0", |x| x > 0.0)
        .derived().follows(&["optimizer", "batch-size"]),
        default match optimizer.defaults() {
            // The noise of a step grows with the rate and shrinks with the batch (Goyal et al., arXiv 1706.02677).
            usual if usual.rate_follows_batch => usual.learning_rate * (batch_size as f64 / 64.0).min(1.0),
            usual => usual.learning_rate,
        };
    momentum: f64 = "momentum" "M"
        "Momentum of sgd"
        .number("a number from 0 to below 1", |x| (0.0..1.0).contains(&x))
        .follows(&["optimizer"]),
        default optimizer.defaults().momentum.unwrap_or_default().0,
        only if optimizer.defaults().momentum.is_some() => with_momentum();
    nesterov: bool = "nesterov" "BOOL"
        "Nesterov's form of momentum, true or false"
        .follows(&["optimizer"]),
        default optimizer.defaults().momentum.unwrap_or_default().1,
        only if optimizer.defaults().momentum.is_some() => with_momentum();
    weight_decay: f64 = "weight-decay" "D"
        "Weight decay; by default 0.0005 for sgd, 0.01 for adamw, 0 for adam"
        .number("a number of 0 or more", |x| x >= 0.0)
        .derived().follows(&["optimizer"]),
        default optimizer.defaults().weight_decay;
    schedule: ScheduleKind = "schedule" "NAME"
        "How the learning rate changes: constant, step, cosine, one-cycle or plateau",
        default ScheduleKind::OneCycle;
    warmup: f64 = "warmup" "EPOCHS"
        "Epochs in which the learning rate rises to its highest; by default a quarter of the run for one-cycle, else 0"
        .number("a number of epochs, 0 or more", |x| x >= 0.0)
        .derived().follows(&["epochs", "time-budget", "schedule"]),
        default match schedule {
            ScheduleKind::OneCycle => 0.25 * epochs as f64,
            _ => 0.0,
        };
    lr_step: f64 = "lr-step" "EPOCHS"
        "Schedule step: epochs from drop to drop; by default a third of the run"
        .number("a number of epochs above 0", |x| x > 0.0)
        .derived().follows(&["epochs", "time-budget", "schedule"]),
        default epochs as f64 / 3.0, only if schedule == ScheduleKind::Step => "schedule step";
    lr_gamma: f64 = "lr-gamma" "FACTOR"
        "Schedules step and plateau: factor of a drop"
        .number("a number above 0, up to 1", |x| x > 0.0 && x <= 1.0)
        .follows(&["schedule"]),
        default 0.1, only if matches!(schedule, ScheduleKind::Step | ScheduleKind::Plateau) => "schedules step and plateau";
    lr_patience: u32 = "lr-patience" "N"
        "Schedule plateau: evaluations without a better one before a drop"
        .number("a whole number", |n| n >= 0.0)
        .follows(&["schedule"]),
        default 3, only if schedule == ScheduleKind::Plateau => "schedule plateau";
    label_smoothing: f64 = "label-smoothing" "PART"
        "Part of the target spread evenly over all classes"
        .number("a number from 0 to below 1", |x| (0.0..1.0).contains(&x)),
        default 0.1;
    class_weights: ClassWeights = "class-weights" "HOW"
        "Weight of each class in the loss: none, balanced, or one number a class joined by commas",
        default ClassWeights::None;
    clip_grad_norm: Option<f64> = "clip-grad-norm" "NORM"
        "Scale gradients down to this norm when longer, or none"
        .number("a number above 0, or none", |x| x > 0.0),
        default None;
    ema: Option<f64> = "ema" "DECAY"
        "Keep a moving average of the weights, such as 0.999, measured beside them: the better one is offered as best; or none"
        .number("a number from 0 to below 1, or none", |x| (0.0..1.0).contains(&x))
        .follows(&["swa"]),
        default None;
    swa: Option<f64> = "swa" "PART"
        "From this part of the run on, such as 0.75, average the weights of all evaluations (SWA), with batch norm's statistics measured anew; measured beside the weights: the better one is offered as best; or none"
        .number("a number from 0 to below 1, or none", |x| (0.0..1.0).contains(&x)),
        default None;
    seed: u64 = "seed" "N"
        "Everything random follows from it: same seed, same model",
        default 1;
    threads: Option<usize> = "threads" "N"
        "Threads, or none for one a core; the result does not depend on them"
        .number("a whole number from 1 to 1,024, or none", |n| (1.0..=1024.0).contains(&n))
        .may_change_on_resume(),
        default None;
    device: String = "device" "NAME"
        "What computes: cpu, or with PyTorch, in the Python package, cuda, cuda:1, mps, xpu or torch:cpu"
        .may_change_on_resume(),
        default CPU.into();
    precision: PrecisionKind = "precision" "NAME"
        "What training multiplies in: f32; bf16, which is faster and on the CPU needs AVX-512 BF16; or f16, which cpu does not have; evaluation is f32",
        default PrecisionKind::F32;
    compile: bool = "compile" "BOOL"
        "Compile the network with torch.compile: the first steps take longer, the others less"
        .follows(&["device"]),
        default false, only if device != CPU => "PyTorch's devices";
    deterministic: bool = "deterministic" "BOOL"
        "Keep to algorithms that give the same bits on the same kind of device each time, as far as it has them, true or false"
        .follows(&["device"]),
        default true, only if device != CPU => "PyTorch's devices";

    [Best]
    monitor: Monitors = "monitor" "METRIC"
        "Metric that decides which model is best; an expression such as `0.5*val/accuracy + 0.5*val/f1_macro` too. Given again, a best of that metric is kept as well (`max:` or `min:` before one that is not known); mode, min-delta, tie-break, smooth, significant, patience and target are of the first",
        default "val/accuracy".into();
    mode: Mode = "mode" "WHICH"
        "max or min is better, or auto: as the metric says",
        default Mode::Auto;
    min_delta: String = "min-delta" "DELTA"
        "Least improvement that counts, such as 0.001 or 0.1%",
        default "0".into();
    // On a few hundred images many models are equally accurate. The loss tells them apart.
    tie_break: Option<String> = "tie-break" "METRIC"
        "Metric that decides between equals, or none: the earlier stays; by default val/loss, when val/accuracy is monitored"
        .derived().follows(&["monitor"]),
        default (monitor.first == "val/accuracy").then(|| "val/loss".into());
    constraint: Vec<String> = "constraint" "RULE"
        "What a best model must fulfil, such as `val/recall_macro >= 0.9`",
        default Vec::new();
    pareto: Option<String> = "pareto" "METRICS"
        "Two or more metrics or expressions joined by commas, such as val/f1_macro,latency_ms: every checkpoint stays that no other is as good as or better than by each of them (`max:` or `min:` before one that is not known); or none"
        .beside_result(),
        default None;
    eval_every: EvalEvery = "eval-every" "WHEN"
        "Measure after every epoch, or every N steps",
        default EvalEvery::Epoch;
    patience: Option<u32> = "patience" "N"
        "Stop after N evaluations without a better one, or none"
        .number("a whole number from 1 to 4,294,967,295, or none", |n| n >= 1.0),
        default None;
    target: Option<f64> = "target" "VALUE"
        "Stop when what is monitored reaches this value, or none",
        default None;
    max_minutes: Option<f64> = "max-minutes" "M"
        "Stop after so many minutes of this session, or none"
        .number("a number above 0, or none", |x| x > 0.0)
        .may_change_on_resume().beside_result(),
        default None;
    smooth: Smooth = "smooth" "HOW"
        "Judge by a moving average over the evaluations, ema:FACTOR with the factor of the past, or none; of several monitors, the first",
        default Smooth::None;
    significant: Option<f64> = "significant" "P"
        "Only what is better than the best with a p-value below P replaces it (paired test on the val images), or none; of several monitors, by the first"
        .number("a number from 0.0001 to below 1, or none", |x| (0.0001..1.0).contains(&x)),
        default None;
    thresholds: Option<DecisionMetric> = "thresholds" "METRIC"
        "At every evaluation, tune a decision threshold for each class on val so that this metric is highest, such as f1_macro: the model is measured by them, saved with them and decides by them; or none, to decide for the likeliest class",
        default None;

    [Saving]
    save: SaveKind = "save" "WHAT"
        "full: all it takes to predict or to go on training; params: the weights alone",
        default SaveKind::Full;
    also: Option<AlsoKind> = "also" "FORM"
        "Keep best in another form beside it: pth for best.pth, the weights as PyTorch takes them; or none"
        .beside_result(),
        default None;
    keep: Vec<String> = "keep" "RULE"
        "Checkpoints to keep besides best and last, those of any rule: best:N, last:N, every:STEPS, epochs:N, bytes:SIZE such as bytes:2GB for as many as fit"
        .beside_result(),
        default Vec::new();
    log: Vec<String> = "log" "WHERE"
        "Log to other tools too: tensorboard, csv, json, mlflow=URL"
        .may_change_on_resume().beside_result(),
        default Vec::new();
    name: String = "name" "NAME"
        "Name of the run; by default the model's and a number"
        .text(run_name::RULE, run_name::is_name)
        .may_change_on_resume();
    runs_dir: PathBuf = "runs-dir" "DIR"
        "Folder that holds the runs"
        .may_change_on_resume();
}

/// The optimizers that have momentum, in words.
fn with_momentum() -> String {
    let kinds = OptimizerKind::ALL.iter();
    let kinds = kinds.filter(|kind| kind.defaults().momentum.is_some());
    let words: Vec<&str> = kinds.map(|kind| kind.word()).collect();
    format!("optimizer {}", words.join(" or "))
}

// What follows from images, and what they are told by.
pub(super) const DATA: &str = Settings::known("data").name;
pub(super) const IMAGE_SIZE: &str = Settings::known("image-size").name;
pub(super) const RESIZE: &str = Settings::known("resize").name;
pub(super) const AUGMENT: &str = Settings::known("augment").name;
