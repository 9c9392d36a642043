//! Class names as they are given on the command line.

use std::collections::HashMap;
use std::path::Path;

use keepbest_formats::read_text;
use keepbest_model::examine;

use crate::cli::failure::{Exit, Failure};

/// Longest file of names read, in bytes: a hundred for each of more classes than any model has.
const LIMIT: u64 = 16 << 20;

/// Names by label: `a,b,c`, or a file with one a line. Blank lines, blanks around names and a byte order mark are left out.
pub(super) fn class_names(text: &str) -> Result<Vec<String>, Failure> {
    let there = examine(Path::new(text)).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let is_file = there.is_some();
    if !is_file && !text.contains(',') {
        let message = format!("--classes {text:?} is no file, and no names parted by commas");
        return Err(Failure::new(Exit::Usage, message));
    }
    let lines = match is_file {
        true => read_text(text, LIMIT).map_err(|error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(
                Exit::Failed,
                format!("cannot read the class names in {text}"),
            )
        })?,
        false => String::new(),
    };
    let names: Vec<(usize, &str)> = match is_file {
        true => (1..)
            .zip(lines.lines().map(str::trim))
            .filter(|(_, name)| !name.is_empty())
            .collect(),
        false => (1..).zip(text.split(',').map(str::trim)).collect(),
    };
    let place = match is_file {
        true => "line",
        false => "name",
    };
    if names.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{text} names no classes"),
        ));
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for &(at, name) in &names {
        if name.is_empty() {
            let message = format!("--classes: {place} {at} is empty");
            return Err(Failure::new(Exit::Usage, message));
        }
        if let Some(first) = seen.insert(name, at) {
            let message = format!("--classes: {name:?} is both {place} {first} and {place} {at}");
            let hint = "every class needs a name of its own".to_owned();
            return Err(Failure::new(Exit::Usage, message).with_hint(hint));
        }
    }
    Ok(names.into_iter().map(|(_, name)| name.to_owned()).collect())
}
