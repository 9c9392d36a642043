//! Going on: nothing is forgotten, nothing better is overwritten, what was resumed from stays.

use keepbest_core::{Direction, Objective};
use keepbest_keeper::{Evaluation, Keeper, KeeperConfig, ResumeError, SaveMode};
use keepbest_store::{FindingKind, RefName};
use serde_json::json;

use crate::support::{
    Runs, accuracy, best_step, checkpoints, config, last_step, offer, offer_and_wait, snapshot,
};

#[test]
fn best_patience_and_history_are_restored_from_the_journal() {
    let runs = Runs::new();
    let mut config = config();
    config.early_stopping.patience = Some(3);
    let mut keeper = runs.create(config.clone());
    offer_and_wait(&mut keeper, 1, 0.7);
    offer_and_wait(&mut keeper, 2, 0.5);
    offer_and_wait(&mut keeper, 3, 0.6);
    drop(keeper);
    let resumed = Keeper::resume(&runs.run(), config).unwrap();
    assert_eq!(resumed.best.as_ref().unwrap().step, 10);
    assert_eq!(resumed.history.len(), 3);
    let point = resumed.point.unwrap();
    assert_eq!((point.step, point.epoch), (30, 3));
    assert_eq!(point.model.weights, snapshot(30).weights());
    assert_eq!(point.model.training, snapshot(30).training_state());
    assert_eq!(
        point.model.metadata.unwrap().training,
        Some(json!({"epoch": 3}))
    );
    let mut keeper = resumed.keeper;
    assert_eq!(keeper.should_stop(), None);
    assert!(!offer_and_wait(&mut keeper, 4, 0.69));
    assert!(keeper.should_stop().is_some(), "two before, one after");
    assert_eq!(keeper.history().len(), 4);
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 10);
}

#[test]
fn another_objective_is_refused() {
    let runs = Runs::new();
    drop(runs.create(config()));
    let other = Objective::with_direction("val/loss", Direction::Minimise).unwrap();
    let error = Keeper::resume(&runs.run(), KeeperConfig::new(other)).unwrap_err();
    assert!(matches!(error, ResumeError::ObjectiveDiffers { .. }));
    let text = error.to_string();
    assert!(
        text.contains("val/accuracy") && text.contains("val/loss"),
        "{text}"
    );
    // And the run is as it was.
    Keeper::resume(&runs.run(), config()).unwrap();
}

#[test]
fn what_was_resumed_from_stays_until_the_next_resume() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.9);
    offer_and_wait(&mut keeper, 2, 0.1);
    drop(keeper);
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    offer_and_wait(&mut keeper, 3, 0.2);
    offer_and_wait(&mut keeper, 4, 0.3);
    let steps =
        |runs: &Runs| -> Vec<u64> { runs.view().checkpoints().map(|c| c.saved.step).collect() };
    assert_eq!(steps(&runs), [10, 20, 40]);
    drop(keeper);
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    offer_and_wait(&mut keeper, 5, 0.4);
    assert_eq!(steps(&runs), [10, 40, 50]);
}

#[test]
fn a_run_killed_before_the_first_save_begins_anew() {
    let runs = Runs::new();
    drop(runs.create(config()));
    let resumed = Keeper::resume(&runs.run(), config()).unwrap();
    assert!(resumed.point.is_none() && resumed.best.is_none());
    let mut keeper = resumed.keeper;
    assert!(offer_and_wait(&mut keeper, 1, 0.5));
}

/// Best is newer than last: killed between the two, or last was superseded. The evaluations after last are repeated.
fn best_beyond_last(values: [f64; 3]) -> (Runs, Keeper) {
    let runs = Runs::new();
    let mut config = config();
    config.save = SaveMode::Params;
    config.early_stopping.patience = Some(3);
    let mut keeper = runs.create(config.clone());
    offer_and_wait(&mut keeper, 1, 0.1);
    let keep = checkpoints(&runs.run());
    let keep = keep.iter().find(|name| !name.contains("params")).unwrap();
    let full = runs.run().join("checkpoints").join(keep);
    let spare = runs.parent().join("spare");
    std::fs::copy(&full, &spare).unwrap();
    for (i, value) in values.into_iter().enumerate() {
        offer_and_wait(&mut keeper, i as u64 + 2, value);
    }
    keeper.finish(json!(null)).unwrap();
    // Only the full model of step 10 is left, as if the later ones had never been written.
    for name in checkpoints(&runs.run()) {
        if !name.contains("params") {
            std::fs::remove_file(runs.run().join("checkpoints").join(name)).unwrap();
        }
    }
    std::fs::remove_file(RefName::LAST.path(&runs.run())).unwrap();
    let journal = runs.run().join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    // The journal too knows of one full model only: rebuilt without what a kill would have kept it from saying.
    let kept: Vec<keepbest_store::Entry> = keepbest_keeper::RunView::open(runs.run())
        .unwrap()
        .entries()
        .iter()
        .filter(|entry| {
            let line = serde_json::to_string(entry).unwrap();
            let is_full = line.contains(".safetensors") && !line.contains(".params.");
            !is_full || (line.contains("00000010-") && entry.event.kind() != "pruned")
        })
        .cloned()
        .collect();
    assert!(text.lines().count() > kept.len());
    std::fs::remove_file(&journal).unwrap();
    std::fs::write(&journal, "").unwrap();
    let mut writer = keepbest_store::RunWriter::open(runs.run()).unwrap();
    for entry in kept {
        writer.append(entry.event).unwrap();
    }
    drop(writer);
    std::fs::rename(&spare, &full).unwrap();
    let resumed = Keeper::resume(&runs.run(), config).unwrap();
    assert_eq!(resumed.point.as_ref().unwrap().step, 10);
    assert_eq!(resumed.history.len(), 1);
    (runs, resumed.keeper)
}

#[test]
fn repeated_evaluations_are_judged_as_they_were() {
    let (runs, mut keeper) = best_beyond_last([0.2, 0.4, 0.3]);
    assert_eq!(best_step(&runs.run()), 30);
    assert!(offer_and_wait(&mut keeper, 2, 0.2), "it was the best then");
    assert_eq!(best_step(&runs.run()), 30, "but a better one is on disk");
    assert!(offer_and_wait(&mut keeper, 3, 0.4));
    assert!(!offer_and_wait(&mut keeper, 4, 0.3));
    assert_eq!(keeper.should_stop(), None);
    keeper.finish(json!(null)).unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (30, 40));
    let view = runs.view();
    let verdicts: Vec<bool> = view
        .history()
        .iter()
        .map(|r| r.verdict.is_improved())
        .collect();
    assert_eq!(verdicts, [true, true, true, false]);
}

#[test]
fn a_better_model_from_before_the_interruption_is_never_overwritten() {
    let (runs, mut keeper) = best_beyond_last([0.2, 0.9, 0.3]);
    // This time training goes another way.
    assert!(offer_and_wait(&mut keeper, 2, 0.3));
    assert!(offer_and_wait(&mut keeper, 3, 0.5));
    assert_eq!(best_step(&runs.run()), 30);
    assert_eq!(runs.view().best().unwrap().score.value, 0.9);
    // From here on only the best on disk counts.
    assert!(!offer_and_wait(&mut keeper, 4, 0.8));
    assert!(offer_and_wait(&mut keeper, 5, 0.95));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 50);
}

#[test]
fn a_torn_or_missing_best_is_mended_first() {
    for tear in [true, false] {
        let runs = Runs::new();
        let mut keeper = runs.create(config());
        offer_and_wait(&mut keeper, 1, 0.5);
        offer_and_wait(&mut keeper, 2, 0.9);
        offer_and_wait(&mut keeper, 3, 0.6);
        drop(keeper);
        let best = RefName::BEST.path(&runs.run());
        std::fs::remove_file(&best).unwrap();
        if tear {
            std::fs::write(&best, b"torn").unwrap();
        }
        let resumed = Keeper::resume(&runs.run(), config()).unwrap();
        let expected = if tear {
            FindingKind::DamagedRef
        } else {
            FindingKind::MissingRef
        };
        assert_eq!(resumed.repairs.findings[0].kind, expected);
        assert_eq!(best_step(&runs.run()), 20);
        let mut keeper = resumed.keeper;
        assert!(!offer(&mut keeper, 4, 0.8));
    }
}

#[test]
fn a_rotten_last_falls_back_to_the_newest_full_model_that_verifies() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.5);
    offer_and_wait(&mut keeper, 2, 0.9);
    offer_and_wait(&mut keeper, 3, 0.6);
    drop(keeper);
    let last = RefName::LAST.path(&runs.run());
    let mut bytes = std::fs::read(&last).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 0x10;
    // In place, as a disk does it: the checkpoint is the same file.
    std::fs::write(&last, bytes).unwrap();
    let resumed = Keeper::resume(&runs.run(), config()).unwrap();
    assert!(resumed.repairs.is_mended(), "{:?}", resumed.repairs);
    let problem = &resumed.repairs.findings[0].problem;
    assert!(problem.contains("fc."), "the tensor is named: {problem}");
    assert_eq!(resumed.point.unwrap().step, 20);
    assert_eq!(resumed.history.len(), 2, "epoch 3 will be repeated");
    let mut keeper = resumed.keeper;
    offer_and_wait(&mut keeper, 3, 0.6);
    keeper.finish(json!(null)).unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 30));
}

#[test]
fn a_run_can_be_moved_and_resumed_elsewhere() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.9);
    offer_and_wait(&mut keeper, 2, 0.5);
    drop(keeper);
    // A copy: hard links become files of their own, as over a network.
    let copy = runs.parent().join("copy");
    let status = std::process::Command::new("cp")
        .args(["-r", "--"])
        .args([runs.run(), copy.clone()])
        .status()
        .unwrap();
    assert!(status.success());
    let resumed = Keeper::resume(&copy, config()).unwrap();
    assert!(resumed.repairs.is_clean(), "{:?}", resumed.repairs.findings);
    let mut keeper = resumed.keeper;
    assert!(!offer_and_wait(&mut keeper, 3, 0.8));
    assert!(offer_and_wait(&mut keeper, 4, 0.95));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&copy), 40);
    assert_eq!(best_step(&runs.run()), 10, "the original is another run");
}

#[test]
fn a_finished_run_can_go_on() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.5);
    keeper.finish(json!({"stopped": "planned end"})).unwrap();
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    let evaluation = Evaluation::of(&snapshot(20), 2, accuracy(0.6));
    assert!(keeper.offer(evaluation, json!(null)).unwrap().is_improved());
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 20);
}
