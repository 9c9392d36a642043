//! Runs that are served are followed: when the journal has a better best, that answers.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepbest_keeper::{RunView, Selector};
use keepbest_store::JOURNAL_FILE;

use crate::catalogue::{Catalogue, Entry};

/// The time between two looks at the journals.
const LOOK: Duration = Duration::from_millis(250);

/// The time between two tries of a best that was refused.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A file as it was when it was last looked at; another means that it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp(u64, i64, i64, u64);

impl Stamp {
    /// The journal of a run; `None` when it is not there.
    pub(crate) fn of_journal(run: &Path) -> Option<Self> {
        let stat = std::fs::metadata(run.join(JOURNAL_FILE)).ok()?;
        Some(Self(
            stat.len(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ino(),
        ))
    }
}

/// Follows the runs, without end.
pub(crate) async fn follow(catalogue: Arc<Catalogue>) {
    let mut seen: BTreeMap<String, (Stamp, Option<Instant>)> = BTreeMap::new();
    let mut ticks = 0_u32;
    loop {
        tokio::time::sleep(LOOK).await;
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(8) {
            let catalogue = Arc::clone(&catalogue);
            let looked = tokio::task::spawn_blocking(move || catalogue.look_for_runs());
            // What looks does not panic; if it does, the next look comes.
            let _ = looked.await;
        }
        for entry in catalogue.all().values() {
            let Some(stamp) = followed_stamp(entry) else {
                continue;
            };
            let (last, retry) = seen.get(&entry.name).copied().unwrap_or_default();
            let is_due = retry.is_some_and(|at| Instant::now() >= at);
            if last == stamp && !is_due {
                continue;
            }
            let entry = Arc::clone(entry);
            let look = {
                let entry = Arc::clone(&entry);
                tokio::task::spawn_blocking(move || is_behind(&entry))
            };
            let renewed = match look.await {
                Ok(true) => catalogue.renew(&entry).await,
                _ => Ok(()),
            };
            let retry = renewed.is_err().then(|| Instant::now() + TRY_AGAIN);
            seen.insert(entry.name.clone(), (stamp, retry));
        }
    }
}

/// The stamp of the journal of a loaded model's run.
fn followed_stamp(entry: &Entry) -> Option<Stamp> {
    let (run, _) = entry.followed()?;
    entry.loaded()?;
    // A run that is gone leaves the loaded model as it is.
    Stamp::of_journal(run)
}

/// Whether the journal has another model under the name than the loaded one.
fn is_behind(entry: &Entry) -> bool {
    let (Some((run, which)), Some(loaded)) = (entry.followed(), entry.loaded()) else {
        return false;
    };
    let Selector::Ref(name) = which else {
        return false;
    };
    let Ok(view) = RunView::open(run) else {
        return false;
    };
    let target = view.state().refs.get(name).map(|target| &target.checkpoint);
    let present = target.and_then(|checkpoint| view.state().checkpoints.get(checkpoint));
    let weights = match view.best_of(name) {
        Some(best) => Some(best.weights),
        None => present.map(|checkpoint| checkpoint.saved.weights),
    };
    weights.is_some_and(|weights| weights != loaded.weights)
}
