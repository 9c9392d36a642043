//! A journal with damaged lines, or with lines gone: what can be read goes on, and the original is set aside.

use std::path::Path;

use super::report::{FindingKind, FsckReport};
use crate::error::{IoError, OpenError};
use crate::fs::SharedFileSystem;
use crate::journal::{self, Entry, Event, RepairedEvent};
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
    let salvaged = journal::parse_salvaging(&path, &bytes)?;
    Ok(RunState::from_entries(&standing(salvaged.entries)))
}

/// The events that stand without the lost ones: that a ref moved to what was never saved or measured says nothing, and contradicts
/// what the files tell of it.
fn standing(entries: Vec<Entry>) -> Vec<Entry> {
    let mut state = RunState::default();
    let stands = |entry: &Entry| {
        let stands = match &entry.event {
            Event::Promoted(event) => {
                let saved = state.checkpoints.get(&event.checkpoint);
                saved.is_some_and(|saved| {
                    saved.pruned.is_none()
                        && (saved.evaluation.is_some() || !event.reference.is_best())
                })
            }
            _ => true,
        };
        if stands {
            state.apply(entry);
        }
        stands
    };
    entries.into_iter().filter(stands).collect()
}

/// Writes the journal anew from the lines that can be read; `pins` goes with it, so that no crash parts them.
pub(super) fn salvage(
    fs: &SharedFileSystem,
    run: &Path,
    pins: Option<Event>,
    report: &mut FsckReport,
) -> Result<(), OpenError> {
    let path = run.join(JOURNAL_FILE);
    let bytes = fs.read(&path).map_err(IoError::at("read", &path))?;
    let salvaged = journal::parse_salvaging(&path, &bytes)?;
    let problem = salvaged.problems.join("; ");
    let whole = salvaged.entries.len();
    let mut entries = standing(salvaged.entries);
    let left_out = whole - entries.len();
    let aside = free_aside(&**fs, &path)?;
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let mut action = format!("the original is kept as {name}, the other lines go on");
    if left_out > 0 {
        action.push_str(&format!(
            " but for {left_out} that hang on what is lost, and the files tell the rest"
        ));
    }
    // The copy is durable before the journal is replaced.
    Staged::create(fs, aside.clone())?.put(&bytes)?;
    let repaired = Event::Repaired(RepairedEvent {
        finding: format!("{JOURNAL_FILE}: {problem}"),
        action: action.clone(),
    });
    entries.extend(pins.into_iter().chain([repaired]).map(|event| Entry {
        seq: 0,
        time_ms: now_ms(),
        event,
    }));
    journal::rebuild(fs, &path, &entries)?;
    report.add(
        FindingKind::DamagedJournal,
        JOURNAL_FILE,
        problem,
        Some(&action),
    );
    Ok(())
}
