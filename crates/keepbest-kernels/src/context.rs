//! What every kernel runs with: an instruction set and a thread pool.

use std::sync::{Mutex, PoisonError};

use crate::buffer::Buffer;
use crate::isa::{Isa, IsaError};
use crate::pool::Pool;
use crate::precision::Precision;

/// An instruction set this processor was checked to have, and the threads to run on.
#[derive(Debug)]
pub struct Context {
    // Private: the kernels' soundness rests on `isa` having been checked.
    isa: Isa,
    // Private: as `isa`.
    precision: Precision,
    pool: Pool,
    /// Memory for a whole batch, for the length of a kernel.
    staging: Mutex<Buffer>,
    /// Memory of each thread of the pool for the length of a task. A lock is only waited for when two callers run at once.
    scratch: Vec<Mutex<Buffer>>,
}

impl Context {
    /// A context for `isa` with `threads` threads (0 counts as 1), the calling thread being one of them.
    ///
    /// # Errors
    ///
    /// [`IsaError::Unavailable`] when this processor lacks `isa`.
    ///
    /// ```
    /// use keepbest_kernels::{Context, Isa};
    /// let ctx = Context::new(Isa::detect()?, 2)?;
    /// assert_eq!(ctx.pool().threads(), 2);
    /// # Ok::<(), keepbest_kernels::IsaError>(())
    /// ```
    pub fn new(isa: Isa, threads: usize) -> Result<Context, IsaError> {
        if !isa.is_available() {
            return Err(IsaError::Unavailable { isa });
        }
        let pool = Pool::new(threads);
        let scratch = (0..pool.threads())
            .map(|_| Mutex::new(Buffer::zeroed(0)))
            .collect();
        Ok(Context {
            isa,
            precision: Precision::F32,
            pool,
            staging: Mutex::new(Buffer::zeroed(0)),
            scratch,
        })
    }

    /// The same context, for convolutions planned from now on to multiply in `precision`.
    ///
    /// # Errors
    ///
    /// [`IsaError::PrecisionUnavailable`] when this processor or the instruction set in use lacks it.
    pub fn with_precision(self, precision: Precision) -> Result<Context, IsaError> {
        if !precision.is_available(self.isa) {
            return Err(IsaError::PrecisionUnavailable {
                precision,
                isa: self.isa,
            });
        }
        Ok(Context { precision, ..self })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The format convolutions multiply in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The threads in use.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes sure that [`with_scratch`](Self::with_scratch) need not allocate for up to `len` floats.
    pub(crate) fn reserve_scratch(&self, len: usize) {
        for scratch in &self.scratch {
            let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
            if scratch.len() < len {
                *scratch = Buffer::zeroed(len);
            }
        }
    }

    /// Makes sure that [`with_staging`](Self::with_staging) need not allocate for up to `len` floats.
    pub(crate) fn reserve_staging(&self, len: usize) {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        if staging.len() < len {
            *staging = Buffer::zeroed(len);
        }
    }

    /// Hands `len` floats of any content to a kernel, which may share them out among its tasks. Not to be nested.
    pub(crate) fn with_staging<R>(&self, len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        if staging.len() < len {
            *staging = Buffer::zeroed(len);
        }
        body(&mut staging[..len])
    }

    /// Hands `len` floats of any content to a task of the worker. Not to be nested.
    pub(crate) fn with_scratch<R>(
        &self,
        worker: usize,
        len: usize,
        body: impl FnOnce(&mut [f32]) -> R,
    ) -> R {
        let mut scratch = self.scratch[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if scratch.len() < len {
            *scratch = Buffer::zeroed(len);
        }
        body(&mut scratch[..len])
    }

    /// Runs `body` over `0..len` in ranges of at most `chunk`.
    pub(crate) fn for_ranges(
        &self,
        len: usize,
        chunk: usize,
        body: &(dyn Fn(std::ops::Range<usize>) + Sync),
    ) {
        self.pool.run(len.div_ceil(chunk), &|task, _| {
            let start = task * chunk;
            body(start..len.min(start + chunk));
        });
    }
}
