//! Staging, committing, promoting, pruning.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use keepbest_store::{
    BoxError, CheckpointKind, CommitError, IoError, PruneError, ReadBack, RefName,
};

use crate::support::{
    Fixture, best, content, digest, names, promote, put, read, save, verify_staged,
};

#[test]
fn a_dropped_file_leaves_nothing() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    let name = writer
        .free_name(10, &digest(10), CheckpointKind::Full)
        .unwrap();
    let staged = writer.stage(name, 3).unwrap();
    assert_eq!(names(&fixture.run().join("checkpoints")).len(), 1);
    drop(staged);
    assert!(names(&fixture.run().join("checkpoints")).is_empty());
}

#[test]
fn what_does_not_read_back_is_removed() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    let name = writer
        .free_name(10, &digest(10), CheckpointKind::Full)
        .unwrap();
    let staged = writer.stage(name.clone(), 3).unwrap();
    let error = staged
        .commit(put("not what it should be\n"), verify_staged)
        .unwrap_err();
    assert!(matches!(error, CommitError::Verify { .. }), "{error:?}");
    assert!(names(&fixture.run().join("checkpoints")).is_empty());
    // The name is free again.
    assert_eq!(
        writer
            .free_name(10, &digest(10), CheckpointKind::Full)
            .unwrap(),
        name
    );
}

#[test]
fn what_was_not_written_to_its_end_is_removed() {
    let fixture = Fixture::new();
    let writer = fixture.create();
    let attempt = |write: fn(&mut dyn Write) -> Result<(), CommitError>| {
        let name = writer
            .free_name(10, &digest(10), CheckpointKind::Full)
            .unwrap();
        let staged = writer.stage(name, 3).unwrap();
        // The reader waits for bytes that never come.
        let waits = |mut file: ReadBack| -> Result<(), BoxError> {
            std::io::copy(&mut file, &mut std::io::sink())?;
            Ok(())
        };
        staged.commit(write, waits)
    };
    let error = attempt(|out| {
        out.write_all(&vec![7; 1 << 20]).unwrap();
        let full = std::io::ErrorKind::StorageFull.into();
        Err(IoError::at("write", Path::new("a checkpoint"))(full).into())
    });
    assert!(
        matches!(&error, Err(CommitError::Io(error)) if error.source.kind() == std::io::ErrorKind::StorageFull),
        "{error:?}"
    );
    let panicking = || attempt(|_| panic!("a writer that panics"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).unwrap_err();
    assert!(names(&fixture.run().join("checkpoints")).is_empty());
}

#[test]
fn a_named_checkpoint_is_never_written_again() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let first = save(&mut writer, 10);
    let error = writer.stage(first.name().clone(), 3).unwrap_err();
    assert!(matches!(error, CommitError::Exists { .. }), "{error:?}");
    let second = save(&mut writer, 10);
    assert_ne!(first.name(), second.name());
    assert_eq!(
        names(&fixture.run().join("checkpoints")),
        [second.name().to_string(), first.name().to_string()]
    );
}

#[test]
fn refs_are_links_and_best_and_last_share_one_file() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let committed = best(&mut writer, 10, 0.5);
    let inode = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    let run = fixture.run();
    let original = committed.name().path(&run);
    for reference in [RefName::BEST, RefName::LAST] {
        assert_eq!(inode(&reference.path(&run)), inode(&original));
    }
    assert_eq!(std::fs::metadata(&original).unwrap().nlink(), 3);
    // Promoting the same one again changes nothing and leaves nothing behind.
    promote(&mut writer, &committed, RefName::BEST, 0.5);
    assert_eq!(std::fs::metadata(&original).unwrap().nlink(), 3);
}

#[test]
fn a_mapped_best_stays_as_it_is_while_another_is_promoted() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    let mut open = std::fs::File::open(RefName::BEST.path(&fixture.run())).unwrap();
    best(&mut writer, 20, 0.6);
    writer.prune(old.name(), "no policy keeps it").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut open, &mut text).unwrap();
    assert_eq!(text, content(10));
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(20));
}

#[test]
fn permissions_follow_the_umask() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let committed = best(&mut writer, 10, 0.5);
    // What the umask makes of an ordinary file, without touching the umask of the whole process.
    let ordinary = fixture.parent.path().join("ordinary");
    std::fs::File::create(&ordinary).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    let run = fixture.run();
    for path in [
        committed.name().path(&run),
        RefName::BEST.path(&run),
        run.join("run.toml"),
        run.join("journal.jsonl"),
    ] {
        assert_eq!(mode(&path), mode(&ordinary), "{}", path.display());
    }
}

#[test]
fn what_a_ref_points_at_is_not_pruned() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    let last = save(&mut writer, 20);
    promote(&mut writer, &last, RefName::LAST, 0.0);
    for (committed, reference) in [(&old, RefName::BEST), (&last, RefName::LAST)] {
        match writer.prune(committed.name(), "a mistake").unwrap_err() {
            PruneError::Referenced { reference: by, .. } => assert_eq!(by, reference),
            other => panic!("{other:?}"),
        }
        assert!(committed.name().path(&fixture.run()).exists());
    }
}

#[test]
fn a_checkpoint_that_is_gone_already_is_pruned_in_the_journal() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = save(&mut writer, 10);
    std::fs::remove_file(old.name().path(&fixture.run())).unwrap();
    writer.prune(old.name(), "no policy keeps it").unwrap();
    assert_eq!(writer.state().present().count(), 0);
}
