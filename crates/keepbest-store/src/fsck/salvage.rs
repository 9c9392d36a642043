//! A journal with a damaged line: what can be read goes on, the damaged one is set aside.

use std::path::Path;

use super::report::{FindingKind, FsckReport};
use crate::error::{IoError, JournalError, OpenError};
use crate::fs::SharedFileSystem;
use crate::journal::{self, Entry, Event, Journal, RepairedEvent};
use crate::layout::{JOURNAL_FILE, free_aside};
use crate::lock::now_ms;
use crate::reader::RunReader;
use crate::staged::Staged;
use crate::state::RunState;

/// What the lines that can be read amount to.
pub(super) fn state(reader: &RunReader) -> Result<RunState, OpenError> {
    let path = reader.path().join(JOURNAL_FILE);
    let bytes = reader.file_system().read(&path);
    let bytes = bytes.map_err(IoError::at("read", &path))?;
    let (entries, _) = journal::parse_salvaging(&path, &bytes)?;
    Ok(RunState::from_entries(&entries))
}

pub(super) fn salvage(
    fs: &SharedFileSystem,
    run: &Path,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let path = run.join(JOURNAL_FILE);
    let bytes = fs.read(&path).map_err(IoError::at("read", &path))?;
    let (mut entries, lost) = journal::parse_salvaging(&path, &bytes)?;
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let problem = match Journal::parse(&path, &bytes) {
        // Each line is whole, and others are missing before it.
        Err(JournalError::Damaged { line, problem, .. }) if lost.is_empty() => {
            format!("incomplete before line {line}: {problem}")
        }
        _ => format!("damaged in line {}", lost.join(", ")),
    };
    let aside = free_aside(&**fs, &path)?;
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let action = format!("the original is kept as {name}, the other lines go on");
    // The copy is durable before the journal is replaced.
    Staged::create(fs, aside.clone())?.put(&bytes)?;
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
