//! Settings that are one of a few words, and small structured ones.

use std::fmt;

use keepbest_core::size::{format_size, parse_size};
use keepbest_data::{Augmentation, AugmentationError};

use super::value::{Value, choice, one_of};

pub use keepbest_nn::OptimizerKind;

impl Value for OptimizerKind {
    fn read(text: &str) -> Result<Self, String> {
        let named = Self::ALL.iter().find(|kind| kind.word() == text);
        named.copied().ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|kind| kind.word()).collect();
            one_of(text, &words)
        })
    }
    fn write(&self) -> toml::Value {
        self.word().into()
    }
}

choice! {
    /// The course of the learning rate over a run.
    ScheduleKind {
        /// Always the same.
        Constant = "constant",
        /// Multiplied by `lr-gamma` every `lr-step` epochs.
        Step = "step",
        /// Half a cosine down to nothing.
        Cosine = "cosine",
        /// Up to the full rate and down again (Smith, 2018).
        OneCycle = "one-cycle",
        /// Multiplied by `lr-gamma` after `lr-patience` evaluations without a better one.
        Plateau = "plateau",
    }
}

choice! {
    /// The better direction of the monitored metric.
    Mode {
        /// As the metric itself says.
        Auto = "auto",
        /// Larger is better.
        Max = "max",
        /// Smaller is better.
        Min = "min",
    }
}

choice! {
    /// The numbers that training steps multiply in. Evaluation is `f32` in both.
    PrecisionKind {
        /// Single precision: the same model on every machine.
        F32 = "f32",
        /// Half the bits, with sums and weights in `f32`: faster. On the CPU only where it has AVX-512 BF16.
        Bf16 = "bf16",
        /// IEEE half precision with a scaled loss, with PyTorch alone.
        F16 = "f16",
    }
}

choice! {
    /// The contents of a checkpoint.
    SaveKind {
        /// All it takes to predict or to go on training.
        Full = "full",
        /// The weights alone.
        Params = "params",
    }
}

choice! {
    /// The form that best is kept in beside `best.safetensors`.
    AlsoKind {
        /// `best.pth`, for PyTorch.
        Pth = "pth",
    }
}

choice! {
    /// The way an image of another size is brought to the network's.
    Resize {
        /// Not needed: all images have that size.
        None = "none",
        /// Stretched or squeezed.
        Exact = "exact",
        /// Covered with its proportions kept, then the centre cut out.
        Crop = "crop",
    }
}

choice! {
    /// Settings that go together.
    Recipe {
        /// A good model soon.
        Quick = "quick",
        /// A better one, with time.
        Strong = "strong",
    }
}

/// The monitored metrics or expressions. In `run.toml` a list where there is more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitors {
    /// The one that decides which model is best.
    pub first: String,
    /// Further ones, of each of which a best of its own is kept.
    pub others: Vec<String>,
}

impl From<&str> for Monitors {
    fn from(first: &str) -> Self {
        Self {
            first: first.into(),
            others: Vec::new(),
        }
    }
}

impl Value for Monitors {
    fn read(text: &str) -> Result<Self, String> {
        Ok(String::read(text)?.as_str().into())
    }
    fn write(&self) -> toml::Value {
        match self.others.as_slice() {
            [] => self.first.write(),
            others => {
                let all = std::iter::once(&self.first).chain(others);
                toml::Value::Array(all.map(Value::write).collect())
            }
        }
    }

    const REPEATS: bool = true;

    fn put(self, place: &mut Option<Self>) {
        match place {
            Some(before) => {
                before.others.push(self.first);
                before.others.extend(self.others);
            }
            None => *place = Some(self),
        }
    }
}

/// Smoothing of the monitored value over the evaluations: `none` or `ema:FACTOR`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Smooth {
    /// Not at all.
    None,
    /// An exponential moving average: this part of the past, the rest of the new value.
    Ema(f64),
}

impl fmt::Display for Smooth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ema(factor) => write!(f, "ema:{factor}"),
        }
    }
}

impl Value for Smooth {
    fn read(text: &str) -> Result<Self, String> {
        let factor = text.strip_prefix("ema:").map(str::parse::<f64>);
        match factor {
            None if text == "none" => Ok(Self::None),
            Some(Ok(factor)) if factor > 0.0 && factor < 1.0 => Ok(Self::Ema(factor)),
            _ => Err("none, or ema:FACTOR with a factor between 0 and 1".into()),
        }
    }
    fn write(&self) -> toml::Value {
        self.to_string().into()
    }
}

/// The rhythm of evaluations: one after every epoch, or every so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvalEvery {
    /// At the end of every epoch.
    Epoch,
    /// After every N optimizer steps, and at the very end.
    Steps(u64),
}

impl Value for EvalEvery {
    fn read(text: &str) -> Result<Self, String> {
        match (text, text.parse::<u64>()) {
            ("epoch", _) => Ok(Self::Epoch),
            (_, Ok(steps)) if steps > 0 => Ok(Self::Steps(steps)),
            _ => Err("\"epoch\" or a number of steps".into()),
        }
    }
    fn write(&self) -> toml::Value {
        match self {
            Self::Epoch => "epoch".into(),
            Self::Steps(steps) => Value::write(steps),
        }
    }
}

impl Value for Augmentation {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: AugmentationError| error.expected)
    }
    fn write(&self) -> toml::Value {
        self.to_string().into()
    }
}

choice! {
    /// The training images that an epoch goes through.
    Sampling {
        /// Each once.
        Shuffled = "shuffled",
        /// As many of every class.
        Balanced = "balanced",
    }
}

/// A size in bytes: `2GiB`, `500MB`, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl Value for ByteSize {
    fn read(text: &str) -> Result<Self, String> {
        let bytes = if text == "0" {
            Some(0)
        } else {
            parse_size(text)
        };
        bytes
            .map(Self)
            .ok_or_else(|| "a size such as 2GiB or 500MB, or 0".into())
    }
    fn write(&self) -> toml::Value {
        format_size(self.0).into()
    }
}

/// A time in whole seconds: `5m`, `90s`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBudget(pub u64);

impl TimeBudget {
    const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64
    }
}

impl fmt::Display for TimeBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        for (unit, seconds) in Self::UNITS {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

impl Value for TimeBudget {
    fn read(text: &str) -> Result<Self, String> {
        let mut left = text;
        let mut total = Some(0u64);
        for (unit, seconds) in Self::UNITS {
            if let Some((number, rest)) = left.split_once(unit) {
                let number = number.parse::<u64>().ok();
                total = total
                    .zip(number.and_then(|number| number.checked_mul(seconds)))
                    .and_then(|(total, more)| total.checked_add(more));
                left = rest;
            }
        }
        total
            .filter(|total| *total > 0 && left.is_empty())
            .map(Self)
            .ok_or_else(|| "a time such as 5m, 90s or 1h30m".into())
    }
    fn write(&self) -> toml::Value {
        self.to_string().into()
    }
}

/// The weight of each class in the loss.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassWeights {
    /// All the same.
    None,
    /// In inverse proportion to the class's share of the training images (scikit-learn's `balanced`:
    /// `n / (classes * count)`).
    Balanced,
    /// One weight a class, in class order.
    List(Vec<f64>),
}

impl Value for ClassWeights {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "balanced" => Ok(Self::Balanced),
            _ => text
                .split(',')
                .map(|weight| {
                    weight
                        .trim()
                        .parse::<f64>()
                        .ok()
                        .filter(|w| w.is_finite() && *w >= 0.0)
                })
                .collect::<Option<Vec<f64>>>()
                .filter(|weights| weights.iter().any(|w| *w > 0.0))
                .map(Self::List)
                .ok_or_else(|| "none, balanced, or one weight a class joined by commas".into()),
        }
    }
    fn write(&self) -> toml::Value {
        match self {
            Self::None => "none".into(),
            Self::Balanced => "balanced".into(),
            Self::List(weights) => weights.clone().into(),
        }
    }
}

/// Height and width that images are brought to: `28` or `24x32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl Value for ImageSize {
    fn read(text: &str) -> Result<Self, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        match (height.parse(), width.parse()) {
            (Ok(height), Ok(width))
                if (1..=4096).contains(&height) && (1..=4096).contains(&width) =>
            {
                Ok(Self { height, width })
            }
            _ => Err("a size in pixels such as 32 or 24x32 (height x width, up to 4096)".into()),
        }
    }
    fn write(&self) -> toml::Value {
        self.to_string().into()
    }
}
