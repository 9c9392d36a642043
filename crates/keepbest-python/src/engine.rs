//! An engine by hand, step by step: how tests and benchmarks compare those of two devices.

use std::sync::{Mutex, PoisonError};

use keepbest_core::text::with_causes;
use keepbest_formats::{Dtype, OptimizerConfig, SnapshotHandle, Tensor};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{
    Averaging, Batch, Determinism, EngineConfig, Labels, LossConfig, ModelSpec, Precision,
    SecondLabels, Tuning, WhichWeights, build_engine,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Deserialize;

use crate::arena::Arena;
use crate::errors;
use crate::model::{Viewed, views};

/// The settings of an engine, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    batch_size: usize,
    seed: u64,
    threads: Option<usize>,
    precision: String,
    optimizer: OptimizerConfig,
    loss: LossConfig,
    freeze: Vec<String>,
    body_rate: f64,
    freeze_statistics: bool,
    clip_grad_norm: Option<f64>,
    ema: Option<f64>,
    swa: bool,
    compile: bool,
    deterministic: bool,
}

impl Default for Given {
    fn default() -> Self {
        let usual = EngineConfig::default();
        Self {
            batch_size: usual.batch_size,
            seed: usual.seed,
            threads: usual.threads,
            precision: usual.precision.name().to_owned(),
            optimizer: usual.optimizer,
            loss: usual.loss,
            freeze: usual.tuning.freeze,
            body_rate: usual.tuning.body_rate,
            freeze_statistics: usual.tuning.freeze_statistics,
            clip_grad_norm: usual.clip_grad_norm,
            ema: None,
            swa: false,
            compile: usual.compile,
            deterministic: usual.deterministic,
        }
    }
}

impl Given {
    fn config(self) -> PyResult<EngineConfig> {
        let mut known = Precision::ALL.iter();
        let precision = known.find(|it| it.name() == self.precision);
        let precision = precision.ok_or_else(|| {
            PyValueError::new_err(format!("precision {:?} is none", self.precision))
        })?;
        Ok(EngineConfig {
            batch_size: self.batch_size,
            seed: self.seed,
            threads: self.threads,
            precision: *precision,
            optimizer: self.optimizer,
            loss: self.loss,
            tuning: Tuning {
                freeze: self.freeze,
                body_rate: self.body_rate,
                freeze_statistics: self.freeze_statistics,
            },
            clip_grad_norm: self.clip_grad_norm,
            averaging: match (self.ema, self.swa) {
                (Some(decay), _) => Some(Averaging::Ema(decay)),
                (None, true) => Some(Averaging::Swa),
                (None, false) => None,
            },
            compile: self.compile,
            deterministic: self.deterministic,
            ..EngineConfig::default()
        })
    }
}

/// The engine of a device, with starting weights of a seed.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Engine {
    engine: Mutex<Box<dyn keepbest_nn::Engine>>,
}

/// A snapshot that is held.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Held {
    _snapshot: SnapshotHandle,
}

/// A name of the zoo with the size of its images (channels, height, width) and its classes, or a spec as JSON.
type Asked = (String, Option<(usize, usize, usize, usize)>);

fn spec_of((text, size): &Asked) -> Result<ModelSpec, String> {
    match *size {
        Some((channels, height, width, classes)) => {
            let size = ZooOptions::new(channels, height, width, classes);
            zoo::spec(text, &size).map_err(|error| with_causes(&error))
        }
        None => {
            let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            ModelSpec::from_json(&value).map_err(|error| with_causes(&error))
        }
    }
}

fn floats(arena: &Arena) -> PyResult<Tensor> {
    let bytes = arena.bytes();
    let tensor = Tensor::new(Dtype::F32, vec![bytes.len() / 4], bytes);
    tensor.map_err(|error| PyValueError::new_err(error.to_string()))
}

impl Engine {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut dyn keepbest_nn::Engine) -> Result<T, String> + Send,
    ) -> PyResult<T> {
        let done = py.detach(|| {
            let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            run(&mut **engine)
        });
        done.map_err(|message| errors::raise_plain(py, "TrainingFailed", &message))
    }
}

#[pymethods]
impl Engine {
    /// The engine of `device` for a network: `(spec as JSON, None)`, or `(name, (channels, height, width, classes))`.
    #[new]
    fn new(py: Python<'_>, device: &str, network: Asked, settings: &str) -> PyResult<Self> {
        let given: Given = serde_json::from_str(settings)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let config = given.config()?;
        let made = py.detach(|| {
            let spec = spec_of(&network)?;
            build_engine(device, &spec, config).map_err(|error| with_causes(&error))
        });
        match made {
            Ok(engine) => Ok(Self {
                engine: Mutex::new(engine),
            }),
            Err(message) => Err(errors::raise_plain(py, "InvalidOption", &message)),
        }
    }

    /// The network, as JSON.
    fn spec(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |engine| {
            Ok(engine.network().spec().to_json().to_string())
        })
    }

    /// Device, processor, software, what it promises of bits.
    fn about(&self, py: Python<'_>) -> PyResult<(String, String, Option<String>, &'static str)> {
        self.with(py, |engine| {
            let promised = match engine.determinism() {
                Determinism::Everywhere => "everywhere",
                Determinism::SameMachine => "same machine",
                _ => "nothing",
            };
            let device = engine.device().to_owned();
            Ok((device, engine.processor(), engine.software(), promised))
        })
    }

    /// One step on images `[n, height, width, channels]`; `mixed` are other labels and the shares of the own. Gives the loss, the
    /// images that were right, and the norm of the gradient where it is clipped. `ahead` are images and labels of the next step.
    #[pyo3(signature = (images, labels, learning_rate, mixed=None, ahead=None))]
    fn step(
        &self,
        py: Python<'_>,
        images: &Arena,
        labels: Vec<u32>,
        learning_rate: f64,
        mixed: Option<(Vec<u32>, Vec<f64>)>,
        ahead: Option<(PyRef<'_, Arena>, Vec<u32>)>,
    ) -> PyResult<(f64, u32, Option<f64>)> {
        let images = floats(images)?;
        let ahead = match ahead {
            Some((images, labels)) => Some((floats(&images)?, labels)),
            None => None,
        };
        self.with(py, |engine| {
            let images = images.as_f32().map_err(|error| error.to_string())?;
            let mixed = mixed
                .as_ref()
                .map(|(others, shares)| SecondLabels { others, shares });
            let own = &labels;
            let batch = Batch::new(&images, Labels { own, mixed });
            let next = match &ahead {
                Some((images, labels)) => {
                    Some((images.as_f32().map_err(|error| error.to_string())?, labels))
                }
                None => None,
            };
            let next = next.as_ref();
            let next = next.map(|(images, labels)| Batch::new(images, *labels));
            let done = engine.step_before(batch, learning_rate, next);
            let done = done.map_err(|error| with_causes(&error))?;
            Ok((done.loss, done.correct, done.grad_norm))
        })
    }

    /// Steps taken, weights and training state: of the average with `averaged`.
    fn snapshot(
        &self,
        py: Python<'_>,
        averaged: bool,
    ) -> PyResult<(u64, Vec<Viewed>, Vec<Viewed>)> {
        let (step, weights, training) = self.with(py, |engine| {
            let snapshot = match averaged {
                true => engine.averaged().ok_or("no average is kept")?,
                false => engine.snapshot(),
            };
            Ok((
                snapshot.step(),
                snapshot.weights(),
                snapshot.training_state(),
            ))
        })?;
        Ok((step, views(&weights), views(&training)))
    }

    /// A snapshot that nobody has read yet, held as long as what is given.
    fn hold(&self, py: Python<'_>) -> PyResult<Held> {
        let snapshot = self.with(py, |engine| Ok(engine.snapshot()))?;
        Ok(Held {
            _snapshot: snapshot,
        })
    }

    /// Goes on where another engine is, whatever its device.
    fn restore_from(&self, py: Python<'_>, other: &Engine, averaged: bool) -> PyResult<()> {
        let snapshot = other.with(py, |engine| match averaged {
            true => engine.averaged().ok_or("no average is kept".to_owned()),
            false => Ok(engine.snapshot()),
        })?;
        self.with(py, |engine| {
            let (weights, training) = (snapshot.weights(), snapshot.training_state());
            let restored = engine.restore(&weights, &training, snapshot.step());
            restored.map_err(|error| with_causes(&error))
        })
    }

    /// Takes the weights into the mean of `taken` before.
    fn average_weights(&self, py: Python<'_>, taken: u64) -> PyResult<()> {
        self.with(py, |engine| {
            engine.average_weights(taken);
            Ok(())
        })
    }

    /// Measures batch norm's statistics anew; `seen` batches were before.
    fn measure_statistics(
        &self,
        py: Python<'_>,
        average: bool,
        images: &Arena,
        seen: u64,
    ) -> PyResult<()> {
        let images = floats(images)?;
        let of = match average {
            true => WhichWeights::Average,
            false => WhichWeights::Trained,
        };
        self.with(py, |engine| {
            let images = images.as_f32().map_err(|error| error.to_string())?;
            let measured = engine.measure_statistics(of, &images, seen);
            measured.map_err(|error| with_causes(&error))
        })
    }

    /// Scores of images, `n * classes` of them, by the weights as they are or their average.
    fn logits(&self, py: Python<'_>, images: &Arena, averaged: bool) -> PyResult<Vec<f32>> {
        let images = floats(images)?;
        self.with(py, |engine| {
            let images = images.as_f32().map_err(|error| error.to_string())?;
            let snapshot = match averaged {
                true => engine.averaged().ok_or("no average is kept")?,
                false => engine.snapshot(),
            };
            let scorer = engine.scorer(images.len() / engine.network().image_len());
            let mut scorer = scorer.map_err(|error| with_causes(&error))?;
            let loaded = scorer.load_snapshot(&snapshot);
            loaded.map_err(|error| with_causes(&error))?;
            let mut logits = Vec::new();
            let scored = scorer.logits(&images, &mut logits);
            scored.map_err(|error| with_causes(&error))?;
            Ok(logits)
        })
    }
}
