//! A journal with a damaged line: what can be read goes on, the damaged one is set aside.

use std::path::Path;

use super::report::{FindingKind, FsckReport};
use crate::error::{IoError, OpenError};
use crate::fs::SharedFileSystem;
use crate::journal::{self, Entry, Event, RepairedEvent};
use crate::layout::{DAMAGED_SUFFIX, JOURNAL_FILE};
use crate::lock::{RunLock, now_ms};
use crate::staged::Staged;

pub(super) fn salvage(
    fs: &SharedFileSystem,
    run: &Path,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let _lock = RunLock::acquire(run)?;
    let path = run.join(JOURNAL_FILE);
    let bytes = fs.read(&path).map_err(IoError::at("read", &path))?;
    let (mut entries, lost) = journal::parse_salvaging(&path, &bytes)?;
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let problem = format!("damaged in line {}", lost.join(", "));
    let aside = format!("{JOURNAL_FILE}{DAMAGED_SUFFIX}");
    let action = format!("the original is kept as {aside}, the other lines go on");
    // The copy is durable before the journal is replaced.
    Staged::create(fs, run.join(&aside))?.put(&bytes)?;
    entries.push(Entry {
        seq: 0,
        time_ms: now_ms(),
        event: Event::Repaired(RepairedEvent {
            finding: format!("{JOURNAL_FILE} was {problem}"),
            action: action.clone(),
        }),
    });
    journal::rebuild(fs, &path, &entries)?;
    report.add(
        FindingKind::DamagedJournal,
        JOURNAL_FILE,
        problem,
        Some(&action),
    );
    Ok(())
}
