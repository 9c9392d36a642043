//! A journal that was cut short and, at the same time, files that are damaged or missing and reads that fail: nothing that is whole
//! is lost, and before all is read nothing is touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keepbest_core::EvaluationRecord;
use keepbest_store::faulty::{Call, FaultyFileSystem};
use keepbest_store::{
    BoxError, CheckpointKind, CheckpointName, Event, FileSystem, FsckReport, OpenError, RefName,
    RunReader, SavedEvent, Testimony, Verified, Verifier, VerifyError, fsck_on,
};
use rustix::io::Errno;

use crate::support::{
    Contents, Fixture, best, content, digest, evaluate, promote, read, save, tree, verify,
};

/// What the files of a run carry, by step: the evaluations so far, and how many events the journal had.
type Carried = BTreeMap<u64, (Vec<EvaluationRecord>, u64)>;

/// Knows files made of [`content`], which it reads through the file system that fails, and what they carry.
struct Carrying<'a> {
    fs: FaultyFileSystem,
    carried: &'a Carried,
}

impl Verifier for Carrying<'_> {
    fn checkpoint(&self, path: &Path) -> Result<Verified, VerifyError> {
        self.fs
            .read(path)
            .map_err(|error| VerifyError::Unread(error.into()))?;
        Contents.checkpoint(path)
    }

    fn testimony(&self, path: &Path) -> Result<Testimony, BoxError> {
        self.fs.read(path)?;
        let (told, events) = &self.carried[&verify(path)?.step];
        let mut testimony = Testimony::default();
        for record in told {
            testimony.history.insert(record.clone());
        }
        testimony.evaluation = told.last().cloned();
        testimony.events = Some(*events);
        Ok(testimony)
    }

    fn archive(
        &self,
        path: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, BoxError> {
        Contents.archive(path, members)
    }
}

/// What is wrong with a run, beside its journal.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Nothing,
    /// The newest checkpoint is damaged, and a staged file was left.
    NewestDamaged,
    /// Only best and last are left.
    NoCheckpoints,
    /// Best was set aside for no reason, then taken back.
    TakenBack,
}

const WRONGS: [Wrong; 4] = [
    Wrong::Nothing,
    Wrong::NewestDamaged,
    Wrong::NoCheckpoints,
    Wrong::TakenBack,
];

fn name(step: u64) -> CheckpointName {
    CheckpointName::new(step, &digest(step), CheckpointKind::Full)
}

/// A run of five evaluations, the best at step 20, with its journal cut to `lines`; and what its files carry.
fn shortened(wrong: Wrong, lines: usize) -> (Fixture, Carried, usize) {
    let fixture = Fixture::in_memory();
    let run = fixture.run();
    let mut writer = fixture.create();
    let first = best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.9);
    for (step, accuracy) in [(30, 0.7), (40, 0.3), (50, 0.6)] {
        evaluate(&mut writer, step, accuracy);
        let newest = save(&mut writer, step);
        promote(&mut writer, &newest, RefName::LAST, 0.0);
        if step == 30 {
            writer.prune(first.name(), "no policy keeps it").unwrap();
        }
    }
    drop(writer);
    let mut carried = Carried::new();
    let mut told: Vec<EvaluationRecord> = Vec::new();
    for entry in RunReader::open(&run).unwrap().journal().unwrap().entries {
        match entry.event {
            Event::Evaluated(record) => told.push(record),
            Event::Saved(saved) => {
                carried.insert(saved.step, (told.clone(), entry.seq - 1));
            }
            _ => {}
        }
    }
    match wrong {
        Wrong::Nothing => {}
        Wrong::NewestDamaged => {
            std::fs::write(name(50).path(&run), "rotten").unwrap();
            std::fs::write(run.join(".staged-x.0"), "half").unwrap();
        }
        Wrong::NoCheckpoints => std::fs::remove_dir_all(run.join("checkpoints")).unwrap(),
        Wrong::TakenBack => {
            let whole = std::fs::read(name(20).path(&run)).unwrap();
            let aside = run.join(format!("checkpoints/{}.damaged", name(20)));
            std::fs::write(name(20).path(&run), "rotten").unwrap();
            assert!(repair(&fixture, &carried).unwrap().is_mended());
            std::fs::write(aside, whole).unwrap();
            assert!(repair(&fixture, &carried).unwrap().is_mended());
        }
    }
    let path = run.join("journal.jsonl");
    let text = read(&path);
    let kept: String = text.split_inclusive('\n').take(lines).collect();
    std::fs::write(&path, kept).unwrap();
    (fixture, carried, text.lines().count())
}

fn repair(fixture: &Fixture, carried: &Carried) -> Result<FsckReport, OpenError> {
    repair_on(
        &FaultyFileSystem::new(fixture.parent.path()).unwrap(),
        fixture,
        carried,
    )
}

fn repair_on(
    fs: &FaultyFileSystem,
    fixture: &Fixture,
    carried: &Carried,
) -> Result<FsckReport, OpenError> {
    let verifier = Carrying {
        fs: fs.clone(),
        carried,
    };
    fsck_on(Arc::new(fs.clone()), &fixture.run(), true, &verifier)
}

/// Repairs without failures, and looks whether all is there that can be.
fn mended(fixture: &Fixture, carried: &Carried, wrong: Wrong, begun: bool, at: &str) {
    let report = repair(fixture, carried).unwrap();
    assert!(report.is_mended(), "{at}: {:?}", report.findings);
    let run = fixture.run();
    assert_eq!(read(&RefName::BEST.path(&run)), content(20), "{at}");
    let newest = match wrong {
        Wrong::NewestDamaged => 40,
        _ => 50,
    };
    let state = RunReader::open(&run).unwrap().state().unwrap();
    let steps = || state.history.iter().map(|record| record.step);
    let all: Vec<u64> = (1..=newest / 10).map(|epoch| epoch * 10).collect();
    assert!(all.iter().all(|step| steps().any(|it| it == *step)), "{at}");
    let present = |step: u64| {
        let known = state.checkpoints.get(&name(step));
        known.is_some_and(|it| it.pruned.is_none()) && name(step).path(&run).exists()
    };
    let expected = match wrong {
        Wrong::NoCheckpoints => vec![20, 50],
        _ => (20..=newest).step_by(10).collect(),
    };
    assert!(expected.iter().all(|step| present(*step)), "{at}");
    // Without its first event nothing tells what best is: that is the resume's to say.
    if begun {
        let best = state.best().and_then(|best| best.score);
        assert_eq!(best.map(|score| score.value), Some(0.9), "{at}");
        assert_eq!(read(&RefName::LAST.path(&run)), content(newest), "{at}");
    }
    let again = repair(fixture, carried).unwrap();
    assert!(again.is_clean(), "{at}: {:?}", again.findings);
}

fn lines_of(wrong: Wrong) -> usize {
    shortened(wrong, usize::MAX).2
}

#[test]
fn at_any_length_and_with_any_damage_nothing_whole_is_lost() {
    let mut runs = 0;
    for wrong in WRONGS {
        for lines in 0..=lines_of(wrong) {
            let (fixture, carried, _) = shortened(wrong, lines);
            let at = format!("{wrong:?}, {lines} lines");
            mended(&fixture, &carried, wrong, lines > 0, &at);
            runs += 1;
        }
    }
    println!("{runs} runs with a shortened journal, nothing whole lost");
    assert!(runs > 60, "only {runs}");
}

fn reads(call: &Call) -> bool {
    ["read", "list", "stat", "read_open", "stat_open"].contains(&call.method)
}

fn changes(call: &Call) -> bool {
    !reads(call) && !["available_space", "open_append"].contains(&call.method)
}

/// The reads of a repair without failures: their paths, and how many come before the first change.
fn reads_of(wrong: Wrong, lines: usize) -> (Vec<PathBuf>, usize) {
    let (fixture, carried, _) = shortened(wrong, lines);
    let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    fs.fail(move |call: &Call| {
        seen.lock().unwrap().push(call.clone());
        None
    });
    repair_on(&fs, &fixture, &carried).unwrap();
    fs.heal();
    let run = fixture.run();
    let calls = calls.lock().unwrap();
    let before = calls.iter().take_while(|call| !changes(call));
    let before = before.filter(|call| reads(call)).count();
    let paths = calls
        .iter()
        .filter(|call| reads(call))
        .map(|call| call.path.strip_prefix(&run).unwrap().to_owned())
        .collect();
    (paths, before)
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(Errno::IO.raw_os_error())
}

/// Which calls fail, of those from a place on.
#[derive(Clone, Copy, Debug)]
enum Failing {
    /// One read.
    OneRead,
    /// Every read.
    Reads,
    /// Every call.
    Calls,
}

impl Failing {
    fn counts(self, call: &Call) -> bool {
        matches!(self, Self::Calls) || reads(call)
    }
}

#[test]
fn a_call_that_fails_before_the_mending_touches_nothing_and_one_within_it_loses_nothing() {
    let (mut untouched, mut within) = (0, 0);
    for wrong in WRONGS {
        let all = lines_of(wrong);
        for lines in [0, all / 3, all - 3] {
            let (_, first_change) = reads_of(wrong, lines);
            for failing in [Failing::OneRead, Failing::Reads, Failing::Calls] {
                let (mut fixture, mut carried, _) = shortened(wrong, lines);
                let mut before = tree(&fixture.run());
                for nth in 0.. {
                    let at = format!("{wrong:?}, {lines} lines, {failing:?} from {nth} on");
                    let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
                    let counted = Arc::new(AtomicUsize::new(0));
                    let count = Arc::clone(&counted);
                    fs.fail(move |call: &Call| {
                        if !failing.counts(call) {
                            return None;
                        }
                        let place = count.fetch_add(1, Ordering::Relaxed);
                        let fails = match failing {
                            Failing::OneRead => place == nth,
                            Failing::Reads | Failing::Calls => place >= nth,
                        };
                        fails.then(io_error)
                    });
                    let failed = repair_on(&fs, &fixture, &carried).is_err();
                    drop(fs);
                    let reached = counted.load(Ordering::Relaxed) > nth;
                    // What was set aside and cannot be read stays where it is: that is no failure.
                    if failed && (nth < first_change || tree(&fixture.run()) == before) {
                        assert!(tree(&fixture.run()) == before, "{at}: touched");
                        untouched += 1;
                        continue;
                    }
                    mended(&fixture, &carried, wrong, lines > 0, &at);
                    if !reached {
                        break;
                    }
                    within += 1;
                    assert!(nth < 2000, "{at}: the rounds do not end");
                    (fixture, carried, _) = shortened(wrong, lines);
                    before = tree(&fixture.run());
                }
            }
        }
    }
    println!(
        "{untouched} repairs that failed before they began, 0 files touched; {within} that were cut short, 0 lost"
    );
    assert!(untouched > 2000 && within > 1000, "{untouched}, {within}");
}

#[test]
fn what_a_repair_reads_it_reads_before_it_changes_anything() {
    let mut failed = 0;
    for wrong in WRONGS {
        for lines in 0..=lines_of(wrong) {
            let (mut paths, _) = reads_of(wrong, lines);
            paths.sort();
            paths.dedup();
            let (mut fixture, mut carried, _) = shortened(wrong, lines);
            let mut before = tree(&fixture.run());
            for path in paths {
                let at = format!("{wrong:?}, {lines} lines, {}", path.display());
                // What the repair itself makes cannot be read before.
                if path.to_string_lossy().contains(".staged-") {
                    continue;
                }
                let fs = FaultyFileSystem::new(fixture.parent.path()).unwrap();
                let unreadable = fixture.run().join(&path);
                fs.fail(move |call: &Call| (reads(call) && call.path == unreadable).then(io_error));
                let result = repair_on(&fs, &fixture, &carried);
                drop(fs);
                if result.is_err() {
                    assert!(tree(&fixture.run()) == before, "{at}: touched");
                    failed += 1;
                } else {
                    (fixture, carried, _) = shortened(wrong, lines);
                    before = tree(&fixture.run());
                }
            }
        }
    }
    println!("{failed} files and directories that could not be read, 0 files touched");
    assert!(failed > 500, "only {failed}");
}
