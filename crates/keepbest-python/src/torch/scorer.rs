//! Scoring images with PyTorch.

use std::sync::Arc;

use keepbest_formats::{SnapshotHandle, StateDict, check_setting};
use keepbest_nn::{EngineError, Network, ScoreError, Scorer, WeightsError};
use pyo3::prelude::*;

use super::layout::{Face, Layout};
use super::snapshot::TorchSnapshot;
use super::worker::{TorchError, run};
use super::{MODULE, failed};

/// A network on a device of PyTorch's, ready to score images.
pub(super) struct TorchScorer {
    network: Arc<Network>,
    layout: Layout,
    /// `keepbest.torch._engine.Scorer`.
    object: Arc<Py<PyAny>>,
    threads: usize,
    /// Whether it has weights; what the device failed with when it was to take some.
    loaded: Option<Result<(), TorchError>>,
}

impl TorchScorer {
    pub(super) fn new(
        device: &str,
        network: impl Into<Arc<Network>>,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Self, EngineError> {
        check_setting(
            "batch size",
            batch_size as f64,
            batch_size > 0,
            "at least 1",
        )?;
        let network = network.into();
        let layout = Layout::of_weights(&network);
        let spec = network.spec().to_json().to_string();
        let (on, places) = (device.to_owned(), layout.to_json().to_string());
        let made = run(move |py| {
            let scorer = py.import(MODULE)?.getattr("Scorer")?;
            let scorer = scorer.call1((spec, on, places, batch_size, threads))?;
            let threads = scorer.getattr("threads")?.extract()?;
            Ok((scorer.unbind(), threads))
        });
        let (object, threads) = made.map_err(failed)?;
        Ok(Self {
            network,
            layout,
            object: Arc::new(object),
            threads,
            loaded: None,
        })
    }
}

impl Scorer for TorchScorer {
    fn network(&self) -> &Network {
        &self.network
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        self.network.layout().check(weights)?;
        let memory = self.layout.pack_weights(weights);
        let (address, object) = (
            memory.as_ptr().expose_provenance(),
            Arc::clone(&self.object),
        );
        self.loaded = Some(run(move |py| {
            object.call_method1(py, "load", (address,)).map(drop)
        }));
        drop(memory);
        Ok(())
    }

    fn load_snapshot(&mut self, snapshot: &SnapshotHandle) -> Result<(), WeightsError> {
        let own = snapshot.downcast_ref::<TorchSnapshot>();
        let Some((own, Ok(taken))) = own.map(|own| (own, &own.taken)) else {
            return self.load(&snapshot.weights());
        };
        if !own.layout.same_weights(&self.layout) {
            return self.load(&snapshot.weights());
        }
        let (taken, object) = (Arc::clone(taken), Arc::clone(&self.object));
        let average = own.face == Face::Average;
        self.loaded = Some(run(move |py| {
            let from = taken.object.clone_ref(py);
            object
                .call_method1(py, "load_snapshot", (from, average))
                .map(drop)
        }));
        Ok(())
    }

    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) -> Result<(), ScoreError> {
        match &self.loaded {
            None => return Err(ScoreError::NoWeights),
            Some(Err(error)) => return Err(ScoreError::Device(Box::new(error.clone()))),
            Some(Ok(())) => {}
        }
        let image_len = self.network.image_len();
        if !images.len().is_multiple_of(image_len) {
            return Err(ScoreError::ImagesLength {
                found: images.len(),
                image_len,
            });
        }
        let n = images.len() / image_len;
        logits.clear();
        logits.resize(n * self.network.classes(), 0.0);
        let from = images.as_ptr().expose_provenance();
        let to = logits.as_mut_ptr().expose_provenance();
        let object = Arc::clone(&self.object);
        run(move |py| object.call_method1(py, "logits", (from, n, to)).map(drop))
            .map_err(|error| ScoreError::Device(Box::new(error)))
    }
}
