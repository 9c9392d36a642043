//! What is saved, and what is in it.

use std::os::unix::fs::MetadataExt;

use keepbest_core::{History, Metrics};
use keepbest_formats::model_file::{Attachments, Kind};
use keepbest_formats::weights_digest;
use keepbest_keeper::{Evaluation, KeeperEvent, OfferError, RunView, SaveMode};
use keepbest_store::{Event, RefName};
use serde_json::json;

use crate::support::{
    Runs, accuracy, best_step, checkpoints, config, last_step, offer, offer_and_wait, open,
    snapshot,
};

#[test]
fn full_models_hold_everything_and_best_and_last_are_one_file() {
    let runs = Runs::new();
    let mut config = config();
    config.constants = Attachments {
        model: Some(json!({"layers": ["linear"]})),
        classes: vec!["cat".into(), "dog".into()],
        preprocessing: Some(json!({"mean": [0.5]})),
        provenance: Some(json!({"seed": 1})),
        ..Attachments::default()
    };
    let mut keeper = runs.create(config);
    assert!(offer_and_wait(&mut keeper, 1, 0.5));
    assert!(offer_and_wait(&mut keeper, 2, 0.75));
    let summary = keeper.finish(json!({"stopped": "planned end"})).unwrap();
    let best = summary.best.unwrap();
    assert_eq!((best.step, best.epoch, best.score.value), (20, 2, 0.75));
    assert_eq!(best.metrics, accuracy(0.75));
    assert!(summary.best_is_saved && summary.failures.is_empty());

    let file = open(&best.path);
    let metadata = file.metadata.clone().unwrap();
    assert_eq!(metadata.kind, Kind::Full);
    assert_eq!((metadata.step, metadata.epoch), (20, 2));
    assert_eq!(metadata.classes, ["cat", "dog"]);
    assert_eq!(metadata.model, Some(json!({"layers": ["linear"]})));
    assert_eq!(metadata.training, Some(json!({"epoch": 2})));
    assert_eq!(file.weights, snapshot(20).weights());
    assert_eq!(file.training, snapshot(20).training_state());
    assert_eq!(best.weights, weights_digest(&snapshot(20).weights()));
    let evaluation = metadata.attachments.evaluation.unwrap();
    assert_eq!(evaluation["step"], 20);
    assert_eq!(evaluation["metrics"]["val/accuracy"], 0.75);
    let history: History = serde_json::from_value(metadata.attachments.history.unwrap()).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(
        history.records()[0].digest,
        Some(weights_digest(&snapshot(10).weights()))
    );

    // Best, last and their checkpoint are one file; the one before is gone.
    let run = runs.run();
    assert_eq!(checkpoints(&run).len(), 1);
    assert_eq!(std::fs::metadata(&best.path).unwrap().nlink(), 3);
    assert_eq!(last_step(&run), 20);
}

#[test]
fn thresholds_go_with_the_evaluation_that_they_decided_in() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    for (epoch, value) in [(1, 0.5), (2, 0.4)] {
        let evaluation = Evaluation::of(&snapshot(epoch * 10), epoch, accuracy(value))
            .with_attachments(Attachments {
                thresholds: Some(json!({"values": [value]})),
                ..Attachments::default()
            });
        keeper.offer(evaluation, json!({ "epoch": epoch })).unwrap();
        keeper.wait();
    }
    let run = runs.run();
    let of = |reference: RefName| {
        open(&reference.path(&run))
            .metadata
            .unwrap()
            .attachments
            .thresholds
    };
    assert_eq!(of(RefName::BEST), Some(json!({"values": [0.5]})));
    assert_eq!(of(RefName::LAST), Some(json!({"values": [0.4]})));
    // Of a resume point that nothing was measured of there are none.
    keeper.save_last(&snapshot(25), 2, json!({"epoch": 2}));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(last_step(&run), 25);
    assert_eq!(of(RefName::LAST), None);
}

#[test]
fn params_only_best_holds_the_state_dict_alone() {
    let runs = Runs::new();
    let mut config = config();
    config.save = SaveMode::Params;
    config.constants.model = Some(json!("spec"));
    let mut keeper = runs.create(config);
    offer_and_wait(&mut keeper, 1, 0.5);
    offer_and_wait(&mut keeper, 2, 0.4);
    keeper.finish(json!(null)).unwrap();
    let run = runs.run();
    let best = open(&RefName::BEST.path(&run));
    let metadata = best.metadata.unwrap();
    assert_eq!((metadata.kind, metadata.step), (Kind::Params, 10));
    assert_eq!((&metadata.model, &metadata.training), (&None, &None));
    assert!(best.training.is_empty());
    let last = open(&RefName::LAST.path(&run));
    let metadata = last.metadata.unwrap();
    assert_eq!((metadata.kind, metadata.step), (Kind::Full, 20));
    let names = checkpoints(&run);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].starts_with("00000010-") && names[0].ends_with(".params.safetensors"));
    assert!(names[1].starts_with("00000020-") && !names[1].contains("params"));
}

#[test]
fn without_last_only_improvements_are_written() {
    let runs = Runs::new();
    let mut config = config();
    config.keep_last = false;
    let mut keeper = runs.create(config);
    for (epoch, value) in [(1, 0.5), (2, 0.4), (3, 0.6), (4, 0.1)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    let run = runs.run();
    assert_eq!(best_step(&run), 30);
    assert!(!RefName::LAST.path(&run).exists());
    assert_eq!(checkpoints(&run).len(), 1);
    let view = runs.view();
    let saved = view
        .entries()
        .iter()
        .filter(|entry| entry.event.kind() == "saved")
        .count();
    assert_eq!(saved, 2);
    // Every evaluation has its digest, saved or not.
    assert!(view.history().iter().all(|record| record.digest.is_some()));
}

#[test]
fn retention_keeps_what_its_policies_say_and_no_more() {
    let runs = Runs::new();
    let mut config = config();
    config.retention = vec!["best:2".parse().unwrap(), "epochs:4".parse().unwrap()];
    let mut keeper = runs.create(config);
    let values = [0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.5, 0.6, 0.7];
    for (i, value) in values.iter().enumerate() {
        offer_and_wait(&mut keeper, i as u64 + 1, *value);
    }
    keeper.finish(json!(null)).unwrap();
    let steps: Vec<u64> = runs
        .view()
        .checkpoints()
        .map(|checkpoint| checkpoint.saved.step)
        .collect();
    // Best two: epochs 2 and 5; every four: 4 and 8; last: 9.
    assert_eq!(steps, [20, 40, 50, 80, 90]);
    assert_eq!(checkpoints(&runs.run()).len(), 5);
    assert_eq!(best_step(&runs.run()), 20);
    let view = runs.view();
    let reasons: Vec<&str> = view
        .state()
        .checkpoints
        .values()
        .filter_map(|checkpoint| checkpoint.pruned.as_deref())
        .collect();
    assert_eq!(reasons.len(), 4);
    assert!(
        reasons.iter().all(|r| r.contains("the best 2 are kept")),
        "{reasons:?}"
    );
}

#[test]
fn params_only_retention_is_about_params_files() {
    let runs = Runs::new();
    let mut config = config();
    config.save = SaveMode::Params;
    config.retention = vec!["last:2".parse().unwrap()];
    let mut keeper = runs.create(config);
    for (epoch, value) in [(1, 0.9), (2, 0.4), (3, 0.3), (4, 0.2)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    let names = checkpoints(&runs.run());
    let short: Vec<(&str, bool)> = names
        .iter()
        .map(|name| (&name[..8], name.contains("params")))
        .collect();
    // The best, the last two as params, and the resume point.
    assert_eq!(
        short,
        [
            ("00000010", true),
            ("00000030", true),
            ("00000040", true),
            ("00000040", false)
        ]
    );
}

#[test]
fn a_missing_metric_is_an_error_and_best_stays() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.5);
    let metrics = Metrics::from_iter([("val/acuracy", 0.9)]);
    let error = keeper
        .offer(Evaluation::of(&snapshot(20), 2, metrics), json!(null))
        .unwrap_err();
    assert!(matches!(error, OfferError::Objective(_)), "{error:?}");
    assert!(error.to_string().contains("val/acuracy"), "{error}");
    assert_eq!(keeper.history().len(), 1);
    assert!(!offer_and_wait(&mut keeper, 3, 0.4));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 10);
}

#[test]
fn evaluations_come_in_the_order_of_steps() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer(&mut keeper, 2, 0.5);
    let error = keeper
        .offer(Evaluation::of(&snapshot(10), 1, accuracy(0.9)), json!(null))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "evaluation of step 10 after that of step 20"
    );
    // The same step again, as when epoch and step evaluations meet, is a file of its own.
    offer_and_wait(&mut keeper, 2, 0.6);
    keeper.finish(json!(null)).unwrap();
    assert_eq!(runs.view().best().unwrap().score.value, 0.6);
}

#[test]
fn the_message_for_people_says_it_all() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 6, 0.8875);
    keeper.events();
    offer_and_wait(&mut keeper, 7, 0.8912);
    let lines: Vec<String> = keeper
        .events()
        .iter()
        .filter(
            |event| matches!(event, KeeperEvent::Promoted { reference, .. } if reference.is_best()),
        )
        .map(ToString::to_string)
        .collect();
    let path = runs.run().join("best.safetensors");
    let path = path.display();
    assert_eq!(
        lines,
        [format!(
            "best: saved {path} (val/accuracy 0.8912, was 0.8875, epoch 7)"
        )]
    );
}

#[test]
fn rejections_are_journalled_with_their_reason() {
    let runs = Runs::new();
    let mut config = config();
    config.objective = config
        .objective
        .with_constraint("val/loss <= 0.5".parse().unwrap());
    let mut keeper = runs.create(config);
    assert!(!offer_and_wait(&mut keeper, 1, 0.4));
    assert!(!offer_and_wait(&mut keeper, 2, f64::NAN));
    assert!(offer_and_wait(&mut keeper, 3, 0.6));
    keeper.finish(json!(null)).unwrap();
    let view = runs.view();
    let reasons: Vec<&str> = view
        .entries()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Rejected(rejected) => Some(rejected.reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("val/loss <= 0.5"), "{reasons:?}");
    assert!(reasons[1].contains("NaN"), "{reasons:?}");
    assert_eq!(best_step(&runs.run()), 30);
}

#[test]
fn early_stopping_says_why() {
    let runs = Runs::new();
    let mut config = config();
    config.early_stopping.patience = Some(2);
    let mut keeper = runs.create(config);
    offer(&mut keeper, 1, 0.5);
    offer(&mut keeper, 2, 0.4);
    assert_eq!(keeper.should_stop(), None);
    offer(&mut keeper, 3, f64::NAN);
    let reason = keeper.should_stop().unwrap().to_string();
    assert_eq!(
        reason,
        "no improvement of val/accuracy for 2 evaluations (best 0.5000 at epoch 1)"
    );
    assert!(keeper.should_stop_by_loss(30, f64::NAN).is_some());
}

#[test]
fn dropping_a_keeper_waits_for_what_was_offered() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer(&mut keeper, 1, 0.5);
    drop(keeper);
    assert_eq!(best_step(&runs.run()), 10);
    assert_eq!(
        RunView::open(runs.run()).unwrap().active_writer().unwrap(),
        None
    );
}

#[test]
fn a_taken_name_and_a_second_keeper_are_refused() {
    let runs = Runs::new();
    let keeper = runs.create(config());
    let error = keepbest_keeper::Keeper::create(&runs.run(), "", config()).unwrap_err();
    assert!(error.to_string().ends_with("exists already"), "{error}");
    let error = keepbest_keeper::Keeper::resume(&runs.run(), config()).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    drop(keeper);
}

/// No lock, no waiting, and never anything but a whole best, each at least as good as the one seen before.
#[test]
fn readers_during_promotions_always_find_a_whole_best() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.01);
    let run = runs.run();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                seen.push(best_step(&run));
                let best = RunView::open(&run).unwrap().best().unwrap();
                assert!(
                    best.step >= *seen.last().unwrap(),
                    "the journal is ahead of the ref"
                );
            }
            seen
        });
        for epoch in 2..=60 {
            offer_and_wait(&mut keeper, epoch, epoch as f64 / 100.0);
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        let seen = reader.join().unwrap();
        assert!(seen.len() > 10 && seen.is_sorted(), "{seen:?}");
    });
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&run), 600);
}
