//! File systems that lack something: what a run loses by it is said at the start, or the run does not begin.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use keepbest_keeper::{Keeper, KeeperEvent, fsck};
use keepbest_store::Guarantee;
use keepbest_store::faulty::{Call, FaultyFileSystem};
use rustix::io::Errno;
use serde_json::json;

use crate::support::{Runs, best_step, config, last_step, offer_and_wait};

/// A file system whose calls of one kind fail.
fn lacking(runs: &Runs, method: &'static str, errno: Errno) -> Arc<FaultyFileSystem> {
    let fs = FaultyFileSystem::new(runs.parent()).unwrap();
    fs.fail(move |call: &Call| {
        (call.method == method).then(|| std::io::Error::from_raw_os_error(errno.raw_os_error()))
    });
    Arc::new(fs)
}

/// A run of three evaluations, its second the best, on a file system without something.
fn run_without(method: &'static str, errno: Errno) -> (Runs, Guarantee) {
    let runs = Runs::new();
    let fs = lacking(&runs, method, errno);
    let mut keeper = Keeper::create_on(fs, &runs.run(), "seed = 1\n", config()).unwrap();
    let guarantee = keeper.guarantee();
    for (epoch, value) in (1..).zip([0.5, 0.9, 0.6]) {
        offer_and_wait(&mut keeper, epoch, value);
    }
    let failed = |event: &KeeperEvent| matches!(event, KeeperEvent::SaveFailed(_));
    assert!(!keeper.events().iter().any(failed));
    assert!(keeper.finish(json!(null)).unwrap().best_is_saved);
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 30));
    assert!(fsck(&runs.run(), false).unwrap().is_clean());
    let started = runs.view().state().started.clone().unwrap();
    assert_eq!(started.guarantee, Some(guarantee));
    (runs, guarantee)
}

#[test]
fn a_whole_one_gives_the_whole_guarantee_and_probing_leaves_nothing() {
    let runs = Runs::new();
    let keeper = runs.create(config());
    let text = keeper.guarantee().to_string();
    assert_eq!(text, "safe against kill and power loss");
    keeper.finish(json!(null)).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(runs.run())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["checkpoints", "journal.jsonl", "lock", "run.toml"]);
}

#[test]
fn without_hard_links_best_and_last_are_copies() {
    let (runs, guarantee) = run_without("hard_link", Errno::PERM);
    assert!(!guarantee.hard_links && guarantee.power_loss);
    assert!(guarantee.to_string().contains("best and last are copies"));
    let best = std::fs::metadata(runs.run().join("best.safetensors")).unwrap();
    assert_eq!(best.nlink(), 1);
}

#[test]
fn without_directory_syncs_power_loss_is_not_promised() {
    for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
        let (_, guarantee) = run_without("sync_dir", errno);
        assert!(guarantee.hard_links && !guarantee.power_loss);
        assert!(guarantee.to_string().contains("not power loss"));
    }
}

#[test]
fn without_truncation_a_torn_journal_is_written_anew() {
    let (runs, _) = run_without("truncate", Errno::OPNOTSUPP);
    let journal = runs.run().join("journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &whole[..whole.len() - 5]).unwrap();
    let fs = lacking(&runs, "truncate", Errno::OPNOTSUPP);
    let resumed = Keeper::resume_on(fs, &runs.run(), config()).unwrap();
    resumed.keeper.finish(json!(null)).unwrap();
    assert!(fsck(&runs.run(), false).unwrap().is_clean());
    assert_eq!(best_step(&runs.run()), 20);
}

#[test]
fn without_a_rename_that_replaces_the_run_does_not_begin() {
    let runs = Runs::new();
    let fs = FaultyFileSystem::new(runs.parent()).unwrap();
    let probed = |call: &Call| call.path.to_string_lossy().contains("probe");
    fs.fail(move |call: &Call| {
        (call.method == "rename" && probed(call))
            .then(|| std::io::Error::from_raw_os_error(Errno::EXIST.raw_os_error()))
    });
    let error = Keeper::create_on(Arc::new(fs), &runs.run(), "seed = 1\n", config()).unwrap_err();
    assert!(
        error.to_string().contains("replace a file by a rename in"),
        "{error}"
    );
}
