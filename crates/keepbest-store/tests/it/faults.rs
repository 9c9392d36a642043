//! Every call can fail: what is on disk stays whole, and the next attempt succeeds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keepbest_store::faulty::{Call, FaultyFileSystem};
use keepbest_store::{
    CheckpointKind, CommitError, PromotedEvent, RefName, RunDir, RunReader, RunWriter, fsck,
};

use crate::support::{
    Contents, Fixture, best, content, digest, evaluate, names, put, read, save, start,
    verify_staged,
};

fn on_faulty(fixture: &Fixture) -> (FaultyFileSystem, RunWriter) {
    let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
    let mut writer = RunDir::create_on(Arc::new(fs.clone()), fixture.run()).unwrap();
    start(&mut writer);
    (fs, writer)
}

fn io_error(kind: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(kind.raw_os_error())
}

/// One save and promotion, stopping at the first error as a caller would.
fn try_best(writer: &mut RunWriter, step: u64) -> Result<(), Box<dyn std::error::Error>> {
    let text = content(step);
    let name = writer.free_name(step, &digest(step), CheckpointKind::Full)?;
    let staged = writer.stage(name, text.len() as u64)?;
    let (committed, _) = staged.commit(put(&text), verify_staged)?;
    writer.record_saved(&committed, step, step / 10, digest(step))?;
    let event = PromotedEvent::new(RefName::BEST, &committed, step, step / 10);
    let score = keepbest_core::Score {
        value: step as f64,
        tie: None,
    };
    writer.promote(&committed, event.with_score(score, None))?;
    Ok(())
}

#[test]
fn each_call_failing_once_costs_at_most_that_save() {
    // How many calls there are is found by the first round without a failure.
    let mut failed_at = 0;
    for nth in 0.. {
        let fixture = Fixture::new();
        let (fs, mut writer) = on_faulty(&fixture);
        evaluate(&mut writer, 10, 0.1);
        try_best(&mut writer, 10).unwrap();
        evaluate(&mut writer, 20, 0.2);
        let first = fs.calls();
        fs.fail(move |call: &Call| {
            (call.index == first + nth).then(|| io_error(rustix::io::Errno::IO))
        });
        let result = try_best(&mut writer, 20);
        let best = read(&RefName::BEST.path(&fixture.run()));
        assert!(
            best == content(10) || best == content(20),
            "call {nth}: best is torn"
        );
        if result.is_ok() && fs.calls() <= first + nth {
            break;
        }
        if result.is_err() {
            failed_at += 1;
            assert!(
                !names(&fixture.run().join("checkpoints"))
                    .iter()
                    .any(|name| name.starts_with(".staged")),
                "call {nth} left a staged file"
            );
        }
        fs.heal();
        writer.settle_refs().unwrap();
        evaluate(&mut writer, 30, 0.3);
        try_best(&mut writer, 30).unwrap_or_else(|error| panic!("call {nth}: {error}"));
        assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(30));
        drop(writer);
        let report = fsck(&fixture.run(), true, &Contents).unwrap();
        assert!(report.is_mended(), "call {nth}: {:?}", report.findings);
        assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(30));
        assert!(nth < 1000, "the rounds do not end");
    }
    assert!(failed_at >= 15, "only {failed_at} calls could fail");
}

#[test]
fn a_file_whose_sync_failed_is_never_synced_again() {
    let fixture = Fixture::new();
    let (fs, mut writer) = on_faulty(&fixture);
    best(&mut writer, 10, 0.1);
    let synced = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&synced);
    fs.fail(move |call: &Call| {
        let staged = call.path.to_string_lossy().contains(".staged-");
        (staged && call.method == "sync_data").then(|| {
            counter.fetch_add(1, Ordering::Relaxed);
            io_error(rustix::io::Errno::IO)
        })
    });
    let error = try_best(&mut writer, 20).unwrap_err();
    assert!(error.to_string().starts_with("cannot sync"), "{error}");
    assert_eq!(synced.load(Ordering::Relaxed), 1);
    assert_eq!(names(&fixture.run().join("checkpoints")).len(), 1);
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(10));
}

#[test]
fn the_journal_goes_on_in_a_new_file_after_a_failed_sync() {
    let fixture = Fixture::new();
    let (fs, mut writer) = on_faulty(&fixture);
    evaluate(&mut writer, 10, 0.1);
    let path = fixture.run().join("journal.jsonl");
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&path);
    let mut once = true;
    fs.fail(move |call: &Call| {
        let journal = call.path.ends_with("journal.jsonl") && call.method == "sync_data";
        (journal && std::mem::take(&mut once)).then(|| io_error(rustix::io::Errno::IO))
    });
    let other = keepbest_store::OtherEvent {
        event: "lost".to_owned(),
        fields: serde_json::Map::new(),
    };
    writer
        .append(keepbest_store::Event::Other(other))
        .unwrap_err();
    evaluate(&mut writer, 20, 0.2);
    assert_ne!(inode(&path), before, "the file was used again");
    drop(writer);
    let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
    let kinds: Vec<&str> = journal.entries.iter().map(|e| e.event.kind()).collect();
    assert_eq!(kinds, ["started", "evaluated", "evaluated"]);
}

#[test]
fn a_full_disk_costs_the_new_save_and_never_the_old_best() {
    let fixture = Fixture::new();
    let (fs, mut writer) = on_faulty(&fixture);
    best(&mut writer, 10, 0.1);
    let len = content(20).len() as u64;
    // Checked before anything is written.
    fs.limit_space(len);
    let error = try_best(&mut writer, 20).unwrap_err();
    assert!(
        matches!(
            error.downcast_ref(),
            Some(CommitError::NoSpace { available, .. }) if *available == len
        ),
        "{error:?}"
    );
    // And found while writing, when someone else was faster: at every number of bytes.
    for space in [0, 1, len / 2, len - 1, len, len + 100, len + 300] {
        fs.limit_space(space);
        fs.fail(|_: &Call| None);
        let result = write_without_check(&mut writer, 20);
        assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(10));
        fs.heal();
        if result.is_ok() {
            continue;
        }
        // The journal is not left with half a line in front of the next one.
        evaluate(&mut writer, 20, 0.05);
        RunReader::open(fixture.run()).unwrap().journal().unwrap();
    }
    best(&mut writer, 30, 0.3);
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(30));
}

/// As `try_best`, but says that it needs nothing.
fn write_without_check(
    writer: &mut RunWriter,
    step: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let name = writer.free_name(step, &digest(step), CheckpointKind::Full)?;
    let target = writer.path().to_owned();
    let staged = match writer.stage(name, 0) {
        Ok(staged) => staged,
        // The reserve for the journal is missing: the same outcome one step earlier.
        Err(error) => {
            assert!(!target.join("checkpoints/.staged").exists());
            return Err(error.into());
        }
    };
    let (committed, _) = staged.commit(put(&content(step)), verify_staged)?;
    writer.record_saved(&committed, step, step / 10, digest(step))?;
    Ok(())
}

#[test]
fn without_hard_links_refs_are_synced_copies() {
    let fixture = Fixture::new();
    let (fs, mut writer) = on_faulty(&fixture);
    fs.fail(|call: &Call| (call.method == "hard_link").then(|| io_error(rustix::io::Errno::PERM)));
    let old = best(&mut writer, 10, 0.1);
    best(&mut writer, 20, 0.2);
    writer.prune(old.name(), "no policy keeps it").unwrap();
    let run = fixture.run();
    for reference in [RefName::BEST, RefName::LAST] {
        assert_eq!(read(&reference.path(&run)), content(20));
        let nlink = std::os::unix::fs::MetadataExt::nlink(
            &std::fs::metadata(reference.path(&run)).unwrap(),
        );
        assert_eq!(nlink, 1);
    }
    assert!(fsck(&run, false, &Contents).unwrap().is_clean());
    // A copy that is damaged is mended from the checkpoint.
    std::fs::write(RefName::BEST.path(&run), "damaged").unwrap();
    drop(writer);
    assert!(fsck(&run, true, &Contents).unwrap().is_mended());
    assert_eq!(read(&RefName::BEST.path(&run)), content(20));
}

#[test]
fn a_ref_that_could_not_be_moved_is_moved_later_and_its_target_is_kept() {
    let fixture = Fixture::new();
    let (fs, mut writer) = on_faulty(&fixture);
    let old = best(&mut writer, 10, 0.1);
    evaluate(&mut writer, 20, 0.2);
    let new = save(&mut writer, 20);
    fs.fail(|call: &Call| {
        (call.method == "rename" && call.path.ends_with("best.safetensors"))
            .then(|| io_error(rustix::io::Errno::IO))
    });
    let event = PromotedEvent::new(RefName::BEST, &new, 20, 2);
    writer.promote(&new, event).unwrap_err();
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(10));
    writer
        .prune(old.name(), "the journal says it is not best any more")
        .unwrap_err();
    writer.settle_refs().unwrap_err();
    fs.heal();
    writer.settle_refs().unwrap();
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(20));
    assert_eq!(names(&fixture.run()).len(), 6);
}
