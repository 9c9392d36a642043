//! What a reader has open is not removed.

use keepbest_store::{InUse, PruneError, RefName, is_in_use};

use crate::support::{Fixture, best, content, names, read};

#[test]
fn a_checkpoint_in_use_is_not_pruned() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.1);
    let old_path = old.name().path(&fixture.run());
    // Held by the name that everybody uses, which then moves on.
    let reader = InUse::hold(&RefName::BEST.path(&fixture.run())).unwrap();
    let second = InUse::hold(&old_path).unwrap();
    best(&mut writer, 20, 0.2);
    assert!(is_in_use(&old_path));
    assert!(second.is_named(&old_path));
    assert!(!reader.is_named(&RefName::BEST.path(&fixture.run())));
    let before = writer.state().clone();
    for holder in [reader, second] {
        let error = writer.prune(old.name(), "no policy keeps it").unwrap_err();
        assert!(matches!(error, PruneError::InUse { .. }), "{error:?}");
        assert_eq!(read(&old_path), content(10));
        assert_eq!(writer.state(), &before, "nothing is journalled");
        drop(holder);
    }
    assert!(!is_in_use(&old_path));
    writer.prune(old.name(), "no policy keeps it").unwrap();
    assert_eq!(names(&fixture.run().join("checkpoints")).len(), 1);
}

#[test]
fn a_reader_that_was_killed_holds_nothing() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.1);
    best(&mut writer, 20, 0.2);
    let path = old.name().path(&fixture.run());
    // The lock is inherited by this process, which then holds it alone.
    let mut reader = std::process::Command::new("sleep")
        .arg("600")
        .stdin({
            let file = std::fs::File::open(&path).unwrap();
            file.lock_shared().unwrap();
            file
        })
        .spawn()
        .unwrap();
    let refused = writer.prune(old.name(), "no policy keeps it");
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(matches!(refused, Err(PruneError::InUse { .. })));
    writer.prune(old.name(), "no policy keeps it").unwrap();
}
