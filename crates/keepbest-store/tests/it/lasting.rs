//! Errors that last: every call fails from some point on, for good. Nothing loops, nothing is touched, and it goes on afterwards.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keepbest_store::faulty::{Call, Disturbance, FaultyFileSystem};
use keepbest_store::{
    CheckpointKind, OpenError, RefName, RunDir, RunReader, RunWriter, fsck, fsck_on,
};
use rustix::io::Errno;

use crate::support::{
    Contents, Fixture, best, content, digest, evaluate, put, read, start, tree, verify_staged,
};

/// What a system call of a file system can answer.
pub(crate) const ERRNOS: [(&str, Errno); 26] = [
    ("EPERM", Errno::PERM),
    ("ENOENT", Errno::NOENT),
    ("EINTR", Errno::INTR),
    ("EIO", Errno::IO),
    ("ENXIO", Errno::NXIO),
    ("EBADF", Errno::BADF),
    ("EAGAIN", Errno::AGAIN),
    ("ENOMEM", Errno::NOMEM),
    ("EACCES", Errno::ACCESS),
    ("EBUSY", Errno::BUSY),
    ("EEXIST", Errno::EXIST),
    ("EXDEV", Errno::XDEV),
    ("ENOTDIR", Errno::NOTDIR),
    ("EISDIR", Errno::ISDIR),
    ("EINVAL", Errno::INVAL),
    ("ENFILE", Errno::NFILE),
    ("EMFILE", Errno::MFILE),
    ("EFBIG", Errno::FBIG),
    ("ENOSPC", Errno::NOSPC),
    ("EROFS", Errno::ROFS),
    ("ENAMETOOLONG", Errno::NAMETOOLONG),
    ("ELOOP", Errno::LOOP),
    ("EDQUOT", Errno::DQUOT),
    ("ESTALE", Errno::STALE),
    ("ETIMEDOUT", Errno::TIMEDOUT),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
];

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// Fails when something takes so long that it must be a loop without end.
fn in_time<T: Send + 'static>(what: String, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = act();
        let _ = done.send(());
        result
    });
    if wait.recv_timeout(Duration::from_secs(300)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{what} does not come to an end");
    }
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn on_faulty(fixture: &Fixture) -> (FaultyFileSystem, RunWriter) {
    let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
    let mut writer = RunDir::create_on(Arc::new(fs.clone()), fixture.run()).unwrap();
    start(&mut writer);
    (fs, writer)
}

/// One save and promotion, as a caller would do it.
fn try_best(writer: &mut RunWriter, step: u64) -> Result<(), Box<dyn std::error::Error>> {
    let text = content(step);
    let name = writer.free_name(step, &digest(step), CheckpointKind::Full)?;
    let staged = writer.stage(name, text.len() as u64)?;
    let (committed, _) = staged.commit(put(&text), verify_staged)?;
    writer.record_saved(&committed, step, step / 10, digest(step))?;
    let event = keepbest_store::PromotedEvent::new(RefName::BEST, &committed, step, step / 10);
    let score = keepbest_core::Score {
        value: step as f64,
        tie: None,
    };
    writer.promote(&committed, event.with_score(score, None))?;
    writer.settle_refs()?;
    Ok(())
}

#[test]
fn every_call_failing_for_good_from_any_call_on_ends_and_keeps_the_best() {
    let mut points = 0;
    for (name, errno) in ERRNOS {
        for nth in 0.. {
            let fixture = Fixture::in_memory();
            let (fs, mut writer) = on_faulty(&fixture);
            evaluate(&mut writer, 10, 0.1);
            try_best(&mut writer, 10).unwrap();
            evaluate(&mut writer, 20, 0.2);
            let first = fs.calls();
            fs.fail(move |call: &Call| (call.index >= first + nth).then(|| os_error(errno)));
            let at = format!("{name} from call {nth} on");
            let (mut writer, failed) = in_time(at.clone(), move || {
                let failed = try_best(&mut writer, 20).is_err();
                // And once more, as the next evaluation would.
                let _ = try_best(&mut writer, 30);
                (writer, failed)
            });
            let reached = fs.calls() > first + nth;
            let found = read(&RefName::BEST.path(&fixture.run()));
            assert!([10, 20, 30].map(content).contains(&found), "{at}");
            assert!(
                failed || !reached || found != content(10),
                "{at} is not told"
            );
            fs.heal();
            writer.settle_refs().unwrap();
            evaluate(&mut writer, 40, 0.4);
            try_best(&mut writer, 40).unwrap_or_else(|error| panic!("{at}: {error}"));
            drop(writer);
            let report = fsck(&fixture.run(), true, &Contents).unwrap();
            assert!(report.is_mended(), "{at}: {:?}", report.findings);
            assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(40));
            if found == content(30) {
                break;
            }
            points += 1;
            assert!(nth < 1000, "the rounds do not end");
        }
    }
    println!("{points} points of lasting failure, 0 bests lost");
    assert!(points >= 15 * ERRNOS.len(), "only {points}");
}

#[test]
fn a_name_is_not_looked_for_without_end() {
    for (name, errno) in ERRNOS {
        let fixture = Fixture::in_memory();
        let (fs, writer) = on_faulty(&fixture);
        fs.fail(move |call: &Call| (call.method == "stat").then(|| os_error(errno)));
        let found = in_time(name.to_owned(), move || {
            writer.free_name(10, &digest(10), CheckpointKind::Full)
        });
        found.unwrap_err();
    }
    // As it was found: a file in the place of the directory.
    let fixture = Fixture::new();
    let writer = fixture.create();
    std::fs::remove_dir(fixture.run().join("checkpoints")).unwrap();
    std::fs::write(fixture.run().join("checkpoints"), "").unwrap();
    let error = writer.free_name(10, &digest(10), CheckpointKind::Full);
    assert_eq!(
        error.unwrap_err().source.kind(),
        io::ErrorKind::NotADirectory
    );
}

#[test]
fn interrupted_delayed_and_shortened_calls_change_nothing() {
    for (what, disturb) in [
        (
            "interrupted",
            (|call| match call.index % 3 {
                0 => None,
                1 => Some(Disturbance::Fail(os_error(Errno::INTR))),
                _ if call.method == "sync_data" => None,
                _ => Some(Disturbance::Fail(os_error(Errno::AGAIN))),
            }) as fn(&Call) -> Option<Disturbance>,
        ),
        ("delayed", |_| {
            Some(Disturbance::Delay(Duration::from_millis(2)))
        }),
        ("shortened", |_| Some(Disturbance::Shorten(7))),
    ] {
        let fixture = Fixture::new();
        let (fs, mut writer) = on_faulty(&fixture);
        fs.disturb(disturb);
        best(&mut writer, 10, 0.1);
        best(&mut writer, 20, 0.2);
        drop(writer);
        assert_eq!(
            read(&RefName::BEST.path(&fixture.run())),
            content(20),
            "{what}"
        );
        let report = fsck_on(Arc::new(fs), &fixture.run(), true, &Contents).unwrap();
        assert!(report.is_clean(), "{what}: {:?}", report.findings);
    }
}

#[test]
fn a_repair_that_cannot_read_ends_and_has_touched_nothing() {
    let mut points = 0;
    for (name, errno) in ERRNOS {
        for nth in 0.. {
            let fixture = Fixture::in_memory();
            let mut writer = fixture.create();
            best(&mut writer, 10, 0.5);
            let second = best(&mut writer, 20, 0.6);
            drop(writer);
            // Something to mend, so that a repair would touch something.
            std::fs::write(second.name().path(&fixture.run()), "rotten").unwrap();
            std::fs::write(fixture.run().join(".staged-x.0"), "half").unwrap();
            let before = tree(&fixture.run());
            let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
            let mut reads = 0;
            let reading = |call: &Call| ["read", "list", "stat"].contains(&call.method);
            fs.fail(move |call: &Call| {
                reads += usize::from(reading(call));
                (reading(call) && reads > nth).then(|| os_error(errno))
            });
            let (at, run) = (format!("{name} from read {nth} on"), fixture.run());
            let result = in_time(at.clone(), move || {
                fsck_on(Arc::new(fs), &run, true, &Contents)
            });
            match result {
                Ok(report) => {
                    assert!(report.is_mended(), "{at}");
                    break;
                }
                // Later reads are those of the mending itself.
                Err(_) if tree(&fixture.run()) != before => {
                    assert!(nth >= 15, "{at}: a repair that had not read all began");
                }
                Err(_) => points += 1,
            }
            let report = fsck(&fixture.run(), true, &Contents).unwrap();
            assert!(report.is_mended(), "{at}: {:?}", report.findings);
            assert_eq!(
                read(&RefName::BEST.path(&fixture.run())),
                content(10),
                "{at}"
            );
            assert!(nth < 1000, "the rounds do not end");
        }
    }
    println!("{points} repairs that could not read, 0 files touched");
    assert!(points >= 10 * ERRNOS.len(), "only {points}");
}

#[test]
fn what_cannot_be_read_is_not_taken_for_damaged() {
    use keepbest_store::{BoxError, CheckpointName, SavedEvent, Verified, Verifier, VerifyError};
    struct Unreadable;
    impl Verifier for Unreadable {
        fn checkpoint(&self, _: &std::path::Path) -> Result<Verified, VerifyError> {
            Err(VerifyError::Unread(os_error(Errno::NOMEM).into()))
        }
        fn archive(
            &self,
            _: &std::path::Path,
            _: &[SavedEvent],
        ) -> Result<Vec<(CheckpointName, String)>, BoxError> {
            Ok(Vec::new())
        }
    }
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    drop(writer);
    let before = tree(&fixture.run());
    for repair in [false, true] {
        let error = fsck(&fixture.run(), repair, &Unreadable).unwrap_err();
        assert!(matches!(error, OpenError::Unread { .. }), "{error:?}");
        assert_eq!(tree(&fixture.run()), before);
    }
}

#[test]
fn what_was_set_aside_and_is_whole_is_taken_back_and_is_best_again() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let second = best(&mut writer, 20, 0.6);
    drop(writer);
    let run = fixture.run();
    let path = second.name().path(&run);
    let aside = |number: &str| run.join(format!("checkpoints/{}.damaged{number}", second.name()));
    // What an earlier version did when memory was short.
    std::fs::write(&path, "rotten").unwrap();
    assert!(fsck(&run, true, &Contents).unwrap().is_mended());
    assert_eq!(read(&RefName::BEST.path(&run)), content(10));
    assert_eq!(read(&aside("")), "rotten");
    // What is damaged stays aside.
    assert!(fsck(&run, true, &Contents).unwrap().is_clean());
    std::fs::write(aside(""), content(20)).unwrap();
    let other_name = run.join("best.safetensors.damaged");
    std::fs::hard_link(aside(""), &other_name).unwrap();
    let report = fsck(&run, true, &Contents).unwrap();
    assert!(report.is_mended(), "{:?}", report.findings);
    assert_eq!(
        report.findings[0].kind,
        keepbest_store::FindingKind::SetAside
    );
    assert_eq!(read(&path), content(20));
    assert!(!aside("").exists() && !other_name.exists());
    for name in [RefName::BEST, RefName::LAST] {
        assert_eq!(read(&name.path(&run)), content(20));
    }
    let state = RunReader::open(&run).unwrap().state().unwrap();
    assert_eq!(state.best().unwrap().score.unwrap().value, 0.6);
    assert!(fsck(&run, true, &Contents).unwrap().is_clean());
    // Damaged once more: what was set aside before is not replaced.
    std::fs::write(aside(""), "an older one").unwrap();
    std::fs::write(&path, "rotten again").unwrap();
    assert!(fsck(&run, true, &Contents).unwrap().is_mended());
    assert_eq!(read(&aside("")), "an older one");
    assert_eq!(read(&aside(".2")), "rotten again");
}

#[test]
fn a_run_that_cannot_be_created_leaves_its_name_free() {
    let mut points = 0;
    for nth in 0.. {
        let fixture = Fixture::new();
        let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
        fs.fail(move |call: &Call| (call.index == nth).then(|| os_error(Errno::NOSPC)));
        match RunDir::create_on(Arc::new(fs.clone()), fixture.run()) {
            Ok(_) => break,
            Err(_) => points += 1,
        }
        assert!(!fixture.run().exists(), "call {nth}");
        fs.heal();
        RunDir::create_on(Arc::new(fs), fixture.run()).unwrap();
    }
    assert!(points >= 4, "only {points} calls could fail");
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    evaluate(&mut writer, 10, 0.5);
    writer.discard();
    assert!(!fixture.run().exists());
    // A run with something in it stays.
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    writer.discard();
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(10));
}

#[test]
fn a_journal_that_is_removed_or_replaced_comes_back_whole() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let path = fixture.run().join("journal.jsonl");
    let before = read(&path);
    std::fs::remove_file(&path).unwrap();
    best(&mut writer, 20, 0.6);
    assert!(read(&path).starts_with(&before));
    std::fs::write(path.with_extension("new"), "mine").unwrap();
    std::fs::rename(path.with_extension("new"), &path).unwrap();
    best(&mut writer, 30, 0.7);
    drop(writer);
    assert_eq!(read(&fixture.run().join("journal.jsonl.damaged")), "mine");
    let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
    let repaired = journal
        .entries
        .iter()
        .filter(|entry| entry.event.kind() == "repaired");
    assert_eq!(repaired.count(), 2);
    assert!(fsck(&fixture.run(), false, &Contents).unwrap().is_clean());
}
