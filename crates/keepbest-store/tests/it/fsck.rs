//! What a crash or a disk can leave, and how it is mended.

use keepbest_store::{FindingKind, FsckReport, RefName, RunReader, RunWriter, fsck};

use crate::support::{
    Contents, Fixture, best, content, digest, evaluate, names, promote, read, save,
};

/// Examines, mends, examines again: the same is found twice and nothing the third time.
fn mend(fixture: &Fixture) -> FsckReport {
    let seen = fsck(&fixture.run(), false, &Contents).unwrap();
    let mended = fsck(&fixture.run(), true, &Contents).unwrap();
    assert!(mended.is_mended(), "{:?}", mended.findings);
    assert!(seen.findings.iter().all(|finding| finding.action.is_none()));
    let first = |report: &FsckReport| report.findings.first().map(|finding| finding.kind);
    assert_eq!(first(&seen), first(&mended));
    let after = fsck(&fixture.run(), true, &Contents).unwrap();
    assert!(after.is_clean(), "{:?}", after.findings);
    mended
}

fn kinds(report: &FsckReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn best_on_disk(fixture: &Fixture) -> String {
    read(&RefName::BEST.path(&fixture.run()))
}

#[test]
fn a_sound_run_is_clean() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    drop(writer);
    let report = mend(&fixture);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.verified.len(), 2);
}

#[test]
fn leftovers_go() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    drop(writer);
    let run = fixture.run();
    std::fs::write(run.join("checkpoints/.staged-x.safetensors.0"), "half").unwrap();
    std::fs::write(run.join(".staged-best.safetensors.0"), "half").unwrap();
    let report = mend(&fixture);
    assert_eq!(kinds(&report), [FindingKind::StagedLeftover; 2]);
    assert_eq!(names(&run.join("checkpoints")).len(), 1);
}

#[test]
fn missing_and_stale_refs_are_set() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    drop(writer);
    let run = fixture.run();
    std::fs::remove_file(RefName::LAST.path(&run)).unwrap();
    std::fs::remove_file(RefName::BEST.path(&run)).unwrap();
    std::fs::hard_link(old.name().path(&run), RefName::BEST.path(&run)).unwrap();
    let report = mend(&fixture);
    assert_eq!(
        kinds(&report),
        [FindingKind::WrongRef, FindingKind::MissingRef]
    );
    assert_eq!(best_on_disk(&fixture), content(20));
    assert_eq!(read(&RefName::LAST.path(&run)), content(20));
}

#[test]
fn a_damaged_best_is_set_aside_and_the_next_best_that_verifies_takes_its_place() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    // Not an improvement then, but better than step 10.
    evaluate(&mut writer, 30, 0.55);
    let third = save(&mut writer, 30);
    promote(&mut writer, &third, RefName::LAST, 0.0);
    let fourth = best(&mut writer, 40, 0.7);
    drop(writer);
    let run = fixture.run();
    let damage = |step: u64| {
        let name = keepbest_store::CheckpointName::new(
            step,
            &digest(step),
            keepbest_store::CheckpointKind::Full,
        );
        std::fs::write(name.path(&run), "rotten").unwrap();
    };
    damage(40);
    damage(20);
    let report = mend(&fixture);
    assert!(kinds(&report).contains(&FindingKind::DamagedCheckpoint));
    assert!(kinds(&report).contains(&FindingKind::UnfinishedPromotion));
    assert_eq!(best_on_disk(&fixture), content(30));
    assert_eq!(read(&RefName::LAST.path(&run)), content(30));
    let aside = format!("{}.damaged", fourth.name());
    assert_eq!(read(&run.join("checkpoints").join(aside)), "rotten");
    let state = RunReader::open(&run).unwrap().state().unwrap();
    assert_eq!(state.best().unwrap().score.unwrap().value, 0.55);
    let reason = state.checkpoints[fourth.name()].pruned.clone().unwrap();
    assert!(reason.contains("does not verify"), "{reason}");
}

#[test]
fn when_nothing_verifies_it_says_so_and_best_is_not_left_damaged() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let only = best(&mut writer, 10, 0.5);
    drop(writer);
    let run = fixture.run();
    std::fs::write(only.name().path(&run), "rotten").unwrap();
    let report = fsck(&run, true, &Contents).unwrap();
    assert!(kinds(&report).contains(&FindingKind::NothingLeft));
    assert!(!report.is_mended());
    assert!(!RefName::BEST.path(&run).exists());
    assert!(!RefName::LAST.path(&run).exists());
    // Training can go on and keep a best again.
    let mut writer = RunWriter::open(&run).unwrap();
    best(&mut writer, 20, 0.4);
    drop(writer);
    assert_eq!(best_on_disk(&fixture), content(20));
    assert!(mend(&fixture).is_clean());
}

#[test]
fn a_checkpoint_without_its_name_comes_back_from_the_ref() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let committed = best(&mut writer, 10, 0.5);
    drop(writer);
    std::fs::remove_file(committed.name().path(&fixture.run())).unwrap();
    let report = mend(&fixture);
    assert_eq!(kinds(&report), [FindingKind::MissingCheckpoint]);
    assert_eq!(read(&committed.name().path(&fixture.run())), content(10));
}

#[test]
fn a_checkpoint_that_is_gone_is_noted() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    drop(writer);
    std::fs::remove_file(old.name().path(&fixture.run())).unwrap();
    assert_eq!(kinds(&mend(&fixture)), [FindingKind::MissingCheckpoint]);
}

#[test]
fn an_orphan_that_is_better_becomes_best_and_another_is_set_aside() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    evaluate(&mut writer, 20, 0.6);
    // Named, then killed before the journal knew.
    let name = writer
        .free_name(20, &digest(20), keepbest_store::CheckpointKind::Full)
        .unwrap();
    std::fs::write(name.path(&fixture.run()), content(20)).unwrap();
    let torn = writer
        .free_name(30, &digest(30), keepbest_store::CheckpointKind::Full)
        .unwrap();
    std::fs::write(torn.path(&fixture.run()), "torn").unwrap();
    drop(writer);
    let report = mend(&fixture);
    assert!(kinds(&report).starts_with(&[FindingKind::Orphan, FindingKind::Orphan]));
    assert_eq!(best_on_disk(&fixture), content(20));
    assert_eq!(read(&RefName::LAST.path(&fixture.run())), content(20));
    assert!(!torn.path(&fixture.run()).exists());
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_damaged() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let second = best(&mut writer, 20, 0.6);
    drop(writer);
    std::fs::write(second.name().path(&fixture.run()), content(10)).unwrap();
    let report = mend(&fixture);
    assert!(
        report.findings[0].problem.contains("its name"),
        "{report:?}"
    );
    assert_eq!(best_on_disk(&fixture), content(10));
}

#[test]
fn a_prune_that_was_cut_short_is_finished() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    let path = old.name().path(&fixture.run());
    writer.prune(old.name(), "no policy keeps it").unwrap();
    std::fs::write(&path, content(10)).unwrap();
    drop(writer);
    assert_eq!(kinds(&mend(&fixture)), [FindingKind::HalfPruned]);
    assert!(!path.exists());
}

#[test]
fn a_damaged_journal_goes_on_without_the_damaged_line() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    drop(writer);
    let path = fixture.run().join("journal.jsonl");
    let text = read(&path);
    let damaged = text.replacen("0.5", "0.9", 1);
    assert_ne!(text, damaged);
    std::fs::write(&path, &damaged).unwrap();
    let report = mend(&fixture);
    assert_eq!(kinds(&report)[0], FindingKind::DamagedJournal);
    assert_eq!(read(&fixture.run().join("journal.jsonl.damaged")), damaged);
    assert_eq!(best_on_disk(&fixture), content(20));
    let state = RunReader::open(fixture.run()).unwrap().state().unwrap();
    assert_eq!(state.best().unwrap().step, 20);
}

#[test]
fn an_examination_beside_a_writer_does_not_take_its_work_for_damage() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    best(&mut writer, 10, 0.5);
    let name = writer
        .free_name(20, &digest(20), keepbest_store::CheckpointKind::Full)
        .unwrap();
    let staged = writer.stage(name, 0).unwrap();
    let report = fsck(&fixture.run(), false, &Contents).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.active_writer.unwrap().pid, std::process::id());
    fsck(&fixture.run(), true, &Contents).unwrap_err();
    drop(staged);
}
