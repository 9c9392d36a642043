//! Loops that have to copy their weights: what is not saved is not copied, and what cannot be copied costs nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepbest_formats::StateDict;
use keepbest_keeper::{
    Evaluation, Keeper, KeeperConfig, OfferError, SaveMode, Snapshot, SnapshotHandle, Wanted,
};
use serde_json::json;

use crate::support::{Runs, accuracy, best_step, config, snapshot};

/// Weights that can be read only once they were taken; remembers what was wanted.
struct Lazy {
    step: u64,
    asked: Arc<Mutex<Vec<Wanted>>>,
    refuses: bool,
}

impl Snapshot for Lazy {
    fn step(&self) -> u64 {
        self.step
    }

    fn weights(&self) -> StateDict {
        snapshot(self.step).weights()
    }

    fn training_state(&self) -> StateDict {
        snapshot(self.step).training_state()
    }

    fn take(&self, wanted: Wanted) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        if self.refuses && wanted != Wanted::Nothing {
            return Err("it is on the meta device".into());
        }
        self.asked.lock().unwrap().push(wanted);
        Ok(wanted != Wanted::Nothing)
    }
}

fn offered(config: KeeperConfig, values: &[f64]) -> (Runs, Vec<Wanted>) {
    let runs = Runs::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut keeper = runs.create(config);
    for (epoch, value) in (1..).zip(values) {
        let lazy = Lazy {
            step: epoch,
            asked: Arc::clone(&asked),
            refuses: false,
        };
        let evaluation = Evaluation::of(&SnapshotHandle::new(lazy), epoch, accuracy(*value));
        keeper.offer(evaluation, json!(null)).unwrap();
        // What policies keep depends on what is on disk.
        while !keeper.saves().wait_for(Duration::from_secs(1)) {}
    }
    keeper.finish(json!(null)).unwrap();
    let asked = asked.lock().unwrap().clone();
    (runs, asked)
}

#[test]
fn what_is_not_saved_is_not_copied() {
    let values = [0.5, 0.4, 0.6, 0.3];
    let mut without_last = config();
    without_last.keep_last = false;
    let (runs, asked) = offered(without_last.clone(), &values);
    let (full, nothing) = (Wanted::Everything, Wanted::Nothing);
    assert_eq!(asked, [full, nothing, full, nothing]);
    assert_eq!(best_step(&runs.run()), 3);
    // An evaluation whose snapshot was not copied is recorded, without a digest.
    let digests: Vec<bool> = runs
        .view()
        .history()
        .iter()
        .map(|it| it.digest.is_some())
        .collect();
    assert_eq!(digests, [true, false, true, false]);

    let mut params = without_last.clone();
    params.save = SaveMode::Params;
    assert_eq!(
        offered(params, &values).1,
        [Wanted::Weights, nothing, Wanted::Weights, nothing]
    );

    // With policies, what they would keep is copied as well: here the second best.
    let mut two = without_last;
    two.retention = vec!["best:2".parse().unwrap()];
    assert_eq!(offered(two, &values).1, [full, full, full, nothing]);

    assert_eq!(offered(config(), &values).1, [full; 4]);
}

#[test]
fn a_snapshot_that_cannot_be_taken_changes_nothing() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    let offer = |keeper: &mut Keeper, step, value, refuses| {
        let lazy = Lazy {
            step,
            asked: Arc::default(),
            refuses,
        };
        let evaluation = Evaluation::of(&SnapshotHandle::new(lazy), step, accuracy(value));
        keeper.offer(evaluation, json!(null))
    };
    offer(&mut keeper, 1, 0.5, false).unwrap();
    let refused = offer(&mut keeper, 2, 0.9, true).unwrap_err();
    assert!(matches!(refused, OfferError::Snapshot(_)), "{refused}");
    assert_eq!(keeper.evaluations().len(), 1);
    // Judged as if the refused one had not been.
    assert!(offer(&mut keeper, 2, 0.6, false).unwrap().is_improved());
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 2);
}
