//! Creating and opening runs.

use std::path::Path;

use keepbest_store::{CommitError, CreateError, OpenError, RunDir, RunReader, ensure_space};

use crate::support::{Fixture, names, read};

#[test]
fn a_run_has_its_files_and_its_parents_are_made() {
    let fixture = Fixture::new();
    let path = fixture.parent.path().join("a/b/run");
    let mut writer = RunDir::create(&path).unwrap();
    crate::support::start(&mut writer);
    assert_eq!(
        names(&path),
        ["checkpoints", "journal.jsonl", "lock", "run.toml"]
    );
    assert_eq!(read(&path.join("run.toml")), "seed = 1\n");
    let error = writer.write_config("seed = 2\n").unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(
        RunReader::open(&path).unwrap().config().unwrap(),
        "seed = 1\n"
    );
    assert_eq!(RunReader::open(&path).unwrap().name(), "run");
}

#[test]
fn a_relative_path_will_do() {
    // Integration tests run in the crate's directory; nothing is made outside the temporary one.
    let parent = tempfile::tempdir_in(".").unwrap();
    let relative = Path::new(parent.path().file_name().unwrap()).join("run");
    drop(RunDir::create(&relative).unwrap());
    assert!(parent.path().join("run/journal.jsonl").exists());
}

#[test]
fn a_taken_name_is_refused() {
    let fixture = Fixture::new();
    std::fs::write(fixture.run(), "a file").unwrap();
    let error = RunDir::create(fixture.run()).unwrap_err();
    assert!(matches!(error, CreateError::Exists { .. }), "{error:?}");
    assert!(error.to_string().ends_with("run exists already"), "{error}");
    assert_eq!(read(&fixture.run()), "a file");
}

#[test]
fn what_is_not_a_run_is_refused() {
    let fixture = Fixture::new();
    assert!(matches!(
        RunReader::open(fixture.run()).unwrap_err(),
        OpenError::NotFound { .. }
    ));
    std::fs::create_dir(fixture.run()).unwrap();
    let error = RunReader::open(fixture.run()).unwrap_err();
    assert!(error.to_string().ends_with("has no run.toml"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let closed = fixture.parent.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fixture.parent.path(), open).unwrap();
    let read_only = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(&closed, read_only).unwrap();
    let error = as_nobody(move || RunDir::create(closed.join("run")).unwrap_err());
    assert!(error.to_string().contains("closed/run"), "{error}");
    let CreateError::Io(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.source.kind(), std::io::ErrorKind::PermissionDenied);
}

#[cfg(target_os = "linux")]
/// Runs on a thread that has given up being root, for which permissions mean nothing. On Linux credentials belong to threads.
fn as_nobody<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
        }
        act()
    })
    .join()
    .unwrap()
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    writer.ensure_space(1 << 10).unwrap();
    let error = writer.ensure_space(u64::MAX / 2).unwrap_err();
    assert!(matches!(error, CommitError::NoSpace { .. }), "{error:?}");
    let fs = keepbest_store::RealFileSystem;
    assert!(ensure_space(&fs, &fixture.run(), u64::MAX / 2).is_err());
}
