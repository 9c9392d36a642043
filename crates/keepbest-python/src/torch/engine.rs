//! Training with PyTorch.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use keepbest_formats::{SnapshotHandle, StateDict};
use keepbest_nn::{
    Averaging, Batch, Determinism, Engine, EngineConfig, EngineError, Network, Scorer, StepError,
    StepOutput, WeightsError, WhichWeights, average_share, trained_first,
};
use pyo3::prelude::*;
use serde_json::json;

use super::layout::{Face, Layout};
use super::ranks::lost;
use super::scorer::TorchScorer;
use super::snapshot::{Taken, TorchSnapshot};
use super::worker::{TorchError, run};
use super::{MODULE, failed};

/// A network that is trained on a device of PyTorch's.
pub(super) struct TorchEngine {
    network: Arc<Network>,
    config: EngineConfig,
    device: String,
    layout: Arc<Layout>,
    /// `keepbest.torch._engine.Engine`.
    object: Arc<Py<PyAny>>,
    about: About,
    steps: u64,
    /// The last copy of the weights, as long as they are the same and somebody holds it.
    latest: Mutex<Weak<Taken>>,
    /// What the device failed with where that could not be told.
    failure: Option<TorchError>,
}

/// What the device and its software say of themselves.
struct About {
    processor: String,
    software: String,
    threads: usize,
    looks_ahead: bool,
}

/// Where a batch lies: images, how many, own labels, and other labels with shares.
type Addresses = (usize, usize, usize, Option<(usize, usize)>);

fn addresses(batch: &Batch<'_>) -> Addresses {
    let labels = batch.labels;
    let mixed = labels.mixed.map(|mixed| {
        let others = mixed.others.as_ptr().expose_provenance();
        (others, mixed.shares.as_ptr().expose_provenance())
    });
    (
        batch.images.as_ptr().expose_provenance(),
        batch.len(),
        labels.own.as_ptr().expose_provenance(),
        mixed,
    )
}

impl TorchEngine {
    pub(super) fn new(
        device: &str,
        network: Network,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        config.validate(&network)?;
        let rates = config.tuning.rates(&network)?;
        let layout = Layout::of_engine(&network, &config);
        let told = json!({
            "device": device,
            "layout": layout.to_json(),
            "rates": rates,
            "batch_size": config.batch_size,
            "threads": config.threads,
            "precision": config.precision.name(),
            "seed": config.seed,
            "optimizer": config.optimizer,
            "loss": config.loss,
            "clip_grad_norm": config.clip_grad_norm,
            "averaging": match config.averaging {
                Some(Averaging::Ema(decay)) => json!({"ema": decay}),
                Some(Averaging::Swa) => json!({"swa": true}),
                None => json!(null),
            },
            "compile": config.compile,
            "deterministic": config.deterministic,
            "ranks": config.collective.ranks(),
        });
        let (spec, told) = (network.spec().to_json().to_string(), told.to_string());
        let made = run(move |py| {
            let engine = py.import(MODULE)?.getattr("Engine")?.call1((spec, told))?;
            let about = About {
                processor: engine.getattr("processor")?.extract()?,
                software: engine.getattr("software")?.extract()?,
                threads: engine.getattr("threads")?.extract()?,
                looks_ahead: engine.getattr("looks_ahead")?.extract()?,
            };
            Ok((engine.unbind(), about))
        });
        let (object, about) = made.map_err(failed)?;
        let start = network.layout().starting_values(config.seed);
        let mut engine = Self {
            network: Arc::new(network),
            config,
            device: device.to_owned(),
            layout: Arc::new(layout),
            object: Arc::new(object),
            about,
            steps: 0,
            latest: Mutex::default(),
            failure: None,
        };
        engine.take_weights(&start);
        match engine.failure.take() {
            None => Ok(engine),
            Some(error) => Err(failed(error)),
        }
    }

    /// A call that changes the weights. What fails where it cannot be told is told by the next step.
    fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Option<T> {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        let object = Arc::clone(&self.object);
        match run(move |py| call(py, &object)) {
            Ok(done) => Some(done),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    /// A call that may fail the step.
    fn stepping<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T, StepError> {
        let done = match self.failure {
            None => self.call(call),
            Some(_) => None,
        };
        done.ok_or_else(|| {
            let error = self.failure.clone();
            let error: Box<dyn std::error::Error + Send + Sync> = match error {
                Some(error) if error.rank_lost => {
                    return StepError::Collective(lost(self.config.collective.rank(), error));
                }
                Some(error) => Box::new(error),
                None => "the call did not come back".into(),
            };
            StepError::Device(error)
        })
    }

    fn take_weights(&mut self, weights: &StateDict) {
        let memory = self.layout.pack_weights(weights);
        let address = memory.as_ptr().expose_provenance();
        self.call(move |py, engine| {
            engine
                .call_method1(py, "load_weights", (address,))
                .map(drop)
        });
        drop(memory);
    }

    fn shown(&self, face: Face) -> TorchSnapshot {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match (latest.upgrade(), &self.failure) {
            (Some(taken), _) => Ok(taken),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => {
                let object = Arc::clone(&self.object);
                let taken = run(move |py| Taken::of(py, object.call_method0(py, "snapshot")?));
                taken.map(Arc::new)
            }
        };
        if let Ok(taken) = &taken {
            *latest = Arc::downgrade(taken);
        }
        TorchSnapshot {
            step: self.steps,
            layout: Arc::clone(&self.layout),
            face,
            taken,
        }
    }
}

impl Engine for TorchEngine {
    fn network(&self) -> &Network {
        &self.network
    }

    fn processor(&self) -> String {
        self.about.processor.clone()
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn software(&self) -> Option<String> {
        Some(self.about.software.clone())
    }

    fn threads(&self) -> usize {
        self.about.threads
    }

    fn determinism(&self) -> Determinism {
        let object = Arc::clone(&self.object);
        match run(move |py| object.getattr(py, "is_deterministic")?.extract(py)) {
            Ok(true) => Determinism::SameMachine,
            _ => Determinism::Nothing,
        }
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, batch: Batch<'_>, learning_rate: f64) -> Result<StepOutput, StepError> {
        self.step_before(batch, learning_rate, None)
    }

    fn step_before(
        &mut self,
        batch: Batch<'_>,
        learning_rate: f64,
        next: Option<Batch<'_>>,
    ) -> Result<StepOutput, StepError> {
        let most = self.config.batch_size;
        // Of several ranks, some may have no image of a small batch.
        if !batch.is_empty() || self.config.collective.ranks() == 1 {
            batch.check(&self.network, most, learning_rate)?;
        }
        // What is wrong with the next batch, its own step says.
        let next = next.filter(|next| next.check(&self.network, most, learning_rate).is_ok());
        let (batch, next) = (addresses(&batch), next.as_ref().map(addresses));
        let share = match self.config.averaging {
            Some(Averaging::Ema(decay)) => average_share(decay, self.steps + 1),
            _ => 0.0,
        };
        let done = self.stepping(move |py, engine| {
            let told = (batch, learning_rate, share, next);
            engine
                .call_method1(py, "step", told)?
                .extract::<(f64, u32, usize, Option<f64>, bool)>(py)
        })?;
        let (loss, correct, images, grad_norm, holds) = done;
        let step = self.steps + 1;
        match (holds, grad_norm) {
            (true, _) => {}
            (false, Some(norm)) if loss.is_finite() => {
                return Err(StepError::NonFiniteGradient { norm, step });
            }
            _ => return Err(StepError::NonFiniteLoss { loss, step }),
        }
        self.steps = step;
        Ok(StepOutput {
            loss,
            correct,
            images,
            grad_norm: grad_norm.filter(|_| self.config.clip_grad_norm.is_some()),
        })
    }

    fn looks_ahead(&self) -> bool {
        self.about.looks_ahead
    }

    /// Copies on the device; the copy comes to this machine's memory while training goes on.
    fn snapshot(&self) -> SnapshotHandle {
        SnapshotHandle::new(self.shown(Face::Trained))
    }

    fn averaged(&self) -> Option<SnapshotHandle> {
        let keeps = self.config.averaging.is_some();
        keeps.then(|| SnapshotHandle::new(self.shown(Face::Average)))
    }

    fn load_weights(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        self.network.layout().check(weights)?;
        self.take_weights(weights);
        Ok(())
    }

    fn restore(
        &mut self,
        weights: &StateDict,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError> {
        let (weights, training) = trained_first(weights, training);
        self.network.layout().check(&weights)?;
        WeightsError::check(&self.snapshot().training_state(), &training)?;
        let mut memory = self.layout.pack_weights(&weights);
        self.layout.pack_training(&training, &mut memory);
        let address = memory.as_ptr().expose_provenance();
        self.call(move |py, engine| {
            engine
                .call_method1(py, "restore", (address, steps))
                .map(drop)
        });
        drop(memory);
        self.steps = steps;
        Ok(())
    }

    fn average_weights(&mut self, taken: u64) {
        self.call(move |py, engine| {
            engine
                .call_method1(py, "average_weights", (taken,))
                .map(drop)
        });
    }

    fn measure_statistics(
        &mut self,
        of: WhichWeights,
        images: &[f32],
        seen: u64,
    ) -> Result<(), StepError> {
        let n = images.len() / self.network.image_len().max(1);
        let labels = vec![0; n];
        Batch::new(images, &labels).check(&self.network, self.config.batch_size, 0.0)?;
        let address = images.as_ptr().expose_provenance();
        let average = of == WhichWeights::Average;
        self.stepping(move |py, engine| {
            engine
                .call_method1(py, "measure_statistics", (average, address, n, seen))
                .map(drop)
        })
    }

    fn scorer(&self, batch_size: usize) -> Result<Box<dyn Scorer>, EngineError> {
        let network = Arc::clone(&self.network);
        Ok(Box::new(TorchScorer::new(
            &self.device,
            network,
            batch_size,
            self.config.threads,
        )?))
    }
}
