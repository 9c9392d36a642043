//! A journal that was cut short does not make the files forgotten: what they carry outranks it.

use keepbest_keeper::{Keeper, KeeperConfig, fsck};
use keepbest_store::{FindingKind, RefName};
use serde_json::json;

use crate::support::{
    Runs, best_by_f1, best_step, checkpoints, config, last_step, offer_and_wait, two_bests,
};

/// A run of six evaluations, the best by accuracy at step 20, by F1 at step 50.
fn trained(config: KeeperConfig) -> Runs {
    let runs = Runs::new();
    let mut keeper = runs.create(config);
    for (epoch, value) in [(1, 0.5), (2, 0.9), (3, 0.7), (4, 0.3), (5, 0.62), (6, 0.4)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    runs
}

/// Cuts the journal to its first lines.
fn cut(runs: &Runs, lines: usize) -> usize {
    let path = runs.run().join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: String = text.split_inclusive('\n').take(lines).collect();
    std::fs::write(&path, kept).unwrap();
    text.lines().count()
}

#[test]
fn cut_to_any_length_the_bests_and_the_history_come_back() {
    let lines = cut(&trained(two_bests()), 0);
    assert!(lines > 20, "{lines}");
    for length in 0..lines {
        let runs = trained(two_bests());
        cut(&runs, length);
        let resumed = Keeper::resume(&runs.run(), two_bests()).unwrap();
        assert_eq!(
            resumed.best.as_ref().unwrap().score.value,
            0.9,
            "{length} lines"
        );
        assert_eq!(resumed.point.as_ref().unwrap().step, 60, "{length} lines");
        let steps: Vec<u64> = resumed.history.iter().map(|record| record.step).collect();
        assert_eq!(steps, [10, 20, 30, 40, 50, 60], "{length} lines");
        let mut keeper = resumed.keeper;
        // Better than all but the best.
        assert!(!offer_and_wait(&mut keeper, 7, 0.8), "{length} lines");
        keeper.finish(json!(null)).unwrap();
        let run = runs.run();
        assert_eq!(
            (best_step(&run), best_by_f1(&run), last_step(&run)),
            (20, 50, 70)
        );
        let report = fsck(&run, false).unwrap();
        assert!(report.is_clean(), "{length} lines: {:?}", report.findings);
    }
}

#[test]
fn shortening_is_found_and_said_once() {
    let runs = trained(config());
    let lines = cut(&runs, 1);
    let found = fsck(&runs.run(), false).unwrap();
    assert!(!found.is_clean());
    let mended = fsck(&runs.run(), true).unwrap();
    let told = mended
        .findings
        .iter()
        .find(|finding| finding.kind == FindingKind::ShortenedJournal)
        .unwrap()
        .to_string();
    assert!(
        told.starts_with("journal.jsonl: was cut short: it had ")
            && told.contains("of steps 10 to 60"),
        "{told}"
    );
    assert!(lines > 1 && mended.lost_bests().next().is_none());
    assert!(fsck(&runs.run(), false).unwrap().is_clean());
    // It is in the journal itself, too.
    let view = runs.view();
    assert!(
        view.entries()
            .iter()
            .any(|it| it.event.kind() == "repaired")
    );
    assert_eq!(view.best().unwrap().score.value, 0.9);
}

/// Neither journal nor checkpoints: what the bests and last point at is all there is.
#[test]
fn without_checkpoints_too_the_refs_are_enough() {
    let all = cut(&trained(two_bests()), 0);
    for lines in 0..=all {
        let runs = trained(two_bests());
        cut(&runs, lines);
        std::fs::remove_dir_all(runs.run().join("checkpoints")).unwrap();
        if lines % 2 == 0 {
            // Mended apart from a resume, which knows the objectives.
            fsck(&runs.run(), true).unwrap();
        }
        let resumed = Keeper::resume(&runs.run(), two_bests()).unwrap();
        assert!(resumed.repairs.is_mended(), "{:?}", resumed.repairs);
        assert_eq!(resumed.point.as_ref().unwrap().step, 60, "{lines} lines");
        assert_eq!(best_by_f1(&runs.run()), 50, "{lines} lines");
        let mut keeper = resumed.keeper;
        assert!(!offer_and_wait(&mut keeper, 7, 0.8), "{lines} lines");
        assert!(offer_and_wait(&mut keeper, 8, 0.95), "{lines} lines");
        keeper.finish(json!(null)).unwrap();
        assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (80, 80));
    }
}

/// A best of which nothing tells how good it is is not replaced without a copy.
#[test]
fn a_best_that_tells_nothing_stays() {
    let runs = trained(config());
    cut(&runs, 0);
    // As another program might write it: no evaluation, no history.
    let best = RefName::BEST.path(&runs.run());
    let file = crate::support::open(&best);
    let metadata = keepbest_formats::model_file::ModelMetadata {
        attachments: keepbest_formats::model_file::Attachments {
            evaluation: None,
            history: None,
            provenance: None,
            ..file.metadata.clone().unwrap().attachments
        },
        ..file.metadata.clone().unwrap()
    };
    let image = keepbest_formats::model_file::encode(&file.weights, &file.training, &metadata);
    let mut bytes = Vec::new();
    image.unwrap().write_to(&mut bytes).unwrap();
    for name in checkpoints(&runs.run()) {
        std::fs::remove_file(runs.run().join("checkpoints").join(name)).unwrap();
    }
    for name in ["best.safetensors", "last.safetensors"] {
        std::fs::remove_file(runs.run().join(name)).unwrap();
    }
    std::fs::write(&best, &bytes).unwrap();
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    assert!(
        offer_and_wait(&mut keeper, 7, 0.1),
        "nothing is known to be better"
    );
    keeper.finish(json!(null)).unwrap();
    let kept = checkpoints(&runs.run());
    let stays = kept.iter().any(|name| name.starts_with("00000020-"));
    assert!(stays, "{kept:?}");
}
