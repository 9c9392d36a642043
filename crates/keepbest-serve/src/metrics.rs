//! What Prometheus is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStatus {
    status: u16,
}

/// The statuses that most replies have.
const USUAL: [u16; 5] = [200, 400, 422, 429, 504];

type Timing = Family<OfModel, Histogram, fn() -> Histogram>;
type Counts = Family<OfModel, Counter>;
type Gauges = Family<OfModel, Gauge>;

/// All that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    responses: Family<OfStatus, Counter>,
    /// Those of the usual statuses, which are reached without a lock.
    usual: Vec<(u16, Counter)>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Requests that are under way.
    pub requests: Gauge,
    resident: Gauge<u64, AtomicU64>,
    images: Counts,
    failed: Counts,
    abandoned: Counts,
    swaps: Counts,
    refused: Counts,
    queued: Gauges,
    bytes: Gauges,
    batch: Timing,
    queue: Timing,
    compute: Timing,
}

/// What is counted of one model. Reaching these takes no lock.
#[derive(Clone, Debug)]
pub(crate) struct ModelMetrics {
    /// Images that were computed.
    pub images: Counter,
    /// Images without an answer: not decoded, or the network failed.
    pub failed: Counter,
    /// Images whose client left, or whose deadline passed, before they were computed.
    pub abandoned: Counter,
    /// Times that a better best took over.
    pub swaps: Counter,
    /// Models that did not verify, or not load.
    pub refused: Counter,
    /// Images that wait for a batch.
    pub queued: Gauge,
    /// Bytes of memory that it takes.
    pub bytes: Gauge,
    /// Images of a batch.
    pub batch: Measured,
    /// Seconds that an image waited for its batch.
    pub queue: Measured,
    /// Seconds that a batch took.
    pub compute: Measured,
}

/// A histogram whose number and sum can be read, too: the crate's own are for Prometheus alone.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    histogram: Histogram,
    /// The number of values, and their sum in millionths.
    total: Arc<(AtomicU64, AtomicU64)>,
}

impl Measured {
    fn new(histogram: Histogram) -> Self {
        Self {
            histogram,
            total: Arc::default(),
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        self.histogram.observe(value);
        self.total.0.fetch_add(1, Ordering::Relaxed);
        let millionths = (value * 1e6) as u64;
        self.total.1.fetch_add(millionths, Ordering::Relaxed);
    }

    /// The number of values.
    pub(crate) fn count(&self) -> u64 {
        self.total.0.load(Ordering::Relaxed)
    }

    /// Their sum.
    pub(crate) fn sum(&self) -> f64 {
        self.total.1.load(Ordering::Relaxed) as f64 / 1e6
    }
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 17))
}

fn batches() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 10))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("keepbest");
        let metrics = Self {
            registry: Registry::default(),
            responses: Family::default(),
            usual: Vec::new(),
            connections: Gauge::default(),
            requests: Gauge::default(),
            resident: Gauge::default(),
            images: Family::default(),
            failed: Family::default(),
            abandoned: Family::default(),
            swaps: Family::default(),
            refused: Family::default(),
            queued: Family::default(),
            bytes: Family::default(),
            batch: Family::new_with_constructor(batches),
            queue: Family::new_with_constructor(seconds),
            compute: Family::new_with_constructor(seconds),
        };
        let of = &metrics;
        registry.register("responses", "Replies by status", of.responses.clone());
        registry.register(
            "connections",
            "Connections that are open",
            of.connections.clone(),
        );
        registry.register(
            "requests",
            "Requests that are under way",
            of.requests.clone(),
        );
        registry.register(
            "resident_bytes",
            "Memory of the process",
            of.resident.clone(),
        );
        registry.register("images", "Images that were computed", of.images.clone());
        registry.register(
            "images_failed",
            "Images without an answer",
            of.failed.clone(),
        );
        registry.register(
            "images_abandoned",
            "Images whose client left, or whose deadline passed, before they were computed",
            of.abandoned.clone(),
        );
        registry.register(
            "swaps",
            "Times that a better best took over",
            of.swaps.clone(),
        );
        registry.register(
            "models_refused",
            "Models that did not verify or load",
            of.refused.clone(),
        );
        registry.register(
            "queue_images",
            "Images that wait for a batch",
            of.queued.clone(),
        );
        registry.register("model_bytes", "Memory of a loaded model", of.bytes.clone());
        registry.register("batch_images", "Images computed at once", of.batch.clone());
        registry.register(
            "queue_seconds",
            "Time that images wait for a batch",
            of.queue.clone(),
        );
        registry.register(
            "compute_seconds",
            "Time that batches take",
            of.compute.clone(),
        );
        let usual = USUAL.map(|status| {
            let counter = of.responses.get_or_create_owned(&OfStatus { status });
            (status, counter)
        });
        Self {
            registry,
            usual: usual.into(),
            ..metrics
        }
    }

    /// What is counted of a model.
    pub(crate) fn of_model(&self, model: &str) -> ModelMetrics {
        let label = OfModel {
            model: model.to_owned(),
        };
        ModelMetrics {
            images: self.images.get_or_create_owned(&label),
            failed: self.failed.get_or_create_owned(&label),
            abandoned: self.abandoned.get_or_create_owned(&label),
            swaps: self.swaps.get_or_create_owned(&label),
            refused: self.refused.get_or_create_owned(&label),
            queued: self.queued.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
            batch: Measured::new(self.batch.get_or_create_owned(&label)),
            queue: Measured::new(self.queue.get_or_create_owned(&label)),
            compute: Measured::new(self.compute.get_or_create_owned(&label)),
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        match self.usual.iter().find(|(usual, _)| *usual == status) {
            Some((_, counter)) => counter.inc(),
            None => self.responses.get_or_create(&OfStatus { status }).inc(),
        };
    }

    /// All of it, in the text form of OpenMetrics.
    pub(crate) fn text(&self) -> String {
        self.resident.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Bytes of memory that this process has; `None` where the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
