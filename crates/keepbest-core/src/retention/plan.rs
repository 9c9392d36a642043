//! The decision, with its reasons.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::{NonZeroU64, NonZeroUsize},
};

use serde::{Deserialize, Serialize};

use super::{Checkpoint, Policy};
use crate::{
    objective::Objective,
    pareto::{Pareto, Point},
    size::format_size,
};

/// Checkpoints that stay whatever the policies say, by name. Names that do not exist are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protections {
    /// What each ref points at, by the ref's name: `best`, `last`, `best:val/loss`.
    pub refs: BTreeMap<String, String>,
    /// What the user pinned.
    pub pinned: BTreeSet<String>,
    /// What this run, or another, was resumed or fine-tuned from.
    pub resumed_from: BTreeSet<String>,
    /// What a reader has open.
    pub in_use: BTreeSet<String>,
}

/// Why a checkpoint stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keep", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// A ref points at it.
    Ref {
        /// Its name: `best`, `last`, `best:val/loss`.
        name: String,
    },
    /// The user pinned it.
    Pinned,
    /// A run goes on from it.
    ResumedFrom,
    /// A reader has it open.
    InUse,
    /// [`Policy::Best`].
    Best {
        /// 1 for the best.
        rank: usize,
        /// The number kept.
        of: NonZeroUsize,
    },
    /// [`Policy::Pareto`].
    Pareto {
        /// The value that counts, as text.
        of: String,
    },
    /// [`Policy::Last`].
    Last {
        /// 1 for the latest.
        rank: usize,
        /// The number kept.
        of: NonZeroUsize,
    },
    /// [`Policy::EverySteps`].
    EverySteps {
        /// The steps between.
        every: NonZeroU64,
    },
    /// [`Policy::EveryEpochs`].
    EveryEpochs {
        /// The epochs between.
        every: NonZeroU64,
    },
    /// [`Policy::Bytes`].
    Bytes {
        /// The budget.
        budget: u64,
    },
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref { name } => match name.as_str() {
                "best" => f.write_str("it is the best"),
                "last" => f.write_str("it is the last, the resume point"),
                name => match name.strip_prefix("best:") {
                    Some(monitor) => write!(f, "it is the best by {monitor}"),
                    None => write!(f, "{name} points at it"),
                },
            },
            Self::Pinned => f.write_str("it is pinned"),
            Self::ResumedFrom => f.write_str("a run was resumed from it"),
            Self::InUse => f.write_str("it is open in a reader"),
            Self::Best { rank, of } => write!(f, "number {rank} of the best {of}"),
            Self::Pareto { of } => write!(f, "on the Pareto front of {of}"),
            Self::Last { rank, of } => write!(f, "number {rank} of the last {of}"),
            Self::EverySteps { every } => write!(f, "one is kept every {every} steps"),
            Self::EveryEpochs { every } => write!(f, "one is kept every {every} epochs"),
            Self::Bytes { budget } => {
                write!(f, "it fits into the budget of {}", format_size(*budget))
            }
        }
    }
}

/// Why a policy does not keep a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "drop", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// No policy is set, and nothing protects it.
    NoPolicy,
    /// [`Policy::Best`]: others are better.
    NotAmongBest {
        /// Its place, 1 for the best; `None` when it has no score.
        rank: Option<usize>,
        /// The number kept.
        of: NonZeroUsize,
    },
    /// [`Policy::Pareto`]: another dominates it, or is earlier and equal.
    NotOnFront {
        /// The value that counts, as text.
        of: String,
        /// The step of one on the front that does; `None` when it was rejected, or lacks a finite value.
        by: Option<u64>,
    },
    /// [`Policy::Last`]: others are later.
    NotAmongLast {
        /// Its place, 1 for the latest.
        rank: usize,
        /// The number kept.
        of: NonZeroUsize,
    },
    /// [`Policy::EverySteps`]: another stands for this stretch, or it is before the first multiple.
    NotOnStep {
        /// The steps between.
        every: NonZeroU64,
    },
    /// [`Policy::EveryEpochs`]: the same for epochs.
    NotOnEpoch {
        /// The epochs between.
        every: NonZeroU64,
    },
    /// [`Policy::Bytes`]: it does not fit any more.
    OverBudget {
        /// The budget.
        budget: u64,
    },
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy keeps it"),
            Self::NotAmongBest {
                rank: Some(rank),
                of,
            } => write!(f, "number {rank} by score, the best {of} are kept"),
            Self::NotAmongBest { rank: None, of } => {
                write!(f, "it has no score, the best {of} are kept")
            }
            Self::NotOnFront { of, by: Some(step) } => {
                write!(f, "step {step} is as good or better by each of {of}")
            }
            Self::NotOnFront { of, by: None } => write!(
                f,
                "it was rejected or has no finite value, the Pareto front of {of} is kept"
            ),
            Self::NotAmongLast { rank, of } => {
                write!(f, "number {rank} from the end, the last {of} are kept")
            }
            Self::NotOnStep { every } => write!(f, "another is kept for its {every} steps"),
            Self::NotOnEpoch { every } => write!(f, "another is kept for its {every} epochs"),
            Self::OverBudget { budget } => write!(
                f,
                "it does not fit into the budget of {}",
                format_size(*budget)
            ),
        }
    }
}

/// A checkpoint that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// At least one: protections first, then policies in the order given.
    pub reasons: Vec<KeepReason>,
}

/// A checkpoint that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// One for each policy, in the order given; [`DropReason::NoPolicy`] when there is none.
    pub reasons: Vec<DropReason>,
}

/// What stays and what goes: every checkpoint is in exactly one of the two, in the order of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The checkpoints that stay.
    pub kept: Vec<Kept>,
    /// The checkpoints that go.
    pub dropped: Vec<Dropped>,
}

impl Plan {
    /// Why this checkpoint stays, if it does.
    #[must_use]
    pub fn reasons_to_keep(&self, name: &str) -> Option<&[KeepReason]> {
        self.kept
            .iter()
            .find(|kept| kept.name == name)
            .map(|kept| kept.reasons.as_slice())
    }

    /// Whether this checkpoint stays.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        self.reasons_to_keep(name).is_some()
    }
}

/// Decides which checkpoints stay, and why. The order of `checkpoints` does not matter; one that is named twice
/// counts once, as it first appears in the order of steps.
///
/// ```
/// use keepbest_core::{Metrics, Objective, Score, retention::{Checkpoint, Protections, plan}};
///
/// let checkpoints: Vec<_> = [(100, 0.7), (200, 0.9), (300, 0.8)]
///     .map(|(step, value)| Checkpoint {
///         name: format!("step-{step}"),
///         step,
///         epoch: step / 100,
///         score: Some(Score { value, tie: None }),
///         metrics: Metrics::new(),
///         bytes: 1 << 20,
///     })
///     .into();
/// let objective = Objective::new("val/accuracy")?;
/// let plan = plan(&checkpoints, &["best:1".parse()?, "last:1".parse()?], &Protections::default(), &objective);
/// assert!(plan.keeps("step-200") && plan.keeps("step-300"));
/// assert_eq!(plan.dropped[0].reasons[0].to_string(), "number 3 by score, the best 1 are kept");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn plan(
    checkpoints: &[Checkpoint],
    policies: &[Policy],
    protections: &Protections,
    objective: &Objective,
) -> Plan {
    let mut ordered: Vec<&Checkpoint> = checkpoints.iter().collect();
    ordered.sort_by(|a, b| (a.step, &a.name).cmp(&(b.step, &b.name)));
    let mut seen = BTreeSet::new();
    ordered.retain(|checkpoint| seen.insert(checkpoint.name.as_str()));

    let ranks = Ranks::of(&ordered, objective);
    // Reasons by policy, so that budgets can be decided last and still be told in the order given.
    let mut answers: Vec<Vec<Answer>> = policies
        .iter()
        .map(|policy| answers(policy, &ordered, &ranks))
        .collect();
    let protected: Vec<Vec<KeepReason>> = ordered
        .iter()
        .map(|checkpoint| protections.reasons(checkpoint))
        .collect();

    let kept_anyway = |i: usize, answers: &[Vec<Answer>]| {
        !protected[i].is_empty()
            || answers
                .iter()
                .any(|answers| matches!(answers.get(i), Some(Ok(_))))
    };
    let mut used: u64 = 0;
    for (i, checkpoint) in ordered.iter().enumerate() {
        if kept_anyway(i, &answers) {
            used = used.saturating_add(checkpoint.bytes);
        }
    }
    let fixed: Vec<bool> = (0..ordered.len())
        .map(|i| kept_anyway(i, &answers))
        .collect();
    for (policy, answers) in policies.iter().zip(&mut answers) {
        if let Policy::Bytes(budget) = *policy {
            *answers = within_budget(budget, used, &fixed, &ordered, &ranks);
        }
    }

    let mut plan = Plan::default();
    for (i, (checkpoint, mut keep)) in ordered.iter().zip(protected).enumerate() {
        let mut drop = Vec::new();
        for answer in answers.iter().filter_map(|answers| answers.get(i)) {
            match answer {
                Ok(reason) => keep.push(reason.clone()),
                Err(reason) => drop.push(reason.clone()),
            }
        }
        let name = checkpoint.name.clone();
        if keep.is_empty() {
            if drop.is_empty() {
                drop.push(DropReason::NoPolicy);
            }
            plan.dropped.push(Dropped {
                name,
                reasons: drop,
            });
        } else {
            plan.kept.push(Kept {
                name,
                reasons: keep,
            });
        }
    }
    plan
}

type Answer = Result<KeepReason, DropReason>;

/// Places by score.
struct Ranks {
    /// Positions of the checkpoints that have a score, the best first.
    best_first: Vec<usize>,
    /// For each checkpoint, its place among them.
    rank: Vec<Option<usize>>,
}

impl Ranks {
    fn of(ordered: &[&Checkpoint], objective: &Objective) -> Self {
        let score = |i: &usize| ordered[*i].score.filter(|score| score.value.is_finite());
        let mut best_first: Vec<usize> =
            (0..ordered.len()).filter(|i| score(i).is_some()).collect();
        // The sort is stable, so equal scores stay in the order of steps: the earlier first.
        best_first.sort_by(|a, b| match (score(a), score(b)) {
            (Some(a), Some(b)) => objective.compare_total(&b, &a),
            _ => Ordering::Equal,
        });
        let mut rank = vec![None; ordered.len()];
        for (place, i) in best_first.iter().enumerate() {
            rank[*i] = Some(place + 1);
        }
        Self { best_first, rank }
    }
}

/// For each checkpoint, whether this policy keeps it. Nothing for a budget, which depends on the others.
fn answers(policy: &Policy, ordered: &[&Checkpoint], ranks: &Ranks) -> Vec<Answer> {
    let indices = 0..ordered.len();
    match *policy {
        Policy::Best(of) => indices
            .map(|i| match ranks.rank[i] {
                Some(rank) if rank <= of.get() => Ok(KeepReason::Best { rank, of }),
                rank => Err(DropReason::NotAmongBest { rank, of }),
            })
            .collect(),
        Policy::Pareto(ref pareto) => on_front(pareto, ordered),
        Policy::Last(of) => indices
            .map(|i| {
                let rank = ordered.len() - i;
                if rank <= of.get() {
                    Ok(KeepReason::Last { rank, of })
                } else {
                    Err(DropReason::NotAmongLast { rank, of })
                }
            })
            .collect(),
        Policy::EverySteps(every) => {
            let chosen = first_of_each(every, ordered, |checkpoint| (checkpoint.step, Reverse(0)));
            indices
                .map(|i| {
                    if chosen.contains(&i) {
                        Ok(KeepReason::EverySteps { every })
                    } else {
                        Err(DropReason::NotOnStep { every })
                    }
                })
                .collect()
        }
        Policy::EveryEpochs(every) => {
            let chosen = first_of_each(every, ordered, |checkpoint| {
                (checkpoint.epoch, Reverse(checkpoint.step))
            });
            indices
                .map(|i| {
                    if chosen.contains(&i) {
                        Ok(KeepReason::EveryEpochs { every })
                    } else {
                        Err(DropReason::NotOnEpoch { every })
                    }
                })
                .collect()
        }
        Policy::Bytes(_) => Vec::new(),
    }
}

/// Whether nothing dominates it, and of equals it is the first.
fn on_front(pareto: &Pareto, ordered: &[&Checkpoint]) -> Vec<Answer> {
    let point = |checkpoint: &&Checkpoint| {
        checkpoint.score?;
        // One that was never measured has nothing to be on a front by.
        pareto.point(&checkpoint.metrics).ok().flatten()
    };
    let points: Vec<Option<Point>> = ordered.iter().map(point).collect();
    let stands_for = |i: usize, j: usize| match (&points[i], &points[j]) {
        (Some(one), Some(other)) => match pareto.compare(one, other) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => i < j,
            _ => false,
        },
        _ => false,
    };
    let indices = 0..ordered.len();
    let front: Vec<usize> = indices
        .clone()
        .filter(|&j| points[j].is_some() && !indices.clone().any(|i| stands_for(i, j)))
        .collect();
    let of = pareto.to_string();
    indices
        .map(|j| {
            if front.contains(&j) {
                return Ok(KeepReason::Pareto { of: of.clone() });
            }
            // What stands for another that stands for a third stands for the third: so one on the front does.
            let by = front.iter().find(|&&i| stands_for(i, j));
            let by = by.map(|&i| ordered[i].step);
            Err(DropReason::NotOnFront { of: of.clone(), by })
        })
        .collect()
}

/// The first checkpoint of each stretch `[N, 2N)`, `[2N, 3N)`, ... of a count, by count and then by the second part of
/// the key. What a plan keeps stays the first of its stretch, so planning again changes nothing, and checkpoints
/// that never fall on a multiple are kept at the same distance.
fn first_of_each(
    every: NonZeroU64,
    ordered: &[&Checkpoint],
    key: impl Fn(&Checkpoint) -> (u64, Reverse<u64>),
) -> BTreeSet<usize> {
    let mut first: BTreeMap<u64, ((u64, Reverse<u64>), usize)> = BTreeMap::new();
    for (i, checkpoint) in ordered.iter().enumerate() {
        let key = key(checkpoint);
        let stretch = key.0 / every;
        if stretch == 0 {
            continue;
        }
        let entry = first.entry(stretch).or_insert((key, i));
        if key < entry.0 {
            *entry = (key, i);
        }
    }
    first.into_values().map(|(_, i)| i).collect()
}

fn within_budget(
    budget: u64,
    mut used: u64,
    fixed: &[bool],
    ordered: &[&Checkpoint],
    ranks: &Ranks,
) -> Vec<Answer> {
    let mut answers: Vec<Answer> = vec![Err(DropReason::OverBudget { budget }); ordered.len()];
    let unscored = (0..ordered.len())
        .rev()
        .filter(|i| ranks.rank[*i].is_none());
    for i in ranks.best_first.iter().copied().chain(unscored) {
        if !fixed[i] {
            used = used.saturating_add(ordered[i].bytes);
        }
        if used > budget {
            break;
        }
        answers[i] = Ok(KeepReason::Bytes { budget });
    }
    answers
}

impl Protections {
    fn reasons(&self, checkpoint: &Checkpoint) -> Vec<KeepReason> {
        let name = &checkpoint.name;
        let refs = self.refs.iter().filter(|(_, target)| *target == name);
        let refs = refs.map(|(reference, _)| KeepReason::Ref {
            name: reference.clone(),
        });
        let others = [
            (self.pinned.contains(name), KeepReason::Pinned),
            (self.resumed_from.contains(name), KeepReason::ResumedFrom),
            (self.in_use.contains(name), KeepReason::InUse),
        ];
        refs.chain(
            others
                .into_iter()
                .filter_map(|(holds, reason)| holds.then_some(reason)),
        )
        .collect()
    }
}
