//! The certainty of a choice of best: the outcome of each val image in every evaluation, and what follows from it.

mod paired_test;
mod selection;
mod smoothing;
mod trace;

pub use paired_test::PairedTest;
pub(crate) use selection::MARKS;
pub use selection::{Compared, Selection};
pub(crate) use smoothing::Smoothing;
pub use trace::{Trace, TraceError};

/// Replicates of the bootstraps here: standard errors of a p-value near 0.05 are 0.007 then.
const REPLICATES: u32 = 1000;
