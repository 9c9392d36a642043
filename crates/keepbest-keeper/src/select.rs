//! Which checkpoint of a run is meant.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use keepbest_store::{CheckpointState, RefName, RunState};

use crate::error::SelectError;

/// Which checkpoint of a run.
///
/// ```
/// use keepbest_keeper::Selector;
///
/// assert_eq!("step:1200".parse::<Selector>()?, Selector::Step(1200));
/// # Ok::<(), keepbest_keeper::SelectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// What a ref points at: a best, or the resume point.
    Ref(RefName),
    /// The one of a step.
    Step(u64),
    /// The latest of an epoch.
    Epoch(u64),
}

impl Selector {
    /// The best.
    pub const BEST: Self = Self::Ref(RefName::BEST);
    /// The resume point.
    pub const LAST: Self = Self::Ref(RefName::LAST);
}

impl Default for Selector {
    /// The best.
    fn default() -> Self {
        Self::BEST
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(name) => name.fmt(f),
            Self::Step(step) => write!(f, "step:{step}"),
            Self::Epoch(epoch) => write!(f, "epoch:{epoch}"),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok();
        let parsed = match text.split_once(':') {
            None => RefName::try_from(text.to_owned()).ok().map(Self::Ref),
            Some(("best", monitor)) => {
                let monitor = monitor.parse().ok();
                monitor.map(|monitor| Self::Ref(RefName::best_by(&monitor)))
            }
            Some(("step", value)) => number(value).map(Self::Step),
            Some(("epoch", value)) => number(value).map(Self::Epoch),
            _ => None,
        };
        parsed.ok_or_else(|| SelectError::Parse {
            text: text.to_owned(),
        })
    }
}

/// The archived checkpoint that a selector means, when none on disk does.
pub(crate) fn find_archived<'a>(
    state: &'a RunState,
    selector: &Selector,
) -> Option<&'a CheckpointState> {
    let matches = |c: &CheckpointState| match selector {
        Selector::Ref(_) => false,
        Selector::Step(step) => c.saved.step == *step,
        Selector::Epoch(epoch) => c.saved.epoch == *epoch,
    };
    if state.present().any(matches) {
        return None;
    }
    // The latest of several, and of one step the full model.
    state
        .checkpoints
        .values()
        .filter(|c| state.archived.contains_key(&c.saved.checkpoint) && matches(c))
        .max_by(|a, b| {
            (a.saved.step, b.saved.kind, &a.saved.checkpoint).cmp(&(
                b.saved.step,
                a.saved.kind,
                &b.saved.checkpoint,
            ))
        })
}

/// The ref that a name means in this run: the first objective's best goes by what it monitors, too.
pub(crate) fn ref_meant(state: &RunState, name: &RefName) -> RefName {
    let first = state
        .started
        .as_ref()
        .map(|begun| begun.objective.monitor());
    match first.map(RefName::best_by) {
        Some(first) if first == *name => RefName::BEST,
        _ => name.clone(),
    }
}

/// The checkpoint that a selector means.
pub(crate) fn find<'a>(
    run: &Path,
    state: &'a RunState,
    selector: &Selector,
) -> Result<&'a CheckpointState, SelectError> {
    let matches: Box<dyn Fn(&CheckpointState) -> bool> = match *selector {
        Selector::Ref(ref name) => return find_ref(run, state, name),
        Selector::Step(step) => Box::new(move |c| c.saved.step == step),
        Selector::Epoch(epoch) => Box::new(move |c| c.saved.epoch == epoch),
    };
    // The latest of several, and of one step the full model: its kind sorts first.
    let found = state.present().filter(|c| matches(c)).max_by(|a, b| {
        (a.saved.step, b.saved.kind, &a.saved.checkpoint).cmp(&(
            b.saved.step,
            a.saved.kind,
            &b.saved.checkpoint,
        ))
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let pruned = state.checkpoints.values().rev().find(|c| matches(c));
    if let Some(reason) = pruned.and_then(|c| c.pruned.clone()) {
        return Err(SelectError::Pruned {
            run: run.to_owned(),
            what: selector.to_string(),
            reason,
        });
    }
    let mut available: Vec<String> = state
        .present()
        .map(|c| match selector {
            Selector::Epoch(_) => format!("epoch:{}", c.saved.epoch),
            _ => format!("step:{}", c.saved.step),
        })
        .collect();
    available.dedup();
    if available.is_empty() {
        return Err(SelectError::None {
            run: run.to_owned(),
            what: "checkpoint".to_owned(),
        });
    }
    Err(SelectError::Missing {
        run: run.to_owned(),
        what: selector.to_string(),
        available,
    })
}

fn find_ref<'a>(
    run: &Path,
    state: &'a RunState,
    name: &RefName,
) -> Result<&'a CheckpointState, SelectError> {
    let name = ref_meant(state, name);
    let names = state.ref_names();
    if !names.contains(&name) && name != RefName::BEST {
        return Err(SelectError::Missing {
            run: run.to_owned(),
            what: name.to_string(),
            available: names.iter().map(ToString::to_string).collect(),
        });
    }
    let target = state.refs.get(&name);
    target
        .and_then(|target| state.checkpoints.get(&target.checkpoint))
        .ok_or_else(|| SelectError::None {
            run: run.to_owned(),
            what: name.to_string(),
        })
}
