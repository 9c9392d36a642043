//! Batches of a model, formed from what concurrent requests bring.
//!
//! Requests put jobs into a queue that takes no lock; each worker has a network of its own, takes what is there up to a batch, and
//! computes. Where it could take more, it waits for what is on its way (being decoded), never for what has not come.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use keepbest_nn::Scorer;
use tokio::sync::oneshot;

use crate::error::{LoadError, Refusal};
use crate::metrics::ModelMetrics;
use crate::options::Batching;

/// Makes another network where one did not survive a batch, of which the words tell.
pub(crate) type Again = Arc<dyn Fn(String) -> Option<Box<dyn Scorer>> + Send + Sync>;

/// Images to compute, of one request.
struct Job {
    /// `[images, height, width, channels]`, normalised.
    input: Vec<f32>,
    images: usize,
    queued: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Scores, Refusal>>,
}

impl Job {
    /// Whether nobody waits for it any more.
    fn is_void(&self, now: Instant) -> bool {
        self.reply.is_closed() || now >= self.deadline
    }
}

/// The scores of a job.
#[derive(Debug)]
pub(crate) struct Scores {
    /// `[images, classes]`.
    pub scores: Vec<f32>,
    /// Time that the job waited.
    pub queue: Duration,
    /// Time that its batch took.
    pub compute: Duration,
    /// Images in its batch.
    pub batch: usize,
}

impl Scores {
    /// Of no image.
    pub(crate) fn none() -> Self {
        Self {
            scores: Vec::new(),
            queue: Duration::ZERO,
            compute: Duration::ZERO,
            batch: 0,
        }
    }
}

/// The way to the workers of a model. They end when the last of these is gone, and what was in the queue is computed.
#[derive(Clone)]
pub(crate) struct Queue {
    jobs: Sender<Job>,
    coming: Arc<AtomicUsize>,
    metrics: ModelMetrics,
    batch_size: usize,
    image_len: usize,
}

/// A request whose images are being made ready: a worker waits for it a moment.
pub(crate) struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Queue {
    /// Starts a worker for each of these networks.
    pub(crate) fn start(
        networks: Vec<Box<dyn Scorer>>,
        batching: Batching,
        metrics: ModelMetrics,
        again: &Again,
    ) -> Result<Self, LoadError> {
        let image_len = networks.first().map_or(1, |of| of.network().image_len());
        // Every request that is under way fits: to be refused is decided before.
        let (jobs, work) = crossbeam_channel::unbounded();
        let coming = Arc::new(AtomicUsize::new(0));
        for (index, network) in networks.into_iter().enumerate() {
            let worker = Worker {
                network,
                work: work.clone(),
                coming: Arc::clone(&coming),
                metrics: metrics.clone(),
                batching,
                image_len,
                again: Arc::clone(again),
            };
            let thread = std::thread::Builder::new().name(format!("serve-{index}"));
            thread
                .spawn(move || worker.run())
                .map_err(LoadError::Thread)?;
        }
        Ok(Self {
            jobs,
            coming,
            metrics,
            batch_size: batching.batch_size,
            image_len,
        })
    }

    /// Says that images are being made ready.
    pub(crate) fn coming(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(&self.coming))
    }

    /// Counts images that could not be made the network's input.
    pub(crate) fn count_failed(&self, images: usize) {
        if images > 0 {
            self.metrics.failed.inc_by(images as u64);
        }
    }

    /// Computes images, `[n, height, width, channels]`, normalised; `coming` ends when they are in the queue.
    pub(crate) async fn compute(
        &self,
        mut input: Vec<f32>,
        coming: Coming,
        deadline: Instant,
    ) -> Result<Scores, Refusal> {
        let most = self.batch_size * self.image_len;
        let mut replies = Vec::with_capacity(input.len().div_ceil(most.max(1)));
        // A request that is larger than a batch comes in parts, so that others get between them.
        while input.len() > most {
            let rest = input.split_off(most);
            replies.push(self.put(std::mem::replace(&mut input, rest), deadline)?);
        }
        // Before the last part is put: a worker that finds it has nothing left to wait for.
        drop(coming);
        replies.push(self.put(input, deadline)?);
        let mut whole: Option<Scores> = None;
        for reply in replies {
            let part = match tokio::time::timeout_at(deadline.into(), reply).await {
                Err(_) => return Err(Refusal::late()),
                // A worker drops what nobody waits for in time.
                Ok(Err(_)) => return Err(Refusal::late()),
                Ok(Ok(part)) => part?,
            };
            whole = Some(match whole {
                None => part,
                Some(mut whole) => {
                    whole.scores.extend(part.scores);
                    whole.queue = whole.queue.max(part.queue);
                    whole.compute += part.compute;
                    whole.batch = whole.batch.max(part.batch);
                    whole
                }
            });
        }
        whole.ok_or_else(|| Refusal::bad("there are no images"))
    }

    fn put(
        &self,
        input: Vec<f32>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Scores, Refusal>>, Refusal> {
        let images = input.len() / self.image_len;
        let (reply, scores) = oneshot::channel();
        let job = Job {
            input,
            images,
            queued: Instant::now(),
            deadline,
            reply,
        };
        self.metrics.queued.inc_by(images as i64);
        // Workers end after the last sender, which this is or comes before.
        self.jobs
            .send(job)
            .map_err(|_| Refusal::unavailable("the model's workers have ended"))?;
        Ok(scores)
    }
}

/// The time between two looks at whether what is coming has come.
const GLANCE: Duration = Duration::from_micros(50);

struct Worker {
    network: Box<dyn Scorer>,
    work: Receiver<Job>,
    coming: Arc<AtomicUsize>,
    metrics: ModelMetrics,
    batching: Batching,
    image_len: usize,
    again: Again,
}

impl Worker {
    fn run(mut self) {
        let (mut left, mut input, mut scores) = (None, Vec::new(), Vec::new());
        while let Some(batch) = self.gather(&mut left) {
            if !batch.is_empty() && !self.compute(batch, &mut input, &mut scores) {
                return;
            }
        }
    }

    /// The next batch, empty where what came was void; `None` when nothing comes any more. `left` is what did not fit into the last one.
    fn gather(&self, left: &mut Option<Job>) -> Option<Vec<Job>> {
        let first = match left.take() {
            Some(job) => job,
            None => self.work.recv().ok()?,
        };
        let due = first.queued + self.batching.max_delay;
        let (mut batch, mut images) = (Vec::new(), 0);
        let mut next = Some(first);
        loop {
            if let Some(job) = next.take() {
                if images + job.images > self.batching.batch_size && images > 0 {
                    *left = Some(job);
                    break;
                }
                if job.is_void(Instant::now()) {
                    self.metrics.queued.dec_by(job.images as i64);
                    self.metrics.abandoned.inc_by(job.images as u64);
                } else {
                    images += job.images;
                    batch.push(job);
                }
            }
            if images >= self.batching.batch_size {
                break;
            }
            match self.work.try_recv() {
                Ok(job) => next = Some(job),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let now = Instant::now();
                    if batch.is_empty() || now >= due || self.coming.load(Ordering::Acquire) == 0 {
                        // What was put between the look into the queue and the one at who is coming.
                        match self.work.try_recv() {
                            Ok(job) => next = Some(job),
                            Err(_) => break,
                        }
                    } else {
                        next = self.work.recv_timeout(GLANCE.min(due - now)).ok();
                    }
                }
            }
        }
        Some(batch)
    }

    /// Computes a batch and answers. `false` when there is no network to go on with.
    fn compute(
        &mut self,
        mut batch: Vec<Job>,
        input: &mut Vec<f32>,
        scores: &mut Vec<f32>,
    ) -> bool {
        let images: usize = batch.iter().map(|job| job.images).sum();
        self.metrics.queued.dec_by(images as i64);
        let begun = Instant::now();
        let alone;
        let all: &[f32] = match &mut batch[..] {
            [job] => {
                alone = std::mem::take(&mut job.input);
                &alone
            }
            jobs => {
                input.clear();
                input.reserve(images * self.image_len);
                for job in jobs {
                    input.extend_from_slice(&job.input);
                }
                input
            }
        };
        let network = &mut self.network;
        let done = catch_unwind(AssertUnwindSafe(|| network.logits(all, scores)));
        let compute = begun.elapsed();
        let failed = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((error.to_string(), false)),
            Err(_) => Some(("a worker stopped in the middle of a batch".to_owned(), true)),
        };
        if let Some((what, is_broken)) = failed {
            self.metrics.failed.inc_by(images as u64);
            for job in batch {
                let refusal = Refusal::new(
                    http::StatusCode::INTERNAL_SERVER_ERROR,
                    "the network failed to compute the batch",
                );
                // Who has left needs no answer.
                let _ = job.reply.send(Err(refusal));
            }
            if is_broken {
                let Some(network) = (self.again)(what) else {
                    return false;
                };
                self.network = network;
            }
            return true;
        }
        self.metrics.images.inc_by(images as u64);
        self.metrics.batch.observe(images as f64);
        self.metrics.compute.observe(compute.as_secs_f64());
        let classes = scores.len() / images.max(1);
        let mut rows = &scores[..];
        for job in batch {
            let (own, rest) = rows.split_at(job.images * classes);
            rows = rest;
            let queue = begun.duration_since(job.queued);
            self.metrics.queue.observe(queue.as_secs_f64());
            let scores = Scores {
                scores: own.to_vec(),
                queue,
                compute,
                batch: images,
            };
            // Who has left needs no answer.
            let _ = job.reply.send(Ok(scores));
        }
        true
    }
}
