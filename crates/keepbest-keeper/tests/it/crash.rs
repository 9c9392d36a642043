//! Every operation of a session with promotions over best, prunes and a resume, and after each of them every state that a kill or a
//! power loss could leave: best opens and verifies, is the old or the new one, and so are the best by a second objective and `best.pth`;
//! fsck mends, the run goes on to the same end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::EvaluationRecord;
use keepbest_formats::model_file::ModelFile;
use keepbest_formats::pth::PthFile;
use keepbest_keeper::{CopyFormat, Keeper, KeeperConfig, RunView, SaveMode, fsck};
use keepbest_store::faulty::{Change, Crash, DiskState, FaultyFileSystem, Recording};
use keepbest_store::{OpenError, RefName};
use serde_json::json;

use crate::support::{in_memory, offer_and_wait, two_bests};

const VALUES: [f64; 5] = [0.5, 0.7, 0.6, 0.8, 0.75];

/// Epochs that improve by accuracy, in order.
const IMPROVING: [u64; 3] = [1, 2, 4];

/// Epochs that improve by F1, in order.
const IMPROVING_F1: [u64; 3] = [1, 2, 3];

/// A session, recorded: after how many changes each best was acknowledged, as `(changes, step, step of the best by F1)`.
struct Session {
    recording: Recording,
    acknowledged: Vec<(usize, u64, u64)>,
}

fn kept(save: SaveMode) -> KeeperConfig {
    KeeperConfig {
        save,
        also: Some(CopyFormat::Pth),
        ..two_bests()
    }
}

fn session(save: SaveMode, prepare: impl FnOnce(&FaultyFileSystem)) -> Session {
    let parent = tempfile::tempdir().unwrap();
    let run = parent.path().join("run");
    let fs = FaultyFileSystem::new(parent.path()).unwrap();
    prepare(&fs);
    let config = kept(save);
    let mut acknowledged = Vec::new();
    let mut keeper =
        Keeper::create_on(Arc::new(fs.clone()), &run, "seed = 1\n", config.clone()).unwrap();
    for (i, value) in VALUES.into_iter().enumerate() {
        let epoch = i as u64 + 1;
        offer_and_wait(&mut keeper, epoch, value);
        let latest = |improving: [u64; 3]| {
            let mut improved = improving.into_iter().rev();
            improved.find(|at| *at <= epoch).map_or(0, |at| at * 10)
        };
        let changes = fs.recording().changes.len();
        acknowledged.push((changes, latest(IMPROVING), latest(IMPROVING_F1)));
        if epoch == 3 {
            keeper.save_last(&crate::support::snapshot(35), 3, json!({"batch": 5}));
            keeper.interrupt().unwrap();
            keeper = Keeper::resume_on(Arc::new(fs.clone()), &run, config.clone())
                .unwrap()
                .keeper;
        }
    }
    keeper.finish(json!(null)).unwrap();
    Session {
        recording: fs.recording(),
        acknowledged,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    AtTheEnd,
    /// When the first loss is found: enough where there must be one.
    AtTheFirstLoss,
}

#[derive(Debug, Default)]
struct Outcome {
    states: usize,
    distinct: usize,
    lost: Vec<String>,
}

fn enumerate(session: &Session, save: SaveMode, stop: Stop) -> Outcome {
    let crashes = session.recording.crashes();
    let mut outcome = Outcome {
        states: crashes.len(),
        ..Outcome::default()
    };
    let mut seen: BTreeSet<(DiskState, (u64, u64))> = BTreeSet::new();
    let parent = in_memory();
    for (i, crash) in crashes.into_iter().enumerate() {
        let acknowledged = session
            .acknowledged
            .iter()
            .rev()
            .find(|(changes, ..)| *changes <= crash.after)
            .map_or((0, 0), |(_, step, by_f1)| (*step, *by_f1));
        if !seen.insert((crash.disk.clone(), acknowledged)) {
            continue;
        }
        outcome.distinct += 1;
        let root = parent.path().join(i.to_string());
        crash.disk.materialise(&root).unwrap();
        if let Err(problem) = check(&root.join("run"), acknowledged, save) {
            outcome.lost.push(describe(&crash, &problem));
        }
        std::fs::remove_dir_all(&root).unwrap();
        if stop == Stop::AtTheFirstLoss && !outcome.lost.is_empty() {
            break;
        }
    }
    outcome
}

fn describe(crash: &Crash, problem: &str) -> String {
    format!(
        "{:?} after {} changes, {}: {problem}",
        crash.kind, crash.after, crash.survived
    )
}

fn best_of(run: &Path) -> Result<Option<u64>, String> {
    target_of(run, &RefName::BEST)
}

fn by_f1() -> RefName {
    RefName::best_by(&"val/f1_macro".parse().unwrap())
}

fn target_of(run: &Path, name: &RefName) -> Result<Option<u64>, String> {
    let path: PathBuf = name.path(run);
    if !path.exists() {
        return Ok(None);
    }
    let file = ModelFile::open(&path).map_err(|error| format!("{name}: {error:?}"))?;
    let metadata = file.metadata.ok_or("it has no metadata")?;
    Ok(Some(metadata.step))
}

/// The step of what `best.pth` holds, whole.
fn best_pth_of(run: &Path) -> Result<Option<u64>, String> {
    let path = CopyFormat::Pth.path(run);
    if !path.exists() {
        return Ok(None);
    }
    let read = PthFile::open(&path).and_then(|file| file.weights(None));
    let weights = read
        .map_err(|error| format!("best.pth: {error:?}"))?
        .weights;
    IMPROVING
        .iter()
        .map(|epoch| epoch * 10)
        .find(|&step| crate::support::snapshot(step).weights() == weights)
        .map(Some)
        .ok_or_else(|| "best.pth holds what never was the best".to_owned())
}

/// A run that has lost nothing.
fn check(
    run: &Path,
    (acknowledged, acknowledged_f1): (u64, u64),
    save: SaveMode,
) -> Result<(), String> {
    // As a reader finds it, before anything is mended.
    let before_f1 = target_of(run, &by_f1())?.unwrap_or(0);
    if before_f1 < acknowledged_f1 || before_f1 / 10 > 3 {
        return Err(format!(
            "best by F1 is step {before_f1}, step {acknowledged_f1} had been promised"
        ));
    }
    let before = best_of(run)?.unwrap_or(0);
    if before < acknowledged {
        return Err(format!(
            "best is step {before}, step {acknowledged} had been promised"
        ));
    }
    if before != 0 && !IMPROVING.contains(&(before / 10)) {
        return Err(format!("best is step {before}, which never was the best"));
    }
    // It comes after best, and was waited for as best was.
    let pth = best_pth_of(run)?.unwrap_or(0);
    if pth < acknowledged || pth > before {
        return Err(format!("best.pth is step {pth}, best is step {before}"));
    }
    match fsck(run, true) {
        Ok(report) if !report.is_mended() => return Err(format!("not mended: {report:?}")),
        Ok(_) => {}
        // The run had not begun: nothing was promised.
        Err(OpenError::NotARun { .. } | OpenError::NotFound { .. }) if acknowledged == 0 => {
            return Ok(());
        }
        Err(error) => return Err(format!("fsck: {error:?}")),
    }
    let again = fsck(run, false).map_err(|error| format!("fsck again: {error:?}"))?;
    if !again.is_clean() {
        return Err(format!("found after mending: {:?}", again.findings));
    }
    let mended = best_of(run)?.unwrap_or(0);
    if mended < before {
        return Err(format!("mending went back from step {before} to {mended}"));
    }
    let mended_f1 = target_of(run, &by_f1())?.unwrap_or(0);
    if mended_f1 < before_f1 {
        return Err(format!(
            "mending went back from step {before_f1} to {mended_f1} by F1"
        ));
    }
    let pth = best_pth_of(run)?.unwrap_or(0);
    if pth != mended {
        return Err(format!("mended to step {mended}, best.pth is step {pth}"));
    }
    let resumed = Keeper::resume(run, kept(save)).map_err(|error| format!("resume: {error:?}"))?;
    let next = resumed
        .point
        .as_ref()
        .map_or(1, |point| point.step / 10 + 1);
    let mut keeper = resumed.keeper;
    for epoch in next..=VALUES.len() as u64 {
        offer_and_wait(&mut keeper, epoch, VALUES[epoch as usize - 1]);
    }
    let summary = keeper
        .finish(json!(null))
        .map_err(|error| format!("finish: {error:?}"))?;
    if !summary.failures.is_empty() {
        return Err(format!("after resuming: {:?}", summary.failures));
    }
    match best_of(run)? {
        Some(40) => {}
        other => return Err(format!("the resumed run ends with best {other:?}")),
    }
    match target_of(run, &by_f1())? {
        Some(30) => {}
        other => return Err(format!("the resumed run ends with best by F1 {other:?}")),
    }
    if best_pth_of(run)? != Some(40) {
        return Err("best.pth does not follow the resumed run".to_owned());
    }
    let view = RunView::open(run).map_err(|error| format!("view: {error:?}"))?;
    for (place, improving) in [IMPROVING, IMPROVING_F1].into_iter().enumerate() {
        let improved = |record: &EvaluationRecord| {
            let judgement = record.judgement(place);
            judgement.is_some_and(|judgement| judgement.verdict.is_improved())
        };
        let verdicts: Vec<(u64, bool)> = view
            .history()
            .iter()
            .map(|record| (record.epoch, improved(record)))
            .collect();
        let expected: Vec<(u64, bool)> = (1..=VALUES.len() as u64)
            .map(|epoch| (epoch, improving.contains(&epoch)))
            .collect();
        if verdicts != expected {
            return Err(format!("the resumed run judged {verdicts:?}"));
        }
    }
    Ok(())
}

#[test]
fn nothing_is_lost_at_any_operation() {
    for save in [SaveMode::Full, SaveMode::Params] {
        let session = session(save, |_| ());
        let outcome = enumerate(&session, save, Stop::AtTheEnd);
        println!(
            "{save}: {} changes, {} crashes, {} distinct states, {} lost",
            session.recording.changes.len(),
            outcome.states,
            outcome.distinct,
            outcome.lost.len()
        );
        assert!(outcome.lost.is_empty(), "{:#?}", outcome.lost);
        assert!(
            outcome.states > 400,
            "the enumeration is too small: {outcome:?}"
        );
    }
}

/// The enumeration finds the defects it is there for.
#[test]
fn a_store_that_does_not_sync_files_is_caught() {
    let session = session(SaveMode::Full, FaultyFileSystem::ignore_file_syncs);
    let outcome = enumerate(&session, SaveMode::Full, Stop::AtTheFirstLoss);
    assert!(!outcome.lost.is_empty());
}

#[test]
fn a_store_that_does_not_sync_directories_is_caught() {
    let session = session(SaveMode::Full, FaultyFileSystem::ignore_dir_syncs);
    let outcome = enumerate(&session, SaveMode::Full, Stop::AtTheFirstLoss);
    assert!(!outcome.lost.is_empty());
}

#[test]
fn a_store_that_removes_the_old_best_before_it_links_the_new_one_is_caught() {
    let mut session = session(SaveMode::Full, |_| ());
    let best = Path::new("run/best.safetensors");
    let mut altered = Vec::new();
    let mut planted = 0;
    for change in std::mem::take(&mut session.recording.changes) {
        if matches!(&change, Change::Rename { to, .. } if to == best) {
            planted += 1;
            if planted > 1 {
                altered.push(Change::Remove(best.to_owned()));
            }
        }
        altered.push(change);
    }
    session.recording.changes = altered;
    // Counts have moved; what was promised at the end of the first evaluation is enough.
    session.acknowledged.truncate(1);
    let outcome = enumerate(&session, SaveMode::Full, Stop::AtTheFirstLoss);
    assert!(!outcome.lost.is_empty());
}
