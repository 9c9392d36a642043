//! The thread pool: tasks claimed from one counter, nothing allocated per run.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

type Task = dyn Fn(usize, usize) + Sync;

/// A fixed set of threads that run the tasks of one job at a time, the calling thread among them.
///
/// Tasks are claimed one by one from an atomic counter, so a thread whose core is slow or busy with something else takes fewer
/// of them. A worker that has not woken by the time the tasks are gone is not waited for.
pub struct Pool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Held during a run: one job at a time.
    turn: Mutex<()>,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const Task,
    tasks: usize,
}

#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    /// `generation << 32 | OPEN | workers that joined the job`.
    entry: Line<AtomicU64>,
    /// Next task to claim.
    next: Line<AtomicUsize>,
    /// Workers that joined and have finished.
    done: Line<AtomicUsize>,
    /// Written while the entry is closed and nobody is in, read by those who joined.
    job: UnsafeCell<Option<Job>>,
    /// The thread that waits for `done`, while `waiting`.
    caller: Mutex<Option<Thread>>,
    waiting: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    parked: Vec<Line<AtomicBool>>,
    /// Polls before a thread goes to sleep.
    spins: u32,
}

// SAFETY: `job` is written only while the entry is closed and no worker is inside, and read only by workers that joined
// through the entry, whose atomics order the two. Everything else is atomics and mutexes.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed during the run that set it.
unsafe impl Send for Shared {}

const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;

thread_local! {
    /// The pool (by address) this thread runs a task of, and its worker index there.
    static INSIDE: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of `threads` threads (0 counts as 1): the caller of [`run`](Pool::run) and `threads - 1` workers. Of fewer, where
    /// the system starts fewer: then a quarter of those is left to the rest of the program, which needs threads and memory, too.
    pub fn new(threads: usize) -> Pool {
        let pool = Self::of(threads);
        let started = pool.handles.len();
        if started + 1 >= threads {
            return pool;
        }
        drop(pool);
        Self::new(started - started.div_ceil(4) + 1)
    }

    fn of(threads: usize) -> Pool {
        let workers = threads.max(1) - 1;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            entry: Line(AtomicU64::new(0)),
            next: Line(AtomicUsize::new(0)),
            done: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            caller: Mutex::new(None),
            waiting: AtomicBool::new(false),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            parked: (0..workers).map(|_| Line(AtomicBool::new(false))).collect(),
            // Around 50 microseconds; none when threads would only keep each other from the cores.
            spins: if threads > cores || cfg!(miri) {
                0
            } else {
                2000
            },
        });
        let handles = (0..workers)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                // A thread the system refuses to start leaves its work to the others.
                std::thread::Builder::new()
                    .name(format!("keepbest-{}", worker + 1))
                    .spawn(move || shared.work(worker))
                    .ok()
            })
            .collect();
        Pool {
            shared,
            handles,
            turn: Mutex::new(()),
        }
    }

    /// Threads that may run tasks at once.
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// Calls `task(t, worker)` once for every `t < tasks`, on any of the threads and in any order, and returns when all
    /// are done. `worker < threads()` is the same for no two tasks that run at once. A run inside a task runs in place.
    ///
    /// # Panics
    ///
    /// A panic in a task is passed on, after the tasks under way have ended; the pool stays usable.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// let pool = keepbest_kernels::Pool::new(3);
    /// let sum = AtomicUsize::new(0);
    /// pool.run(100, &|task, worker| {
    ///     assert!(worker < 3);
    ///     sum.fetch_add(task, Ordering::Relaxed);
    /// });
    /// assert_eq!(sum.into_inner(), 4950);
    /// ```
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let identity = Arc::as_ptr(&self.shared) as usize;
        if let Some((pool, worker)) = INSIDE.get()
            && pool == identity
        {
            return (0..tasks).for_each(|index| task(index, worker));
        }
        if tasks <= 1 || self.handles.is_empty() {
            return (0..tasks).for_each(|index| task(index, 0));
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes, and no worker follows the pointer after this call: below we wait for all
        // that joined, also when a task panics.
        let task: *const Task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), *const Task>(task)
        };
        // SAFETY: the entry is closed and all who had joined are done: nobody reads `job` now.
        unsafe { *shared.job.get() = Some(Job { task, tasks }) };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        let generation = (shared.entry.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared
            .entry
            .0
            .store((generation << 32) | OPEN, Ordering::SeqCst);
        for (handle, parked) in self.handles.iter().zip(&shared.parked).take(tasks - 1) {
            if parked.0.load(Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
        shared.claim(Job { task, tasks }, 0);
        let joined = (shared.entry.0.fetch_and(!OPEN, Ordering::AcqRel) & JOINED) as usize;
        shared.wait_for(joined);
        let panic = lock(&shared.panic).take();
        drop(_turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Runs tasks until none is left; a panic empties the counter and is kept for the caller.
    fn claim(&self, job: Job, worker: usize) {
        let outer = INSIDE.replace(Some((std::ptr::from_ref(self) as usize, worker)));
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.0.fetch_add(1, Ordering::Relaxed);
                if index >= job.tasks {
                    break;
                }
                // SAFETY: `run` keeps the closure alive until everyone who joined is done.
                unsafe { (*job.task)(index, worker) };
            }
        }));
        INSIDE.set(outer);
        if let Err(panic) = result {
            self.next.0.store(usize::MAX / 2, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    fn wait_for(&self, joined: usize) {
        for _ in 0..self.spins {
            if self.done.0.load(Ordering::Acquire) == joined {
                return;
            }
            std::hint::spin_loop();
        }
        if self.done.0.load(Ordering::Acquire) == joined {
            return;
        }
        *lock(&self.caller) = Some(std::thread::current());
        self.waiting.store(true, Ordering::SeqCst);
        while self.done.0.load(Ordering::SeqCst) != joined {
            std::thread::park();
        }
        self.waiting.store(false, Ordering::Relaxed);
    }

    fn work(&self, worker: usize) {
        let parked = &self.parked[worker].0;
        let mut seen = 0;
        let mut polls = 0;
        loop {
            let entry = self.entry.0.load(Ordering::SeqCst);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if entry & OPEN != 0 && entry >> 32 != seen {
                if self
                    .entry
                    .0
                    .compare_exchange_weak(entry, entry + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_err()
                {
                    continue;
                }
                seen = entry >> 32;
                // SAFETY: we joined while the entry was open, so `run` has set the job and waits for us before it changes it.
                let job = unsafe { *self.job.get() };
                if let Some(job) = job {
                    self.claim(job, worker + 1);
                }
                self.done.0.fetch_add(1, Ordering::SeqCst);
                if self.waiting.load(Ordering::SeqCst)
                    && let Some(caller) = lock(&self.caller).as_ref()
                {
                    caller.unpark();
                }
                polls = 0;
            } else if polls < self.spins {
                polls += 1;
                std::hint::spin_loop();
            } else if !parked.load(Ordering::Relaxed) {
                // Announce first, look once more, then sleep: `run` opens the entry first and then looks who sleeps.
                parked.store(true, Ordering::SeqCst);
            } else {
                std::thread::park();
                parked.store(false, Ordering::SeqCst);
                polls = 0;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A worker catches the panics of tasks; it has none of its own to report.
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..if cfg!(miri) { 2 } else { 200 } {
                    pool.run(tasks, &|task, worker| {
                        assert!(worker < threads);
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                }
                let expected = if cfg!(miri) { 2 } else { 200 };
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == expected)
                );
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(10, &|task, _| assert!(task != 5, "task five"));
            }));
            let message = *caught.unwrap_err().downcast::<&str>().unwrap();
            assert_eq!(message, "task five");
            let ran = AtomicUsize::new(0);
            pool.run(10, &|_, _| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(ran.into_inner(), 10);
        }
    }

    #[test]
    fn nested_and_concurrent_runs() {
        let pool = Pool::new(2);
        let ran = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 2 } else { 50 } {
                        pool.run(4, &|_, _| {
                            pool.run(3, &|_, _| _ = ran.fetch_add(1, Ordering::Relaxed))
                        });
                    }
                });
            }
        });
        assert_eq!(ran.into_inner(), 3 * 12 * if cfg!(miri) { 2 } else { 50 });
    }
}
