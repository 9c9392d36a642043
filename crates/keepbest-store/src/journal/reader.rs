//! Reading the journal.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Event;
use super::line::{self, LineError};
use crate::error::JournalError;
use crate::layout::RUN_FORMAT;

/// One event, with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Place in the journal, from 1, without gaps.
    pub seq: u64,
    /// Wall-clock time, milliseconds since 1970: for people, never for order.
    pub time_ms: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Deserialize)]
struct Envelope {
    seq: u64,
    time_ms: u64,
}

impl Entry {
    /// An event that is in no journal, or not yet.
    pub(crate) fn unwritten(event: Event) -> Self {
        Self {
            seq: 0,
            time_ms: 0,
            event,
        }
    }

    pub(super) fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        let Envelope { seq, time_ms } = Envelope::deserialize(&value)?;
        Ok(Self {
            seq,
            time_ms,
            event: Event::from_value(value)?,
        })
    }
}

/// A journal as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    /// The events, in order.
    pub entries: Vec<Entry>,
    /// What a crash, or a writer in the middle of a line, left at the end.
    pub torn: Option<TornTail>,
    /// Length in bytes of the part that is whole.
    pub len: u64,
}

impl Journal {
    /// Reads a journal that is in memory; `path` is what errors call it.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when a line before the last is not whole or not at its place, [`JournalError::Newer`] when the run is
    /// of a newer format.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, JournalError> {
        parse(path, bytes)
    }
}

/// The incomplete end of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// Number of the line, from 1.
    pub line: usize,
    /// Bytes that are not part of any whole line.
    pub bytes: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads a journal's bytes by the torn-tail rule.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Journal, JournalError> {
    let mut journal = Journal::default();
    let mut at = 0_usize;
    let mut number = 0_usize;
    while at < bytes.len() {
        number += 1;
        let rest = &bytes[at..];
        let newline = rest.iter().position(|&byte| byte == b'\n');
        let opened = match newline {
            Some(end) => line::open(&rest[..end]),
            None => Err(LineError::Damaged("it has no newline".to_owned())),
        };
        let problem = match opened {
            Ok(entry) => {
                let expected = journal.entries.len() as u64 + 1;
                if entry.seq == expected {
                    at += newline.map_or(rest.len(), |end| end + 1);
                    journal.entries.push(entry);
                    continue;
                }
                // A whole line that is out of place is never a crash's doing.
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    line: number,
                    problem: format!("its seq is {}, expected {expected}", entry.seq),
                });
            }
            Err(LineError::Damaged(problem)) => problem,
            Err(LineError::Newer { format, keepbest }) => {
                return Err(newer(path, format, keepbest));
            }
        };
        if newline.is_some_and(|end| end + 1 < rest.len()) {
            return Err(JournalError::Damaged {
                path: path.to_owned(),
                line: number,
                problem,
            });
        }
        if line::begins_with_a_line(rest) {
            // Two lines in one: the newline between them was damaged, and the first had been synced.
            return Err(JournalError::Damaged {
                path: path.to_owned(),
                line: number,
                problem: "it has no newline".to_owned(),
            });
        }
        journal.torn = Some(TornTail {
            line: number,
            bytes: rest.len() as u64,
            problem,
        });
        break;
    }
    journal.len = at as u64;
    Ok(journal)
}

/// What can be read of a damaged journal, and what is wrong with it.
pub(crate) struct Salvaged {
    /// The events of every line that is whole, in file order.
    pub(crate) entries: Vec<Entry>,
    /// In words: which lines are damaged, gone or out of place.
    pub(crate) problems: Vec<String>,
}

/// Reads what can be read of a damaged journal.
pub(crate) fn parse_salvaging(path: &Path, bytes: &[u8]) -> Result<Salvaged, JournalError> {
    let mut salvaged = Salvaged {
        entries: Vec::new(),
        problems: Vec::new(),
    };
    let mut damaged = Vec::new();
    // The place that the latest whole line had, and damaged ones since.
    let (mut latest, mut since) = (0_u64, 0_u64);
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (index, text) in body.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        match line::open(text) {
            Ok(entry) => {
                let next = latest + since + 1;
                match entry.seq {
                    seq if seq <= latest => {
                        let problem = format!("line {number} is out of place: it was line {seq}");
                        salvaged.problems.push(problem);
                    }
                    seq if seq == next + 1 => {
                        salvaged
                            .problems
                            .push(format!("what was line {next} is gone"));
                    }
                    seq if seq > next => {
                        let last = seq - 1;
                        let problem = format!("what was lines {next} to {last} is gone");
                        salvaged.problems.push(problem);
                    }
                    _ => {}
                }
                (latest, since) = (latest.max(entry.seq), 0);
                salvaged.entries.push(entry);
            }
            Err(LineError::Damaged(_)) => {
                damaged.push(number.to_string());
                since += 1;
            }
            Err(LineError::Newer { format, keepbest }) => {
                return Err(newer(path, format, keepbest));
            }
        }
    }
    if !damaged.is_empty() {
        let problem = format!("damaged in line {}", damaged.join(", "));
        salvaged.problems.insert(0, problem);
    }
    Ok(salvaged)
}

fn newer(path: &Path, format: u64, keepbest: String) -> JournalError {
    JournalError::Newer {
        path: path.to_owned(),
        format,
        known: RUN_FORMAT,
        keepbest,
    }
}
