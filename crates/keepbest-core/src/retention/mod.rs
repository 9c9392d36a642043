//! Which checkpoints stay, and why: pure functions from the checkpoints there are to the set to keep.
//!
//! A checkpoint stays if any policy or any protection says so, and only then. Policies are about value
//! ([`Policy::Best`], [`Policy::Pareto`], [`Policy::Last`], [`Policy::EverySteps`], [`Policy::EveryEpochs`],
//! [`Policy::Bytes`]); protections are facts that no policy overrides ([`Protections`]). Every decision carries its
//! reasons, so that a run can explain each checkpoint that is there and each that is not.
//!
//! Planning again what a plan kept drops nothing.

mod plan;
mod policy;
#[cfg(test)]
mod tests;

pub use plan::{DropReason, Dropped, KeepReason, Kept, Plan, Protections, plan};
pub use policy::{ParsePolicyError, Policy};

use serde::{Deserialize, Serialize};

use crate::{metrics::Metrics, verdict::Score};

/// What retention knows of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its name, which is its identity.
    pub name: String,
    /// Optimizer steps taken before it.
    pub step: u64,
    /// The epoch it was saved in.
    pub epoch: u64,
    /// Its score under the run's objective; `None` when it was rejected or never evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// What was measured on it; nothing when it was never evaluated.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// Its size.
    pub bytes: u64,
}
