//! Data on stdout. A reader that goes away (`keepbest list | head -1`) ends the program quietly.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::failure::{Exit, Failure};

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(Exit::Done as i32)
        }
        Err(error) => Err(Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, "cannot write to stdout")
        }),
        Ok(()) => Ok(()),
    }
}

/// Writes one line.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    bytes(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes lines.
pub fn lines(lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(line)
}

/// Writes a value as JSON for people and programs.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::of(Exit::Failed, &error))?;
    line(text)
}

/// Writes a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::of(Exit::Failed, &error))?;
    line(text)
}
