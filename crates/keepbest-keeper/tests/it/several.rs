//! Several bests at once: each has its ref and its promotions, none costs another anything.

use keepbest_core::Objective;
use keepbest_keeper::{CreateError, Keeper, ResumeError, Selector, explain, fsck};
use keepbest_store::{Event, FindingKind, RefName};
use serde_json::json;

use crate::support::{
    Runs, best_by_f1, best_step, checkpoints, config, last_step, offer, offer_and_wait, step_of,
    two_bests,
};

fn by_f1() -> RefName {
    RefName::best_by(&"val/f1_macro".parse().unwrap())
}

#[test]
fn each_objective_has_a_best_and_a_checkpoint_takes_its_space_once() {
    let runs = Runs::new();
    let mut keeper = runs.create(two_bests());
    offer_and_wait(&mut keeper, 1, 0.5);
    // Best by both, and last: one file.
    assert_eq!(checkpoints(&runs.run()).len(), 1);
    for (epoch, value) in [(2, 0.6), (3, 0.8), (4, 0.3)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    let summary = keeper.finish(json!(null)).unwrap();
    assert!(summary.best_is_saved);
    assert_eq!(summary.others[0].reference, by_f1());
    assert_eq!(summary.others[0].path, by_f1().path(&runs.run()));
    let run = runs.run();
    assert_eq!(
        (best_step(&run), best_by_f1(&run), last_step(&run)),
        (30, 20, 40)
    );
    // What no ref points at is gone; what one points at is not.
    assert_eq!(checkpoints(&run).len(), 3);
    let view = runs.view();
    let promoted: Vec<(String, u64)> = view
        .entries()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Promoted(event) if event.reference.is_best() => {
                Some((event.reference.to_string(), event.step))
            }
            _ => None,
        })
        .collect();
    let expected = [
        ("best", 10),
        ("best:val/f1_macro", 10),
        ("best", 20),
        ("best:val/f1_macro", 20),
        ("best", 30),
    ];
    assert_eq!(
        promoted,
        expected.map(|(name, step)| (name.to_owned(), step))
    );
    let told = explain(&view).unwrap();
    assert_eq!(
        (told.others[0].step, told.others[0].value),
        (20, 1.0 - (0.6_f64 - 0.62).abs())
    );
    assert!(
        told.others[0].reason.starts_with("val/f1_macro 0.98"),
        "{told:?}"
    );
    let kept = &told.checkpoints[1].reasons;
    assert_eq!(kept, &["it is the best by val/f1_macro"]);
}

#[test]
fn names_pick_a_best_or_say_which_there_are() {
    let runs = Runs::new();
    let mut keeper = runs.create(two_bests());
    for (epoch, value) in [(1, 0.6), (2, 0.9)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    let view = runs.view();
    let step = |text: &str| {
        view.select(&text.parse::<Selector>().unwrap())
            .map(|path| step_of(&path))
    };
    assert_eq!(step("best:val/f1_macro").unwrap(), 10);
    assert_eq!(step("best").unwrap(), 20);
    // The first by what it monitors.
    assert_eq!(step("best:val/accuracy").unwrap(), 20);
    let error = step("best:val/f1").unwrap_err().to_string();
    assert!(
        error.ends_with("only of best, best:val/f1_macro, last"),
        "{error}"
    );
    assert!("best:".parse::<Selector>().is_err());
    assert!("best:1 +".parse::<Selector>().is_err());
}

#[test]
fn a_best_that_waits_is_not_given_up_for_the_best_of_another_objective() {
    // Faster than the disk: whatever overtakes what, each best ends up on disk.
    for values in [[0.5, 0.9, 0.62, 0.3, 0.2], [0.9, 0.95, 0.7, 0.62, 0.5]] {
        let runs = Runs::new();
        let mut keeper = runs.create(two_bests());
        for (i, value) in values.into_iter().enumerate() {
            offer(&mut keeper, i as u64 + 1, value);
        }
        let summary = keeper.finish(json!(null)).unwrap();
        let (best, f1) = if values[0] == 0.5 { (20, 30) } else { (20, 40) };
        assert_eq!(
            (best_step(&runs.run()), best_by_f1(&runs.run())),
            (best, f1)
        );
        assert!(summary.best_is_saved && summary.failures.is_empty());
    }
}

#[test]
fn deleted_refs_and_lost_checkpoints_are_mended() {
    let runs = Runs::new();
    let mut config = two_bests();
    config.retention = vec!["last:9".parse().unwrap()];
    let mut keeper = runs.create(config);
    for (epoch, value) in [(1, 0.5), (2, 0.6), (3, 0.8)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    let (run, path) = (runs.run(), by_f1().path(&runs.run()));
    std::fs::remove_file(&path).unwrap();
    let found = fsck(&run, false).unwrap();
    assert_eq!(found.findings.len(), 1, "{found:?}");
    assert_eq!(found.findings[0].kind, FindingKind::MissingRef);
    assert_eq!(found.findings[0].subject, "best.val-f1_macro.safetensors");
    assert!(fsck(&run, true).unwrap().is_mended());
    assert_eq!(best_by_f1(&run), 20);
    // The ref and its checkpoint: the next best by F1 takes the place, best is as it was.
    std::fs::remove_file(&path).unwrap();
    let name = checkpoints(&run)[1].clone();
    std::fs::remove_file(run.join("checkpoints").join(name)).unwrap();
    assert!(fsck(&run, true).unwrap().is_mended());
    assert_eq!((best_step(&run), best_by_f1(&run)), (30, 10));
    assert!(fsck(&run, false).unwrap().is_clean());
}

#[test]
fn a_resumed_run_goes_on_with_each_best() {
    let runs = Runs::new();
    let mut keeper = runs.create(two_bests());
    for (epoch, value) in [(1, 0.6), (2, 0.7)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    drop(keeper);
    let resumed = Keeper::resume(&runs.run(), two_bests()).unwrap();
    let mut keeper = resumed.keeper;
    // Better by neither, then by F1 alone.
    offer_and_wait(&mut keeper, 3, 0.5);
    assert_eq!((best_step(&runs.run()), best_by_f1(&runs.run())), (20, 10));
    offer_and_wait(&mut keeper, 4, 0.62);
    assert_eq!((best_step(&runs.run()), best_by_f1(&runs.run())), (20, 40));
    assert_eq!(keeper.others()[0].step, 40);
    keeper.finish(json!(null)).unwrap();
    let error = Keeper::resume(&runs.run(), config()).unwrap_err();
    assert!(
        matches!(error, ResumeError::ObjectiveDiffers { .. }),
        "{error}"
    );
}

#[test]
fn nothing_is_monitored_twice() {
    let runs = Runs::new();
    let mut config = two_bests();
    config
        .others
        .push(Objective::new("min:val/f1_macro").unwrap());
    let error = Keeper::create(&runs.run(), "", config).unwrap_err();
    assert!(matches!(error, CreateError::Objective(_)));
    assert_eq!(error.to_string(), "val/f1_macro is monitored twice");
    assert!(!runs.run().exists());
}
