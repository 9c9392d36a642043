//! Batches, made ahead of the engine on threads of their own.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::augment::Draw;
use crate::{Augmentation, LoadError, Mixed, Normaliser, Order, Preprocessing, Subset};

/// The part of every batch that a loader makes, where several ranks train together: neighbouring images, by place. All ranks' parts
/// together are the batch, whatever their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub rank: usize,
    /// Parts there are, at least 1.
    pub of: usize,
}

impl Default for Shard {
    /// All of every batch.
    fn default() -> Self {
        Self { rank: 0, of: 1 }
    }
}

impl Shard {
    /// The places of the part in a batch of so many images; none, where there are more parts than images.
    fn places(self, images: usize) -> Range<usize> {
        let of = self.of.max(1);
        images * self.rank / of..images * (self.rank + 1).min(of) / of
    }
}

/// Options for making batches.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LoaderConfig {
    /// Images in a batch.
    pub batch_size: usize,
    /// Order of the images.
    pub order: Order,
    /// What is done to the images at random; with the seed of [`Order`], or 0.
    pub augmentation: Augmentation,
    /// Finished batches that may wait for the engine; each thread is always making one more. Changes no bit.
    pub prefetch: usize,
    /// Threads that make batches, 1 or more. They are idle while enough batches wait. Changes no bit.
    pub threads: usize,
    /// The part of each batch to make.
    pub shard: Shard,
}

impl LoaderConfig {
    /// Shuffled by `seed`, four batches ahead on one thread, no augmentation.
    pub fn training(batch_size: usize, seed: u64) -> Self {
        Self {
            order: Order::Shuffled { seed },
            ..Self::evaluation(batch_size)
        }
    }

    /// In order, four batches ahead on one thread, no augmentation.
    pub fn evaluation(batch_size: usize) -> Self {
        Self {
            batch_size,
            order: Order::Sequential,
            augmentation: Augmentation::default(),
            prefetch: 4,
            threads: 1,
            shard: Shard::default(),
        }
    }

    /// The same with another augmentation.
    pub fn with_augmentation(mut self, augmentation: Augmentation) -> Self {
        self.augmentation = augmentation;
        self
    }

    /// The same in another order.
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The same with another prefetch depth.
    pub fn with_prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// The same on another number of threads.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The same for a part of each batch.
    pub fn with_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }
}

/// Which positions of an epoch make up each batch: `batch_size` at a time, and what is left over last. Batch norm cannot
/// train on a single value, so a last batch of exactly one image takes one from the batch before it (for a batch size of
/// 3 or more); no image is left out or repeated.
///
/// ```
/// use keepbest_data::batch_ranges;
/// assert_eq!(batch_ranges(10, 4), [0..4, 4..8, 8..10]);
/// assert_eq!(batch_ranges(9, 4), [0..4, 4..7, 7..9]);
/// ```
pub fn batch_ranges(images: usize, batch_size: usize) -> Vec<Range<usize>> {
    let batch_size = batch_size.max(1);
    let mut ranges: Vec<Range<usize>> = (0..images)
        .step_by(batch_size)
        .map(|start| start..images.min(start + batch_size))
        .collect();
    if batch_size >= 3
        && let [.., before, last] = &mut ranges[..]
        && last.len() == 1
    {
        before.end -= 1;
        last.start -= 1;
    }
    ranges
}

/// Makes the batches of any epoch of a [`Subset`]. Buffers go round between loader and consumer.
#[derive(Debug)]
pub struct Loader {
    subset: Subset,
    normaliser: Arc<Normaliser>,
    config: LoaderConfig,
    pool: Arc<Pool>,
}

impl Loader {
    /// A loader over `subset`.
    ///
    /// # Errors
    /// When the batch size is 0, there are no images, the preprocessing makes no sense, or (shuffled order only, as in
    /// training) a batch takes more images than there are. In sequential order a larger batch is one of all images.
    pub fn new(
        subset: Subset,
        preprocessing: &Preprocessing,
        config: LoaderConfig,
    ) -> Result<Self, LoadError> {
        let images = subset.len();
        if config.batch_size == 0 {
            return Err(LoadError::EmptyBatch);
        }
        if images == 0 {
            return Err(LoadError::NoImages);
        }
        if config.batch_size > images && config.order != Order::Sequential {
            return Err(LoadError::BatchLargerThanData {
                batch_size: config.batch_size,
                images,
            });
        }
        let normaliser = Arc::new(Normaliser::new(preprocessing)?);
        // As many as can be in flight: waiting (shared out among the threads, so a few more), being made, and in the consumer's
        // hands.
        let threads = config.threads.max(1);
        let pool = Arc::new(Pool {
            idle: Mutex::new(Vec::new()),
            capacity: config.prefetch.saturating_add(2 * threads + 1),
        });
        Ok(Self {
            subset,
            normaliser,
            config,
            pool,
        })
    }

    /// The images.
    pub fn subset(&self) -> &Subset {
        &self.subset
    }

    /// Number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        batch_ranges(self.subset.len(), self.config.batch_size).len()
    }

    /// Starts the threads that make the batches of `epoch`, without the first `skip_batches` (to go on in the middle of
    /// an epoch: batch `k` is the same whether those before it were made or not).
    pub fn epoch(&self, epoch: u64, skip_batches: usize) -> Epoch {
        let mut ranges = batch_ranges(self.subset.len(), self.config.batch_size);
        ranges.drain(..skip_batches.min(ranges.len()));
        let remaining = ranges.len();
        let threads = self.config.threads.max(1).min(remaining);
        let order = self.config.order.positions(&self.subset.labels(), epoch);
        let order: Arc<[usize]> = order.into();
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        let mut failed = None;
        // Where the system starts fewer threads, half of those share out the batches; the rest of the program needs some, too.
        let mut wanted = threads;
        while wanted > 0 {
            match self.lanes(wanted, &ranges, &order, epoch, &abandoned) {
                Ok(started) => {
                    lanes = started;
                    failed = None;
                    break;
                }
                Err((started, source)) => {
                    failed = Some(LoadError::Thread { source });
                    wanted = started.div_ceil(2).min(wanted - 1);
                }
            }
        }
        Epoch {
            lanes,
            next: 0,
            remaining,
            failed,
            abandoned,
        }
    }

    /// Starts `threads` threads that make every n-th batch each; else says how many were started, and why no more.
    fn lanes(
        &self,
        threads: usize,
        ranges: &[Range<usize>],
        order: &Arc<[usize]>,
        epoch: u64,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<Vec<Lane>, (usize, std::io::Error)> {
        let mut lanes = Vec::with_capacity(threads);
        for first in 0..threads {
            let worker = Worker {
                subset: self.subset.clone(),
                normaliser: self.normaliser.clone(),
                config: self.config,
                pool: self.pool.clone(),
                epoch,
                order: order.clone(),
                abandoned: abandoned.clone(),
            };
            let ranges: Vec<_> = ranges
                .iter()
                .skip(first)
                .step_by(threads)
                .cloned()
                .collect();
            let ahead = self.config.prefetch.div_ceil(threads).min(ranges.len());
            let (sender, receiver) = sync_channel(ahead);
            let builder = std::thread::Builder::new().name("keepbest-loader".to_owned());
            match builder.spawn(move || worker.run(&ranges, &sender)) {
                Ok(thread) => lanes.push(Lane { receiver, thread }),
                Err(source) => {
                    let started = lanes.len();
                    // They have made nothing that is missed.
                    let _ = stop(lanes);
                    return Err((started, source));
                }
            }
        }
        Ok(lanes)
    }
}

/// What a thread of the loader works with.
struct Worker {
    subset: Subset,
    normaliser: Arc<Normaliser>,
    config: LoaderConfig,
    pool: Arc<Pool>,
    epoch: u64,
    order: Arc<[usize]>,
    /// Whether nobody wants the batches any more, the one in hand included.
    abandoned: Arc<AtomicBool>,
}

impl Worker {
    /// Makes and sends batches until they are done, one fails, or nobody takes them any more.
    fn run(&self, ranges: &[Range<usize>], sender: &SyncSender<Result<Batch, LoadError>>) {
        for range in ranges {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&self.order, range.clone())))
                .unwrap_or_else(|panic| {
                    Err(LoadError::Stopped {
                        message: panic_message(&*panic),
                    })
                });
            let failed = made.is_err();
            if sender.send(made).is_err() || failed {
                return;
            }
        }
    }

    fn make(&self, order: &[usize], range: Range<usize>) -> Result<Batch, LoadError> {
        let first = range.start;
        let own = self.config.shard.places(range.len());
        let augmentation = &self.config.augmentation;
        // An image is mixed with another of the whole batch.
        let whole = augmentation.mixes();
        let made = if whole { 0..range.len() } else { own.clone() };
        let positions = &order[first + made.start..first + made.end];
        let shape = self.normaliser.preprocessing().input;
        let seed = self.config.order.seed();
        let dataset = self.subset.dataset();
        let mut buffers = self.pool.take();
        buffers.images.resize(positions.len() * shape.size(), 0.0);
        for (&position, out) in positions
            .iter()
            .zip(buffers.images.chunks_exact_mut(shape.size()))
        {
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            let index = self.subset.indices()[position];
            let image = dataset.image(index)?;
            let draw = Draw {
                seed,
                epoch: self.epoch,
                image: index,
            };
            let changed = augmentation.change(&image, self.normaliser.preprocessing(), draw);
            let changed = changed.map_err(|source| LoadError::Image {
                origin: dataset.source(index),
                source,
            })?;
            self.normaliser.normalise(&changed, out);
            augmentation.change_input(out, shape, draw);
            buffers.labels.push(dataset.label(index));
            buffers.indices.push(index);
        }
        let Buffers {
            mut images,
            mut labels,
            mut indices,
        } = buffers;
        let mut mixed = augmentation.mix(&mut images, &labels, shape, (seed, self.epoch, first));
        if own.len() < labels.len() {
            keep(
                &mut images,
                own.start * shape.size()..own.end * shape.size(),
            );
            keep(&mut labels, own.clone());
            keep(&mut indices, own.clone());
            if let Some(mixed) = &mut mixed {
                keep(&mut mixed.others, own.clone());
                keep(&mut mixed.shares, own);
            }
        }
        Ok(Batch {
            images,
            labels,
            mixed,
            indices,
            pool: self.pool.clone(),
        })
    }
}

/// Keeps a range of a vector.
fn keep<T>(values: &mut Vec<T>, range: Range<usize>) {
    values.truncate(range.end);
    values.drain(..range.start);
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// A batch. Dropping it gives its buffers back to the loader.
#[derive(Debug)]
pub struct Batch {
    /// The network's input: `[n, height, width, channels]`, dense, normalised.
    pub images: Vec<f32>,
    /// The labels, `[n]`.
    pub labels: Vec<u32>,
    /// What mixup or cutmix mixed into the images.
    pub mixed: Option<Mixed>,
    /// Each image's index in the data set under the [`Subset`].
    pub indices: Vec<usize>,
    pool: Arc<Pool>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images: only where a batch has fewer of them than [`Shard`]s.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.give(Buffers {
            images: std::mem::take(&mut self.images),
            labels: std::mem::take(&mut self.labels),
            indices: std::mem::take(&mut self.indices),
        });
    }
}

#[derive(Debug, Default)]
struct Buffers {
    images: Vec<f32>,
    labels: Vec<u32>,
    indices: Vec<usize>,
}

/// Buffers that nobody uses at the moment.
#[derive(Debug)]
struct Pool {
    idle: Mutex<Vec<Buffers>>,
    capacity: usize,
}

impl Pool {
    fn take(&self) -> Buffers {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    fn give(&self, mut buffers: Buffers) {
        buffers.labels.clear();
        buffers.indices.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.capacity {
            idle.push(buffers);
        }
    }
}

/// A thread that makes every n-th batch, n being the number of threads.
#[derive(Debug)]
struct Lane {
    receiver: Receiver<Result<Batch, LoadError>>,
    thread: JoinHandle<()>,
}

/// The batches of one epoch, in order. After an error it ends. Dropping it stops the threads.
#[derive(Debug)]
pub struct Epoch {
    lanes: Vec<Lane>,
    /// The lane that the next batch comes from.
    next: usize,
    remaining: usize,
    failed: Option<LoadError>,
    abandoned: Arc<AtomicBool>,
}

/// While a batch is waited for, how often it is asked whether to go on.
const ASKED_EVERY: Duration = Duration::from_millis(100);

impl Epoch {
    /// The next batch, as [`next`](Iterator::next) gives it. While it is waited for, `go_on` is asked several times a second;
    /// when it says no, the epoch ends with [`LoadError::Interrupted`].
    pub fn next_while(
        &mut self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Result<Batch, LoadError>> {
        if let Some(error) = self.failed.take() {
            let _ = self.stop();
            return Some(Err(error));
        }
        if self.remaining == 0 {
            return None;
        }
        let made = match self.lanes.get(self.next) {
            Some(lane) => loop {
                match lane.receiver.recv_timeout(ASKED_EVERY) {
                    Err(RecvTimeoutError::Timeout) if go_on() => {}
                    Err(RecvTimeoutError::Timeout) => break Some(Err(LoadError::Interrupted)),
                    made => break made.ok(),
                }
            },
            None => None,
        };
        match made {
            Some(Ok(batch)) => {
                self.remaining -= 1;
                self.next = (self.next + 1) % self.lanes.len();
                Some(Ok(batch))
            }
            Some(Err(error)) => {
                // Its panics are caught and sent, so there is nothing more to learn from joining.
                let _ = self.stop();
                Some(Err(error))
            }
            None => {
                let message = self.stop().map_or_else(
                    |panic| panic_message(&*panic),
                    |()| "it ended early".to_owned(),
                );
                Some(Err(LoadError::Stopped { message }))
            }
        }
    }

    /// The next batch, if it is made already. What went wrong with it is told by [`next_while`](Self::next_while).
    pub fn next_if_made(&mut self) -> Option<Batch> {
        if self.failed.is_some() || self.remaining == 0 {
            return None;
        }
        match self.lanes.get(self.next)?.receiver.try_recv().ok()? {
            Ok(batch) => {
                self.remaining -= 1;
                self.next = (self.next + 1) % self.lanes.len();
                Some(batch)
            }
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    /// Ends all threads, and waits for them: each ends after the image in hand. The result is that of the
    /// first that panicked, beginning with the one whose turn it is.
    fn stop(&mut self) -> std::thread::Result<()> {
        self.remaining = 0;
        self.abandoned.store(true, Ordering::Relaxed);
        let first = self.next.min(self.lanes.len());
        self.lanes.rotate_left(first);
        stop(std::mem::take(&mut self.lanes))
    }
}

/// Ends threads, and waits for them. The result is that of the first that panicked.
fn stop(lanes: Vec<Lane>) -> std::thread::Result<()> {
    // All stop receiving before the first is waited for.
    let stopped: Vec<_> = lanes
        .into_iter()
        .map(|Lane { receiver, thread }| {
            drop(receiver);
            thread
        })
        .collect();
    stopped
        .into_iter()
        .map(JoinHandle::join)
        .reduce(|first, other| first.and(other))
        .unwrap_or(Ok(()))
}

impl Iterator for Epoch {
    type Item = Result<Batch, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_while(&mut || true)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends the epoch early.
        (usize::from(self.remaining > 0), Some(self.remaining))
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_image_once_and_none_is_alone() {
        for images in 0..60 {
            for batch_size in 1..20 {
                let ranges = batch_ranges(images, batch_size);
                assert!(ranges.iter().cloned().flatten().eq(0..images));
                assert_eq!(ranges.len(), images.div_ceil(batch_size));
                assert!(ranges.iter().all(|range| range.len() <= batch_size));
                if batch_size >= 3 && images > 1 {
                    assert!(
                        ranges.iter().all(|range| range.len() > 1),
                        "{images} {batch_size}: {ranges:?}"
                    );
                }
            }
        }
    }
}
