//! One writer a run.

use keepbest_store::{LockError, OpenError, RunReader, RunWriter, active_writer};

use crate::support::{Fixture, best};

#[test]
fn the_second_writer_is_told_who_the_first_is() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    let error = RunWriter::open(fixture.run()).unwrap_err();
    match &error {
        OpenError::Lock(LockError::Held {
            owner: Some(owner), ..
        }) => assert_eq!(owner.pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    assert_eq!(
        active_writer(&fixture.run()).unwrap().map(|o| o.pid),
        Some(std::process::id())
    );
    drop(writer);
    assert_eq!(active_writer(&fixture.run()).unwrap(), None);
    let again = RunWriter::open(fixture.run()).unwrap();
    assert_eq!(again.stale_owner(), None, "the first let go in order");
}

#[test]
fn a_lock_that_is_deleted_lets_no_second_writer_in() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    std::fs::remove_file(fixture.run().join("lock")).unwrap();
    for _ in 0..2 {
        // The second attempt finds the file that the first one made.
        let error = RunWriter::open(fixture.run()).unwrap_err();
        assert!(
            matches!(error, OpenError::Lock(LockError::Held { .. })),
            "{error:?}"
        );
        assert!(active_writer(&fixture.run()).unwrap().is_some());
    }
    drop(writer);
    assert_eq!(active_writer(&fixture.run()).unwrap(), None);
    RunWriter::open(fixture.run()).unwrap();
}

#[test]
fn readers_need_no_lock() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let state = RunReader::open(fixture.run()).unwrap().state().unwrap();
    assert_eq!(state.best().unwrap().step, 10);
    best(&mut writer, 20, 0.6);
}

#[test]
fn a_writer_that_died_is_recognised() {
    let fixture = Fixture::new();
    drop(fixture.create());
    // What a killed process leaves: its name in a file that nothing locks.
    let text = r#"{"host":"elsewhere","pid":4242,"started_ms":1}"#;
    std::fs::write(fixture.run().join("lock"), text).unwrap();
    assert_eq!(active_writer(&fixture.run()).unwrap(), None);
    let writer = RunWriter::open(fixture.run()).unwrap();
    let stale = writer.stale_owner().unwrap();
    assert_eq!((stale.host.as_str(), stale.pid), ("elsewhere", 4242));
}
