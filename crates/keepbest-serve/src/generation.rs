//! A loaded model: verified, warmed, with workers that compute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keepbest_core::WeightsDigest;
use keepbest_model::{Interpreter, Model, ModelPlace};
use keepbest_nn::{DEVICES, Scorer, build_scorer};

use crate::batch::{Again, Queue};
use crate::error::LoadError;
use crate::metrics::ModelMetrics;
use crate::observer::{Observer, ServeEvent};
use crate::options::Batching;

/// A model that was opened and planned for, not yet in memory.
pub(crate) struct Opened {
    model: Arc<Model>,
    interpreter: Interpreter,
    networks: Vec<Box<dyn Scorer>>,
    begun: Instant,
}

/// A model that answers, until a better one does.
pub(crate) struct Generation {
    /// What is done before and after the network.
    pub interpreter: Interpreter,
    /// The identity of its weights.
    pub weights: WeightsDigest,
    /// The same as text, as replies have it.
    pub digest: String,
    /// Bytes of memory that it takes.
    pub bytes: u64,
    /// The way to its workers.
    pub queue: Queue,
    /// Time that opening, verifying and warming it took.
    pub took: Duration,
}

/// Who a model works for.
pub(crate) struct Owner {
    pub name: String,
    pub metrics: ModelMetrics,
    pub observer: Arc<dyn Observer>,
}

fn network(model: &Model, batching: Batching) -> Result<Box<dyn Scorer>, LoadError> {
    let threads = Some(batching.threads_each());
    Ok(build_scorer(
        DEVICES[0],
        &model.spec,
        batching.batch_size,
        threads,
    )?)
}

fn load(network: &mut dyn Scorer, model: &Model) -> Result<(), LoadError> {
    network
        .load(&model.file.weights)
        .map_err(|error| LoadError::Weights(Box::new(error)))?;
    // Memory is touched and threads have started by the time that somebody waits.
    let image = network.network().image_len();
    network.logits(&vec![0.0; image], &mut Vec::new())?;
    Ok(())
}

impl Opened {
    /// Opens a model, reads every byte of it against its digests, and plans for it.
    pub(crate) fn open(
        place: &ModelPlace,
        batching: Batching,
        strict: bool,
    ) -> Result<Self, LoadError> {
        let begun = Instant::now();
        let model = Arc::new(Model::open_place(place, None)?);
        let interpreter = Interpreter::new(Arc::clone(&model), strict)?;
        let networks = (0..batching.workers.max(1)).map(|_| network(&model, batching));
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            interpreter,
            model,
            begun,
        })
    }

    /// Bytes of memory that it will take.
    pub(crate) fn bytes(&self) -> u64 {
        self.networks.iter().map(|network| network.bytes()).sum()
    }

    /// The identity of its weights.
    pub(crate) fn weights(&self) -> WeightsDigest {
        self.model.file.weights_digest()
    }

    /// Loads it, has it compute once, and starts its workers.
    pub(crate) fn start(
        mut self,
        owner: Owner,
        batching: Batching,
    ) -> Result<Generation, LoadError> {
        for network in &mut self.networks {
            load(&mut **network, &self.model)?;
        }
        let bytes = self.bytes();
        let weights = self.weights();
        let metrics = owner.metrics.clone();
        let model = Arc::clone(&self.model);
        let again = move |what: String| {
            let made = network(&model, batching).and_then(|mut network| {
                load(&mut *network, &model)?;
                Ok(network)
            });
            let what = match &made {
                Ok(_) => what,
                Err(error) => format!("{what}; another cannot be started: {error}"),
            };
            let model = &owner.name;
            owner.observer.on(ServeEvent::Broken { model, what });
            made.ok()
        };
        let again: Again = Arc::new(again);
        Ok(Generation {
            queue: Queue::start(self.networks, batching, metrics, &again)?,
            interpreter: self.interpreter,
            digest: weights.to_string(),
            weights,
            bytes,
            took: self.begun.elapsed(),
        })
    }
}

impl Generation {
    /// The model.
    pub(crate) fn model(&self) -> &Arc<Model> {
        self.interpreter.model()
    }

    /// Epoch and step, where the file says so.
    pub(crate) fn point(&self) -> Option<(u64, u64)> {
        let metadata = self.model().file.metadata.as_ref()?;
        Some((metadata.epoch, metadata.step))
    }
}
