//! How sure the choice of a best is: how each val image came out, for every evaluation, and what follows from it.

mod selection;
mod smoothing;
mod trace;

pub use selection::{Compared, Selection};
pub(crate) use smoothing::Smoothing;
pub use trace::{Trace, TraceError};

use keepbest_core::statistics::{Bootstrap, StatisticsError, mcnemar_exact};

/// Replicates of the bootstraps here: standard errors of a p-value near 0.05 are 0.007 then.
const REPLICATES: u32 = 1000;

/// How two evaluations of a run are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PairedTest {
    /// McNemar's exact test: on which images only one of them is right.
    McNemar,
    /// The paired bootstrap of the mean log loss.
    LogLoss,
}

impl std::fmt::Display for PairedTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::McNemar => "McNemar exact",
            Self::LogLoss => "paired bootstrap of the log loss",
        })
    }
}

impl PairedTest {
    /// The test for what is monitored: of the loss if that decides, of the accuracy for everything else.
    #[must_use]
    pub fn of(monitor: &str) -> Self {
        let raw = monitor.strip_suffix(smoothing::SUFFIX).unwrap_or(monitor);
        match raw {
            "val/loss" | "val/log_loss" => Self::LogLoss,
            _ => Self::McNemar,
        }
    }

    /// The two-sided p-value that two evaluations are equally good, and whether the first came out better.
    ///
    /// # Errors
    /// [`StatisticsError`] when they are not of the same images, or a loss is not finite.
    pub fn compare(self, first: &Trace, second: &Trace) -> Result<(f64, bool), StatisticsError> {
        if first.len() != second.len() {
            return Err(StatisticsError::NotPaired {
                first: first.len(),
                second: second.len(),
            });
        }
        match self {
            Self::McNemar => {
                let pairs = || first.right().iter().zip(second.right());
                let only_first = pairs().filter(|(a, b)| **a && !**b).count() as u64;
                let only_second = pairs().filter(|(a, b)| !**a && **b).count() as u64;
                Ok((
                    mcnemar_exact(only_first, only_second),
                    only_first > only_second,
                ))
            }
            Self::LogLoss => {
                let bootstrap = Bootstrap {
                    replicates: REPLICATES,
                    ..Bootstrap::default()
                };
                let found = bootstrap.paired_difference(&first.losses(), &second.losses())?;
                Ok((found.p_value, found.difference < 0.0))
            }
        }
    }
}
