//! Archived checkpoints come back bit for bit, whatever happens while they are packed, and damage to an archive is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::retention::Policy;
use keepbest_keeper::{
    RunView, Selector, archive_run, archive_run_on, fsck, read_archived, restore, restore_on,
};
use keepbest_store::FindingKind;
use keepbest_store::faulty::FaultyFileSystem;
use serde_json::json;

use crate::support::{Runs, config, offer_and_wait};

/// A finished run with five checkpoints, of steps 10 to 50; step 20 is best.
fn finished() -> Runs {
    let runs = Runs::new();
    let mut config = config();
    config.retention = vec!["last:9".parse::<Policy>().unwrap()];
    let mut keeper = runs.create(config);
    for (epoch, value) in (1..).zip([0.5, 0.9, 0.6, 0.7, 0.8]) {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!(null)).unwrap();
    runs
}

/// Step and bytes of every checkpoint that is a file.
fn files(run: &Path) -> BTreeMap<u64, Vec<u8>> {
    let view = RunView::open(run).unwrap();
    let present = view.state().present();
    present
        .map(|known| {
            let path = known.saved.checkpoint.path(run);
            (known.saved.step, fs::read(path).unwrap())
        })
        .collect()
}

fn come_back(run: &Path, expected: &BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
    let view = RunView::open(run).map_err(|error| format!("{error:?}"))?;
    for (step, bytes) in expected {
        match read_archived(&view, &Selector::Step(*step)) {
            Ok((_, found)) if found == bytes[..] => {}
            Ok(_) => return Err(format!("step {step} comes back as something else")),
            Err(error) => return Err(format!("step {step} does not come back: {error:?}")),
        }
    }
    Ok(())
}

fn check(run: &Path, expected: &BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
    // As a reader finds it, then mended, then archived to the end.
    come_back(run, expected)?;
    let report = fsck(run, true).map_err(|error| format!("fsck: {error:?}"))?;
    if !report.is_mended() {
        return Err(format!("not mended: {report:?}"));
    }
    come_back(run, expected)?;
    let archived = archive_run(run).map_err(|error| format!("archiving again: {error:?}"))?;
    if !archived.left.is_empty() {
        return Err(format!("left: {:?}", archived.left));
    }
    come_back(run, expected)?;
    let again = fsck(run, false).map_err(|error| format!("fsck again: {error:?}"))?;
    match again.is_clean() {
        true => Ok(()),
        false => Err(format!("found after mending: {:?}", again.findings)),
    }
}

#[test]
fn nothing_is_lost_at_any_operation_of_archiving_and_restoring() {
    let runs = finished();
    let expected = files(&runs.run());
    assert_eq!(expected.len(), 5);
    let recorder = FaultyFileSystem::new(runs.parent()).unwrap();
    let shared = || Arc::new(recorder.clone());
    archive_run_on(shared(), &runs.run()).unwrap();
    restore_on(shared(), &runs.run(), &Selector::Step(30)).unwrap();
    let recording = recorder.recording();
    let crashes = recording.crashes();
    let states = crashes.len();
    let mut lost = Vec::new();
    for (at, crash) in crashes.into_iter().enumerate() {
        let root = runs.parent().join(format!("crash{at}"));
        crash.disk.materialise(&root).unwrap();
        if let Err(problem) = check(&root.join("run"), &expected) {
            let survived = &crash.survived;
            lost.push(format!(
                "after {} changes, {survived}: {problem}",
                crash.after
            ));
        }
        fs::remove_dir_all(&root).unwrap();
    }
    println!(
        "archive and restore: {} changes, {states} crashes, {} lost",
        recording.changes.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(states > 50, "the enumeration is too small: {states}");
}

fn archive_file(run: &Path) -> PathBuf {
    run.join("archives/0001.kbarchive")
}

#[test]
fn a_changed_byte_in_an_archive_is_noticed_or_changes_nothing() {
    let runs = finished();
    let run = runs.run();
    let expected = files(&run);
    archive_run(&run).unwrap();
    let path = archive_file(&run);
    let whole = fs::read(&path).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let report = fsck(&run, false).unwrap();
        match report.findings.as_slice() {
            // Bits that mean nothing to the decoder.
            [] => {
                come_back(&run, &expected).unwrap();
                harmless += 1;
            }
            [finding] => {
                assert_eq!(finding.kind, FindingKind::DamagedArchive, "{finding}");
                noticed += 1;
            }
            more => panic!("byte {at}: {more:?}"),
        }
    }
    println!("bytes of an archive changed: {noticed} noticed, {harmless} without effect");
    assert!(noticed > 20 * harmless, "{noticed}, {harmless}");
}

#[test]
fn of_a_damaged_archive_the_rest_comes_back() {
    let runs = finished();
    let run = runs.run();
    let mut expected = files(&run);
    archive_run(&run).unwrap();
    let path = archive_file(&run);
    let mut bytes = fs::read(&path).unwrap();
    // Beside the index, which is last: the newest of the archived, 40, which none depends on.
    let index = bytes
        .windows(11)
        .position(|part| part == b"{\"members\":")
        .unwrap();
    bytes[index - 3] ^= 0xff;
    fs::write(&path, bytes).unwrap();

    let seen = fsck(&run, false).unwrap();
    assert_eq!(seen.findings.len(), 1, "{:?}", seen.findings);
    let text = seen.findings[0].to_string();
    assert!(text.contains("archives/0001.kbarchive"), "{text}");
    assert!(text.contains("checkpoint 00000040-"), "{text}");
    assert!(fsck(&run, true).unwrap().is_mended());
    assert!(fsck(&run, false).unwrap().is_clean());
    restore(&run, &Selector::Step(40)).unwrap_err();
    expected.remove(&40);
    come_back(&run, &expected).unwrap();
}

#[test]
fn a_missing_archive_is_named_and_best_and_last_are_not_in_it() {
    let runs = finished();
    let run = runs.run();
    let mut expected = files(&run);
    archive_run(&run).unwrap();
    fs::remove_file(archive_file(&run)).unwrap();
    let report = fsck(&run, true).unwrap();
    assert!(report.is_mended());
    let text = report.findings[0].to_string();
    assert!(
        text.contains("3 of 3 checkpoints do not come back"),
        "{text}"
    );
    assert!(fsck(&run, false).unwrap().is_clean());
    expected.retain(|step, _| [20, 50].contains(step));
    come_back(&run, &expected).unwrap();
}
