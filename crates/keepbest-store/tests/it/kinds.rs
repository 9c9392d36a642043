//! Links and special files where a run has files and directories of its own.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use keepbest_store::{FileKind, FindingKind, OpenError, RefName, RunReader, RunWriter, fsck};

use crate::support::{Contents, Fixture, best, content, names, read};

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_run_with_a_link_or_a_fifo_in_it_is_refused_and_what_the_link_leads_to_stays() {
    for name in [
        "run.toml",
        "journal.jsonl",
        "lock",
        "model.toml",
        "checkpoints",
        "archives",
        "outcomes",
    ] {
        let fixture = Fixture::new();
        best(&mut fixture.create(), 10, 0.5);
        let path = fixture.run().join(name);
        let outside = fixture.parent.path().join("outside");
        match std::fs::rename(&path, &outside) {
            Ok(()) => {}
            Err(_) => std::fs::write(&outside, "precious").unwrap(),
        }
        let before = outside.is_file().then(|| read(&outside));
        for (kind, make) in [
            (
                FileKind::Link,
                &(|| symlink(&outside, &path).unwrap()) as &dyn Fn(),
            ),
            (FileKind::Fifo, &|| fifo(&path)),
        ] {
            make();
            let refused = |error: OpenError| match error {
                OpenError::Kind { found, .. } => assert_eq!(found, kind, "{name}"),
                other => panic!("{name}: {other:?}"),
            };
            refused(RunReader::open(fixture.run()).unwrap_err());
            refused(RunWriter::open(fixture.run()).unwrap_err());
            refused(fsck(&fixture.run(), true, &Contents).unwrap_err());
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(outside.is_file().then(|| read(&outside)), before, "{name}");
    }
}

#[test]
fn a_run_behind_a_link_is_a_run() {
    let fixture = Fixture::new();
    best(&mut fixture.create(), 10, 0.5);
    let link = fixture.parent.path().join("link");
    symlink(fixture.run(), &link).unwrap();
    best(&mut RunWriter::open(&link).unwrap(), 20, 0.6);
    std::fs::write(fixture.run().join(".staged-x.0"), "half").unwrap();
    let report = fsck(&link, true, &Contents).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(fsck(&link, false, &Contents).unwrap().is_clean());
    symlink("nowhere", fixture.parent.path().join("dangling")).unwrap();
    let error = RunReader::open(fixture.parent.path().join("dangling")).unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error:?}");
}

#[test]
fn a_checkpoint_that_is_no_file_is_set_aside_and_never_opened() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let second = best(&mut writer, 20, 0.6);
    drop(writer);
    let path = second.name().path(&fixture.run());
    for name in [RefName::BEST, RefName::LAST] {
        std::fs::remove_file(name.path(&fixture.run())).unwrap();
        fifo(&name.path(&fixture.run()));
    }
    std::fs::remove_file(&path).unwrap();
    fifo(&path);
    let report = fsck(&fixture.run(), true, &Contents).unwrap();
    assert!(report.is_mended(), "{:?}", report.findings);
    let problem = &report.findings[0].problem;
    assert_eq!(problem, "it is a FIFO, not a regular file");
    assert_eq!(read(&RefName::BEST.path(&fixture.run())), content(10));
    assert!(fsck(&fixture.run(), false, &Contents).unwrap().is_clean());
}

#[test]
fn a_directory_in_the_place_of_best_is_moved_and_pruning_goes_on() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let first = best(&mut writer, 10, 0.5);
    let path = RefName::BEST.path(&fixture.run());
    for number in 1..=2 {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("note"), number.to_string()).unwrap();
        best(&mut writer, number * 100, number as f64);
        assert_eq!(read(&path), content(number * 100));
    }
    writer.settle_refs().unwrap();
    writer.prune(first.name(), "no policy keeps it").unwrap();
    drop(writer);
    let run = fixture.run();
    assert_eq!(read(&run.join("best.safetensors.damaged/note")), "1");
    assert_eq!(read(&run.join("best.safetensors.damaged.2/note")), "2");
    assert!(fsck(&run, false, &Contents).unwrap().is_clean());
    // And in a repair.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = fsck(&run, true, &Contents).unwrap();
    assert_eq!(report.findings[0].kind, FindingKind::DamagedRef);
    assert_eq!(read(&path), content(200));
    assert_eq!(names(&run.join("best.safetensors.damaged.3")).len(), 0);
}
