//! What the CPU computes with: threads, instructions, memory.

use crate::engine::EngineError;
use crate::plan::Plan;
use keepbest_formats::check_setting;
use keepbest_kernels::{Buffer, Context, Isa, Precision};
use std::sync::Arc;

/// Threads that a machine of `cores` may be asked for; what more would take is memory alone.
fn most_threads(cores: usize) -> usize {
    cores.saturating_mul(4).max(16)
}

/// A context of `threads` threads on the given instructions, or on what there is. Of fewer threads where cores are far fewer, or
/// the system starts no more: results do not depend on them.
pub(super) fn context(
    threads: Option<usize>,
    isa: Option<Isa>,
    precision: Precision,
) -> Result<Arc<Context>, EngineError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match threads {
        Some(threads) => {
            check_setting("threads", threads as f64, threads > 0, "at least 1")?;
            threads.min(most_threads(cores))
        }
        None => cores,
    };
    let ctx = Context::new(isa.map_or_else(Isa::detect, Ok)?, threads)?;
    Ok(Arc::new(ctx.with_precision(precision)?))
}

/// Memory for the activations of a batch.
pub(super) fn arena(plan: &Plan, batch: usize) -> Result<Buffer, EngineError> {
    Buffer::try_zeroed(plan.arena_len).ok_or(EngineError::Allocation {
        batch,
        bytes: (plan.arena_len as u64).saturating_mul(4),
    })
}
