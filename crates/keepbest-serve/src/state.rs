//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Semaphore, watch};

use crate::body::Held;
use crate::catalogue::Catalogue;
use crate::error::{Refusal, StartError};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::options::ServeOptions;

/// The streams of events that may be open.
const STREAMS: usize = 256;

/// What all requests share.
pub(crate) struct State {
    pub options: ServeOptions,
    pub catalogue: Arc<Catalogue>,
    pub metrics: Arc<Metrics>,
    pub observer: Arc<dyn Observer>,
    /// The threads that may decode images at once.
    pub decoders: Arc<Semaphore>,
    /// The number of them.
    pub lanes: usize,
    /// The threads that may read runs for the dashboard at once.
    pub readers: Semaphore,
    /// The streams of events that may be open.
    pub streams: Arc<Semaphore>,
    /// The bytes of all requests.
    pub held: Arc<Held>,
    /// Whether the server has been told to stop.
    pub stopping: watch::Sender<bool>,
    /// Whether it listens and its first model is there.
    pub started: AtomicBool,
    under_way: AtomicUsize,
}

/// A request that is under way.
pub(crate) struct Pass(Arc<State>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.requests.dec();
    }
}

impl State {
    pub(crate) fn new(
        options: ServeOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Arc::new(Metrics::new());
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            catalogue: Arc::new(Catalogue::new(
                &options,
                Arc::clone(&metrics),
                Arc::clone(&observer),
            )?),
            options,
            metrics,
            observer,
            decoders: Arc::new(Semaphore::new(lanes)),
            lanes,
            readers: Semaphore::new(lanes),
            streams: Arc::new(Semaphore::new(STREAMS)),
            held: Arc::default(),
            stopping: watch::Sender::new(false),
            started: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        }))
    }

    /// Lets a request in that computes, if not too many are under way.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Pass, Refusal> {
        let before = self.under_way.fetch_add(1, Ordering::AcqRel);
        self.metrics.requests.inc();
        let pass = Pass(Arc::clone(self));
        match before < self.options.batching.queue {
            true => Ok(pass),
            false => Err(Refusal::busy()),
        }
    }

    /// Requests that are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Whether the server has been told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Whether it takes requests.
    pub(crate) fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire) && !self.is_stopping()
    }
}
