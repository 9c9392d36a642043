//! Saves that fail: best stays, training goes on, the next evaluation is saved.

use std::io;
use std::sync::Arc;

use keepbest_keeper::{Keeper, KeeperEvent};
use keepbest_store::faulty::{Call, FaultyFileSystem};
use rustix::io::Errno;
use serde_json::json;

use crate::support::{Runs, best_step, checkpoints, config, last_step, offer_and_wait, open};

fn on_faulty(runs: &Runs) -> (FaultyFileSystem, Keeper) {
    let fs = FaultyFileSystem::new(runs.parent()).unwrap();
    let keeper =
        Keeper::create_on(Arc::new(fs.clone()), &runs.run(), "seed = 1\n", config()).unwrap();
    (fs, keeper)
}

fn failures(keeper: &mut Keeper) -> Vec<String> {
    keeper
        .events()
        .iter()
        .filter(|event| matches!(event, KeeperEvent::SaveFailed(_)))
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_full_disk_keeps_the_old_best_and_the_new_one_is_saved_when_there_is_room() {
    let runs = Runs::new();
    let (fs, mut keeper) = on_faulty(&runs);
    assert!(offer_and_wait(&mut keeper, 1, 0.5));
    fs.limit_space(0);
    assert!(offer_and_wait(&mut keeper, 2, 0.9));
    let failed = failures(&mut keeper);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("bytes free"), "{failed:?}");
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (10, 10));
    fs.heal();
    // Judged as without the failure; and the best is not lost.
    assert!(!offer_and_wait(&mut keeper, 3, 0.6));
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 30));
    assert_eq!(
        keepbest_keeper::fsck(&runs.run(), false).unwrap().findings,
        []
    );
    assert!(!offer_and_wait(&mut keeper, 4, 0.55));
    let summary = keeper.finish(json!(null)).unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 40));
    assert_eq!(summary.failures.len(), 1);
    assert!(summary.best_is_saved && summary.unresolved.is_empty());
    // What it carries is what was known when it was measured.
    let best = open(&runs.run().join("best.safetensors")).metadata.unwrap();
    assert_eq!(best.history.as_ref().unwrap().as_array().unwrap().len(), 1);
    assert_eq!(best.training, Some(json!({"epoch": 2})));
    let report = keepbest_keeper::fsck(&runs.run(), false).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    // The journal has caught up with what it could not take, in order.
    let view = runs.view();
    let kinds: Vec<&str> = view.entries().iter().map(|e| e.event.kind()).collect();
    let at = kinds
        .iter()
        .position(|kind| *kind == "save_failed")
        .unwrap();
    let around = &kinds[at - 1..=at + 3];
    assert_eq!(
        around,
        ["evaluated", "save_failed", "saved", "promoted", "evaluated"]
    );
    assert_eq!(view.history().len(), 4);
}

/// While only what is worse can be saved, that is: a best on disk is better than none.
#[test]
fn what_is_worse_stands_in_until_the_best_can_be_saved() {
    let runs = Runs::new();
    let (fs, mut keeper) = on_faulty(&runs);
    offer_and_wait(&mut keeper, 1, 0.5);
    // Nothing of step 20 can be written, for good.
    let of_20 =
        |call: &Call| call.method != "stat" && call.path.to_string_lossy().contains("00000020-");
    fs.fail(move |call: &Call| of_20(call).then(|| os_error(Errno::NOSPC)));
    offer_and_wait(&mut keeper, 2, 0.9);
    assert!(!offer_and_wait(&mut keeper, 3, 0.6));
    assert_eq!(best_step(&runs.run()), 30);
    assert!(!offer_and_wait(&mut keeper, 4, 0.55));
    assert_eq!(best_step(&runs.run()), 30);
    assert!(!offer_and_wait(&mut keeper, 5, 0.7));
    assert_eq!(best_step(&runs.run()), 50);
    // At the end at the latest.
    fs.heal();
    keeper.settle();
    assert_eq!(keeper.best().unwrap().step, 20);
    let summary = keeper.finish(json!(null)).unwrap();
    assert!(summary.best_is_saved && summary.unresolved.is_empty());
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 50));
}

#[test]
fn a_best_that_never_could_be_saved_is_named_at_the_end() {
    let runs = Runs::new();
    let (fs, mut keeper) = on_faulty(&runs);
    offer_and_wait(&mut keeper, 1, 0.5);
    let of_20 =
        |call: &Call| call.method != "stat" && call.path.to_string_lossy().contains("00000020-");
    fs.fail(move |call: &Call| of_20(call).then(|| os_error(Errno::NOSPC)));
    offer_and_wait(&mut keeper, 2, 0.9);
    offer_and_wait(&mut keeper, 3, 0.6);
    let summary = keeper.finish(json!(null)).unwrap();
    assert!(!summary.best_is_saved);
    let [unsaved] = summary.unsaved.as_slice() else {
        panic!("{:?}", summary.unsaved);
    };
    assert_eq!((unsaved.step, unsaved.score.value), (20, 0.9));
    assert_eq!(summary.best.unwrap().step, 30);
    assert_eq!(summary.unresolved.len(), 1);
    // After a resume what is on disk is to be beaten, and what is not is gone.
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    assert!(offer_and_wait(&mut keeper, 4, 0.65));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 40);
}

/// A checkpoint that the run's rules would have kept is missed; one that they would have dropped is not.
#[test]
fn of_checkpoints_that_could_not_be_saved_those_that_would_stay_are_missed() {
    for (lost, missed) in [(1, false), (3, true)] {
        let runs = Runs::new();
        let fs = FaultyFileSystem::new(runs.parent()).unwrap();
        let config = keepbest_keeper::KeeperConfig {
            retention: vec!["last:2".parse().unwrap()],
            ..config()
        };
        let shared = Arc::new(fs.clone());
        let mut keeper = Keeper::create_on(shared, &runs.run(), "", config).unwrap();
        for epoch in 1..=4 {
            if epoch == lost {
                fs.limit_space(0);
            }
            offer_and_wait(&mut keeper, epoch, 0.1 * epoch as f64);
            fs.heal();
        }
        let summary = keeper.finish(json!(null)).unwrap();
        assert!(summary.best_is_saved);
        assert_eq!(summary.failures.len(), 1, "epoch {lost}");
        assert_eq!(!summary.unresolved.is_empty(), missed, "epoch {lost}");
    }
}

#[test]
fn what_was_lost_and_reached_again_is_no_longer_missed() {
    let runs = Runs::new();
    let (fs, mut keeper) = on_faulty(&runs);
    offer_and_wait(&mut keeper, 1, 0.5);
    fs.limit_space(0);
    offer_and_wait(&mut keeper, 2, 0.9);
    fs.heal();
    offer_and_wait(&mut keeper, 3, 0.95);
    let summary = keeper.finish(json!(null)).unwrap();
    assert!(summary.best_is_saved);
    assert_eq!(summary.failures.len(), 1);
}

/// What a disk, a file system mounted read-only, permissions and a quota answer.
const ERRORS: [(&str, Errno); 5] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EROFS", Errno::ROFS),
    ("EACCES", Errno::ACCESS),
    ("EDQUOT", Errno::DQUOT),
];

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// Each call of a promotion over best with the retention pass that follows, with each error.
#[test]
fn each_call_failing_once_leaves_a_best_that_verifies_and_the_next_is_saved() {
    let (mut points, mut failing) = (0, 0);
    for (name, errno) in ERRORS {
        for nth in 0.. {
            let runs = Runs::new();
            let (fs, mut keeper) = on_faulty(&runs);
            offer_and_wait(&mut keeper, 1, 0.5);
            let first = fs.calls();
            fs.fail(move |call: &Call| (call.index == first + nth).then(|| os_error(errno)));
            offer_and_wait(&mut keeper, 2, 0.6);
            let reached = fs.calls() > first + nth;
            let at = format!("{name} at call {nth}");
            assert!([10, 20].contains(&best_step(&runs.run())), "{at}");
            fs.heal();
            assert!(offer_and_wait(&mut keeper, 3, 0.7), "{at}");
            let summary = keeper.finish(json!(null)).unwrap();
            failing += usize::from(!summary.failures.is_empty());
            assert!(summary.best_is_saved, "{at}");
            assert_eq!(
                (best_step(&runs.run()), last_step(&runs.run())),
                (30, 30),
                "{at}"
            );
            let report = keepbest_keeper::fsck(&runs.run(), true).unwrap();
            assert!(report.is_mended(), "{at}: {:?}", report.findings);
            assert_eq!(best_step(&runs.run()), 30);
            if !reached {
                break;
            }
            points += 1;
            assert!(nth < 1000, "the rounds do not end");
        }
    }
    println!("{points} points of failure, {failing} saves failed, 0 bests lost");
    assert!(failing >= 20 * ERRORS.len(), "only {failing} could fail");
}

/// All that changes a file fails from some call on, as when a file system is remounted read-only, until it is writable again.
#[test]
fn a_disk_that_turns_read_only_at_any_call_keeps_the_best() {
    let mut points = 0;
    for nth in 0.. {
        let runs = Runs::new();
        let (fs, mut keeper) = on_faulty(&runs);
        offer_and_wait(&mut keeper, 1, 0.5);
        let first = fs.calls();
        fs.fail(move |call: &Call| {
            let reads = ["read", "list", "stat", "stat_open", "available_space"];
            let reads = reads.contains(&call.method);
            (call.index >= first + nth && !reads).then(|| os_error(Errno::ROFS))
        });
        offer_and_wait(&mut keeper, 2, 0.6);
        let reached = fs.calls() > first + nth;
        // As a reader finds it, while nothing can be mended.
        let found = best_step(&runs.run());
        assert!([10, 20].contains(&found), "call {nth}");
        if found == 10 {
            assert!(!failures(&mut keeper).is_empty(), "call {nth} is not told");
        }
        fs.heal();
        assert!(offer_and_wait(&mut keeper, 3, 0.7), "call {nth}");
        keeper.finish(json!(null)).unwrap();
        assert_eq!(best_step(&runs.run()), 30, "call {nth}");
        let report = keepbest_keeper::fsck(&runs.run(), true).unwrap();
        assert!(report.is_mended(), "call {nth}: {:?}", report.findings);
        if !reached {
            break;
        }
        points += 1;
        assert!(nth < 1000, "the rounds do not end");
    }
    println!("read-only from each of {points} calls on, 0 bests lost");
}

#[test]
fn a_run_whose_journal_cannot_be_written_promotes_nothing_it_cannot_explain() {
    let runs = Runs::new();
    let (fs, mut keeper) = on_faulty(&runs);
    offer_and_wait(&mut keeper, 1, 0.5);
    fs.fail(|call: &Call| {
        (call.path.ends_with("journal.jsonl") && call.method == "write")
            .then(|| io::Error::from_raw_os_error(5))
    });
    offer_and_wait(&mut keeper, 2, 0.6);
    assert_eq!(best_step(&runs.run()), 10);
    assert_eq!(checkpoints(&runs.run()).len(), 1);
    assert!(!failures(&mut keeper).is_empty());
    let error = keeper.finish(json!(null)).unwrap_err();
    assert!(error.to_string().contains("journal"), "{error}");
}

/// The real thing: the operating system itself refuses to let files grow. A limit belongs to a process, so this test runs
/// itself again in a process of its own.
#[test]
fn the_file_size_limit_of_the_system_is_a_full_disk() {
    const CHILD: &str = "KEEPBEST_TEST_FILE_SIZE_LIMIT";
    if let Ok(run) = std::env::var(CHILD) {
        return limited(std::path::Path::new(&run));
    }
    let runs = Runs::new();
    // With the signal ignored, which only a shell can ask for without unsafe code, a write beyond the limit fails instead.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "failures::the_file_size_limit_of_the_system_is_a_full_disk",
        ])
        .env(CHILD, runs.run())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let view = runs.view();
    let kinds: Vec<&str> = view.entries().iter().map(|e| e.event.kind()).collect();
    assert!(kinds.contains(&"save_failed"), "{kinds:?}");
    // Without the limit the run goes on.
    let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
    assert!(offer_and_wait(&mut keeper, 2, 0.4));
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 20);
}

fn limited(run: &std::path::Path) {
    let mut keeper = Keeper::create(run, "", config()).unwrap();
    // Room for the journal, not for a model.
    let limit = rustix::process::Rlimit {
        current: Some(3072),
        maximum: None,
    };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    assert!(offer_and_wait(&mut keeper, 1, 0.5));
    assert_eq!(keeper.best(), None);
    let failed = failures(&mut keeper);
    assert!(failed[0].contains("File too large"), "{failed:?}");
    assert!(checkpoints(run).is_empty());
}
