//! `best.pth` beside best: it follows, its failures are its own, fsck brings it in step.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keepbest_formats::pth::PthFile;
use keepbest_keeper::{CopyFormat, Keeper, KeeperConfig, KeeperEvent, fsck};
use keepbest_store::faulty::{Call, FaultyFileSystem};
use serde_json::json;

use crate::support::{Runs, best_step, config, offer_and_wait, snapshot};

fn with_pth() -> KeeperConfig {
    KeeperConfig {
        also: Some(CopyFormat::Pth),
        ..config()
    }
}

/// Whether `best.pth` is whole and holds the weights of `step`.
fn holds_step(run: &Path, step: u64) -> bool {
    let file = PthFile::open(CopyFormat::Pth.path(run)).unwrap();
    file.weights(None).unwrap().weights == snapshot(step).weights()
}

#[test]
fn it_follows_best_and_nothing_else() {
    let runs = Runs::new();
    let mut keeper = runs.create(with_pth());
    for (epoch, value, best) in [(1, 0.5, 10), (2, 0.4, 10), (3, 0.7, 30), (4, 0.6, 30)] {
        offer_and_wait(&mut keeper, epoch, value);
        assert!(holds_step(&runs.run(), best), "epoch {epoch}");
    }
    let summary = keeper.finish(json!(null)).unwrap();
    assert_eq!(summary.also, Some(runs.run().join("best.pth")));
    assert_eq!(summary.also_error, None);
    assert!(fsck(&runs.run(), false).unwrap().is_clean());
}

#[test]
fn without_the_setting_there_is_none() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    offer_and_wait(&mut keeper, 1, 0.5);
    assert_eq!(keeper.finish(json!(null)).unwrap().also, None);
    assert!(!CopyFormat::Pth.path(&runs.run()).exists());
}

/// Each call for `best.pth` fails in turn: best has moved, `best.pth` is the one before, whole, and comes in step with the next save.
#[test]
fn its_failure_is_loud_harms_nothing_and_is_made_good() {
    let mut failing = 0;
    for nth in 0.. {
        let runs = Runs::new();
        let fs = FaultyFileSystem::new(runs.parent()).unwrap();
        let mut keeper =
            Keeper::create_on(Arc::new(fs.clone()), &runs.run(), "seed = 1\n", with_pth()).unwrap();
        offer_and_wait(&mut keeper, 1, 0.5);
        keeper.events();
        let mut seen = 0;
        fs.fail(move |call: &Call| {
            let name = call.path.to_string_lossy();
            let ours = name.ends_with("best.pth") || name.contains("best.pth.");
            seen += usize::from(ours);
            (ours && seen == nth + 1).then(|| io::Error::other("the disk is tired"))
        });
        offer_and_wait(&mut keeper, 2, 0.6);
        fs.heal();
        assert_eq!(best_step(&runs.run()), 20);
        let failed: Vec<String> = keeper
            .events()
            .iter()
            .filter(|event| matches!(event, KeeperEvent::AlsoFailed { .. }))
            .map(ToString::to_string)
            .collect();
        if failed.is_empty() {
            assert!(holds_step(&runs.run(), 20));
            assert!(keeper.finish(json!(null)).unwrap().also_error.is_none());
            break;
        }
        failing += 1;
        assert!(failed[0].contains("the disk is tired"), "{failed:?}");
        assert!(holds_step(&runs.run(), 10) || holds_step(&runs.run(), 20));
        // Not a new best, but a save: it is tried again.
        offer_and_wait(&mut keeper, 3, 0.55);
        assert!(holds_step(&runs.run(), 20), "after failure {nth}");
        let summary = keeper.finish(json!(null)).unwrap();
        assert_eq!((summary.failures.len(), summary.also_error), (0, None));
        assert!(fsck(&runs.run(), false).unwrap().is_clean());
    }
    assert!(failing >= 4, "only {failing} calls");
}

#[test]
fn what_is_missing_stale_or_damaged_is_found_and_made_anew() {
    let runs = Runs::new();
    let run = runs.run();
    let pth = CopyFormat::Pth.path(&run);
    let mut keeper = runs.create(with_pth());
    offer_and_wait(&mut keeper, 1, 0.5);
    let old = std::fs::read(&pth).unwrap();
    offer_and_wait(&mut keeper, 2, 0.7);
    keeper.finish(json!(null)).unwrap();
    let new = std::fs::read(&pth).unwrap();
    let mut damaged = new.clone();
    damaged[new.len() / 2] ^= 1;
    let cut = new[..new.len() / 2].to_vec();
    for (wrong, problem) in [
        (None, "best.pth: is missing"),
        (Some(old), "best.pth: is not best"),
        (Some(damaged), "best.pth: is not best"),
        (Some(cut), "best.pth: is not best"),
    ] {
        match &wrong {
            None => std::fs::remove_file(&pth).unwrap(),
            Some(bytes) => std::fs::write(&pth, bytes).unwrap(),
        }
        let report = fsck(&run, false).unwrap();
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!(report.findings[0].to_string(), problem);
        let report = fsck(&run, true).unwrap();
        assert!(report.is_mended(), "{:?}", report.findings);
        assert_eq!(std::fs::read(&pth).unwrap(), new);
        assert!(fsck(&run, false).unwrap().is_clean());
        // Resuming does it too.
        if let Some(bytes) = &wrong {
            std::fs::write(&pth, bytes).unwrap();
            let resumed = Keeper::resume(&run, with_pth()).unwrap();
            resumed.keeper.finish(json!(null)).unwrap();
            assert_eq!(std::fs::read(&pth).unwrap(), new);
        }
    }
}

/// The weights of a best whose own file was lost are not overwritten by those of the one before it.
#[test]
fn the_only_copy_of_a_lost_best_is_set_aside() {
    let runs = Runs::new();
    let run = runs.run();
    let mut keeper = runs.create(KeeperConfig {
        retention: vec!["best:2".parse().unwrap()],
        ..with_pth()
    });
    offer_and_wait(&mut keeper, 1, 0.5);
    offer_and_wait(&mut keeper, 2, 0.7);
    keeper.finish(json!(null)).unwrap();
    let best = std::fs::read(CopyFormat::Pth.path(&run)).unwrap();
    let path = run.join("best.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    // In place: every name of the file has it.
    std::fs::write(&path, &bytes).unwrap();
    let report = fsck(&run, true).unwrap();
    assert!(report.is_mended(), "{:?}", report.findings);
    assert_eq!(best_step(&run), 10);
    assert!(holds_step(&run, 10));
    assert_eq!(std::fs::read(run.join("best.lost.pth")).unwrap(), best);
    assert!(fsck(&run, false).unwrap().is_clean());
}

/// The best that is left may be later than the one that was lost; `best.pth` is not overwritten by it, by whichever way it comes.
#[test]
fn a_lost_best_is_kept_also_when_what_is_left_is_later() {
    for resumed in [true, false] {
        let runs = Runs::new();
        let run = runs.run();
        let config = KeeperConfig {
            retention: vec!["last:2".parse().unwrap()],
            ..with_pth()
        };
        let mut keeper = runs.create(config.clone());
        for (epoch, value) in [(1, 0.7), (2, 0.4), (3, 0.5)] {
            offer_and_wait(&mut keeper, epoch, value);
        }
        keeper.finish(json!(null)).unwrap();
        let best = std::fs::read(CopyFormat::Pth.path(&run)).unwrap();
        let path = run.join("best.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let report = match resumed {
            true => {
                let resumed = Keeper::resume(&run, config.clone()).unwrap();
                let summary = resumed.keeper.finish(json!(null)).unwrap();
                let told = summary.events.iter().map(ToString::to_string);
                assert!(told.into_iter().any(|it| it.contains("best.lost.pth")));
                resumed.repairs
            }
            false => fsck(&run, true).unwrap(),
        };
        let lost: Vec<String> = report.lost_bests().map(ToString::to_string).collect();
        assert_eq!(lost.len(), 1, "{report:?}");
        assert!(
            lost[0].contains("0.7") && lost[0].contains("0.5"),
            "{lost:?}"
        );
        assert_eq!(best_step(&run), 30);
        assert!(holds_step(&run, 30));
        assert_eq!(std::fs::read(run.join("best.lost.pth")).unwrap(), best);
        // A second one does not take the first one's place.
        std::fs::write(&path, b"rotten").unwrap();
        std::fs::write(CopyFormat::Pth.path(&run), &best).unwrap();
        fsck(&run, true).unwrap();
        assert_eq!(std::fs::read(run.join("best.lost.pth")).unwrap(), best);
        assert!(fsck(&run, false).unwrap().is_clean());
    }
}
