//! One line: JSON, sealed by a checksum.

use serde_json::Value;

use super::event::Event;
use super::reader::Entry;
use crate::layout::RUN_FORMAT;

const OPEN: &str = ",\"check\":\"";
const CLOSE: &str = "\"}";
const HEX: usize = 16;
const SEAL: usize = OPEN.len() + HEX + CLOSE.len();

fn check(body: &[u8]) -> String {
    blake3::hash(body).to_hex()[..HEX].to_owned()
}

/// The line of an entry, newline included.
pub(super) fn seal(entry: &Entry) -> Result<String, serde_json::Error> {
    let mut line = serde_json::to_string(entry)?;
    // An entry is a JSON object with at least `seq`, so the brace has something before it.
    line.pop();
    let check = check(line.as_bytes());
    line.push_str(OPEN);
    line.push_str(&check);
    line.push_str(CLOSE);
    line.push('\n');
    Ok(line)
}

/// Why a line is no event of this version's.
#[derive(Debug)]
pub(super) enum LineError {
    /// It is not as it was written.
    Damaged(String),
    /// It begins a run of a newer format.
    Newer { format: u64, keepbest: String },
}

/// Reads a line, given without its newline.
pub(super) fn open(line: &[u8]) -> Result<Entry, LineError> {
    let value = sealed(line).map_err(LineError::Damaged)?;
    // Before its other fields, which may be others there.
    if let ("started", Some(format)) = (
        value["event"].as_str().unwrap_or_default(),
        value["format"].as_u64(),
    ) && format > RUN_FORMAT.into()
    {
        let keepbest = value["keepbest"].as_str().unwrap_or("a later one");
        return Err(LineError::Newer {
            format,
            keepbest: format!("keepbest {keepbest}"),
        });
    }
    let entry = Entry::from_value(value).map_err(|error| LineError::Damaged(error.to_string()))?;
    match &entry.event {
        // No writer makes such a line, and to believe it would have repairs follow each other without end.
        Event::Saved(saved) if saved.step != saved.checkpoint.step() => {
            Err(LineError::Damaged(format!(
                "it tells of step {} what {} was saved after",
                saved.step, saved.checkpoint
            )))
        }
        _ => Ok(entry),
    }
}

/// The JSON of a line whose checksum is right.
fn sealed(line: &[u8]) -> Result<Value, String> {
    let body_len = line
        .len()
        .checked_sub(SEAL)
        .ok_or("it is too short to have a checksum")?;
    let (body, seal) = line.split_at(body_len);
    let recorded = seal
        .strip_prefix(OPEN.as_bytes())
        .and_then(|rest| rest.strip_suffix(CLOSE.as_bytes()))
        .ok_or("it does not end with a checksum")?;
    if recorded != check(body).as_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Whether a whole line, without its newline, is followed by more than the one byte in the newline's place.
pub(super) fn begins_with_a_line(bytes: &[u8]) -> bool {
    let body = bytes.len().saturating_sub(1);
    let mut ends = (SEAL..body).filter(|&end| bytes[..end].ends_with(CLOSE.as_bytes()));
    ends.any(|end| open(&bytes[..end]).is_ok())
}
