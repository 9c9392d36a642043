//! Policies and their text form.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroUsize},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    pareto::Pareto,
    size::{format_size, parse_size},
};

/// A reason to keep checkpoints. Shown, parsed and serialised as text: `best:3`, `pareto:val/f1_macro,latency_ms`,
/// `last:2`, `every:1000` (steps), `epochs:5`, `bytes:2GiB`.
///
/// ```
/// use keepbest_core::retention::Policy;
///
/// let policy: Policy = "bytes:1.5GiB".parse()?;
/// assert_eq!(policy, Policy::Bytes(1_610_612_736));
/// assert_eq!(policy.to_string(), "bytes:1536MiB");
/// # Ok::<(), keepbest_core::retention::ParsePolicyError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// The best K by the objective's total order; of equal ones, the earlier.
    Best(NonZeroUsize),
    /// The checkpoints on the front, as far as the objective did not reject them; of equal ones, the earlier.
    Pareto(Pareto),
    /// The latest N.
    Last(NonZeroUsize),
    /// The first at or after each multiple of N steps.
    EverySteps(NonZeroU64),
    /// The latest of the first epoch at or after each multiple of N epochs.
    EveryEpochs(NonZeroU64),
    /// As many as fit into so many bytes together with all that is kept for another reason: the best first, then those
    /// without a score, the latest first; the first that does not fit ends it.
    Bytes(u64),
}

/// The text is not a retention policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a retention policy: use `best:K`, `pareto:METRIC,METRIC`, `last:N`, `every:STEPS`, `epochs:N` or `bytes:SIZE` such as `bytes:2GiB`, with numbers above 0"
)]
#[non_exhaustive]
pub struct ParsePolicyError {
    /// The value given.
    pub text: String,
}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        let policy = text.trim().split_once(':').and_then(|(kind, number)| {
            let number = number.trim();
            match kind.trim_end() {
                "best" => number.parse().ok().map(Self::Best),
                "pareto" => number.parse().ok().map(Self::Pareto),
                "last" => number.parse().ok().map(Self::Last),
                "every" => number.parse().ok().map(Self::EverySteps),
                "epochs" => number.parse().ok().map(Self::EveryEpochs),
                "bytes" => parse_size(number).map(Self::Bytes),
                _ => None,
            }
        });
        policy.ok_or_else(|| ParsePolicyError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best(count) => write!(f, "best:{count}"),
            Self::Pareto(pareto) => write!(f, "pareto:{pareto}"),
            Self::Last(count) => write!(f, "last:{count}"),
            Self::EverySteps(steps) => write!(f, "every:{steps}"),
            Self::EveryEpochs(epochs) => write!(f, "epochs:{epochs}"),
            Self::Bytes(bytes) => write!(f, "bytes:{}", format_size(*bytes)),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
