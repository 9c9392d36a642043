//! The Pareto front stays, whatever happens to the run.

use std::path::Path;
use std::sync::Arc;

use keepbest_core::retention::Policy;
use keepbest_core::{EvaluationRecord, Metrics};
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{
    Evaluation, Keeper, KeeperConfig, RunView, SaveMode, Selector, archive_run, explain, fronts,
    fsck, prune_run,
};
use keepbest_store::faulty::FaultyFileSystem;
use keepbest_store::{CheckpointKind, OpenError};
use serde_json::json;

use crate::support::{Runs, config, in_memory, snapshot};

/// Accuracy and cost of each epoch, ten steps each. On the front are 1 (the cheapest), 3 and 6 (the best); 2 is dominated by 3, 4 is
/// equal to 3 and later, 5 cannot be judged, and 7 is dominated by all.
const VALUES: [(f64, f64); 7] = [
    (0.5, 1.0),
    (0.6, 3.0),
    (0.7, 2.0),
    (0.7, 2.0),
    (f64::NAN, 0.5),
    (0.9, 5.0),
    (0.4, 6.0),
];
const FRONT: [u64; 3] = [10, 30, 60];

fn keeping_the_front(save: SaveMode) -> KeeperConfig {
    KeeperConfig {
        retention: vec!["pareto:val/accuracy,min:cost".parse::<Policy>().unwrap()],
        save,
        ..config()
    }
}

fn offer(keeper: &mut Keeper, epoch: u64) {
    let (accuracy, cost) = VALUES[epoch as usize - 1];
    let metrics = Metrics::from_iter([("val/accuracy", accuracy), ("cost", cost)]);
    let evaluation = Evaluation::of(&snapshot(epoch * 10), epoch, metrics);
    keeper.offer(evaluation, json!({ "epoch": epoch })).unwrap();
    keeper.wait();
}

fn front(view: &RunView) -> Vec<u64> {
    let [front] = &fronts(view)[..] else {
        panic!("one front is kept");
    };
    front
        .members
        .iter()
        .map(|member| member.saved.step)
        .collect()
}

fn present(view: &RunView) -> Vec<u64> {
    let mut steps: Vec<u64> = view.checkpoints().map(|it| it.saved.step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

#[test]
fn the_front_is_kept_and_told() {
    for save in [SaveMode::Full, SaveMode::Params] {
        let runs = Runs::new();
        let mut keeper = runs.create(keeping_the_front(save));
        for epoch in 1..=4 {
            offer(&mut keeper, epoch);
        }
        // Resumed in between, it is the same front.
        keeper.interrupt().unwrap();
        let mut keeper = Keeper::resume(&runs.run(), keeping_the_front(save))
            .unwrap()
            .keeper;
        for epoch in 5..=7 {
            offer(&mut keeper, epoch);
        }
        keeper.finish(json!(null)).unwrap();

        let view = runs.view();
        assert_eq!(front(&view), FRONT, "{save}");
        // Beside it only last, and what the run was resumed from.
        assert_eq!(present(&view), [10, 30, 40, 60, 70], "{save}");
        assert!(prune_run(&runs.run()).unwrap().is_empty());
        let told = explain(&view).unwrap();
        let words = "on the Pareto front of val/accuracy,min:cost";
        let kind = match save {
            SaveMode::Full => CheckpointKind::Full,
            SaveMode::Params => CheckpointKind::Params,
        };
        for one in &told.checkpoints {
            let on_front = one.reasons.iter().any(|reason| reason == words);
            let expected = FRONT.contains(&one.step) && one.kind == kind;
            assert_eq!(on_front, expected, "{one:?}");
        }
        let mut all = told.checkpoints.iter();
        let second = all.find(|one| one.step == 20 && one.kind == kind).unwrap();
        assert_eq!(
            second.reasons,
            ["step 30 is as good or better by each of val/accuracy,min:cost"]
        );

        // In an archive it is the front still.
        assert!(!archive_run(&runs.run()).unwrap().checkpoints.is_empty());
        let view = runs.view();
        assert_eq!(front(&view), FRONT, "{save}");
        assert!(view.is_archived(&Selector::Step(30)));
        assert!(fsck(&runs.run(), false).unwrap().is_clean());
    }
}

/// A crash at any operation loses no checkpoint of the front, and the run goes on to the same front.
#[test]
fn no_crash_loses_the_front() {
    let save = SaveMode::Full;
    let parent = tempfile::tempdir().unwrap();
    let fs = FaultyFileSystem::new(parent.path()).unwrap();
    let run = parent.path().join("run");
    let shared = Arc::new(fs.clone());
    let mut keeper =
        Keeper::create_on(shared, &run, "seed = 1\n", keeping_the_front(save)).unwrap();
    for epoch in 1..=VALUES.len() as u64 {
        offer(&mut keeper, epoch);
    }
    keeper.finish(json!(null)).unwrap();

    let mut seen = std::collections::BTreeSet::new();
    let states = in_memory();
    for (i, crash) in fs.recording().crashes().into_iter().enumerate() {
        if !seen.insert(crash.disk.clone()) {
            continue;
        }
        let root = states.path().join(i.to_string());
        crash.disk.materialise(&root).unwrap();
        if let Err(problem) = goes_on(&root.join("run"), save) {
            panic!("{:?} after {}: {problem}", crash.kind, crash.after);
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
    assert!(seen.len() > 100, "only {} states", seen.len());
}

fn goes_on(run: &Path, save: SaveMode) -> Result<(), String> {
    match fsck(run, true) {
        Ok(report) if !report.is_mended() => return Err(format!("not mended: {report:?}")),
        Ok(_) => {}
        // The run had not begun.
        Err(OpenError::NotARun { .. } | OpenError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(format!("fsck: {error:?}")),
    }
    let whole = || -> Result<(), String> {
        let view = RunView::open(run).map_err(|error| format!("view: {error:?}"))?;
        // Of all that was ever saved, by the definition.
        let saved = view.state().checkpoints.values();
        let measured: Vec<&EvaluationRecord> =
            saved.filter_map(|it| it.evaluation.as_ref()).collect();
        let values = |record: &EvaluationRecord| {
            let of = |name| record.metrics.get(name).unwrap_or(f64::NAN);
            (of("val/accuracy"), -of("cost"))
        };
        for record in &measured {
            let (a, b) = values(record);
            let stands_for = |other: &&&EvaluationRecord| {
                let (x, y) = values(other);
                x >= a && y >= b && ((x, y) != (a, b) || other.step < record.step)
            };
            if !a.is_nan() && !measured.iter().any(|other| stands_for(&other)) {
                let path = view
                    .select(&Selector::Step(record.step))
                    .map_err(|error| format!("{error:?}"))?;
                ModelFile::open(path).map_err(|error| format!("{error:?}"))?;
            }
        }
        Ok(())
    };
    whole()?;
    let resumed = Keeper::resume(run, keeping_the_front(save))
        .map_err(|error| format!("resume: {error:?}"))?;
    let next = resumed.point.as_ref().map_or(1, |it| it.step / 10 + 1);
    let mut keeper = resumed.keeper;
    for epoch in next..=VALUES.len() as u64 {
        offer(&mut keeper, epoch);
    }
    keeper
        .finish(json!(null))
        .map_err(|error| format!("finish: {error:?}"))?;
    whole()?;
    let view = RunView::open(run).map_err(|error| format!("view: {error:?}"))?;
    match front(&view) {
        found if found == FRONT => Ok(()),
        found => Err(format!("it ends with the front {found:?}")),
    }
}
