//! What every kernel runs with: an instruction set and a thread pool.

use crate::isa::{Isa, IsaError};
use crate::pool::Pool;

/// An instruction set this processor was checked to have, and the threads to run on.
#[derive(Debug)]
pub struct Context {
    // Private: the kernels' soundness rests on `isa` having been checked.
    isa: Isa,
    pool: Pool,
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
        Ok(Context {
            isa,
            pool: Pool::new(threads),
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    pub fn pool(&self) -> &Pool {
        &self.pool
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
