//! That every image of a table has one label.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cells, Part, Row};
use crate::DataError;

/// Checks that no row has several labels, and that rows of one image agree. Says how many rows repeat another.
pub(super) fn check(table: &Cells, rows: &[Row]) -> Result<Option<String>, DataError> {
    let bad = |row: &Row, reason: String| table.bad(row.line, Some(table.columns.label), reason);
    if let Some(row) = several(rows) {
        let reason = format!("several labels, `{}`: an image has one", row.label);
        return Err(bad(row, reason));
    }
    let mut seen: HashMap<PathBuf, &Row> = HashMap::with_capacity(rows.len());
    let mut listed: HashSet<(PathBuf, Part)> = HashSet::new();
    let mut repeated = 0;
    for row in rows {
        let path = real(&row.path);
        let first = *seen.entry(path.clone()).or_insert(row);
        if first.label != row.label {
            let reason = format!(
                "{} is `{}` here and `{}` in line {}",
                row.path.display(),
                row.label,
                first.label,
                first.line
            );
            return Err(bad(row, reason));
        }
        repeated += usize::from(!listed.insert((path, row.part)));
    }
    Ok(match repeated {
        0 => None,
        1 => Some("1 row lists an image once more".to_owned()),
        _ => Some(format!("{repeated} rows list an image once more")),
    })
}

/// The path without links, `.` and `..` in it, so that one file has one.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The first row with several labels, joined by a bar, a semicolon or a comma. What has a bar in it is several; with the other
/// marks a class may be called so, too: what is joined are labels when they occur on their own, or in different places of the
/// list.
fn several(rows: &[Row]) -> Option<&Row> {
    let joined = |mark: char| rows.iter().filter(move |row| row.label.contains(mark));
    if let Some(row) = joined('|').next() {
        return Some(row);
    }
    for mark in [';', ','] {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut moved: HashSet<&str> = HashSet::new();
        for row in joined(mark) {
            for (place, part) in row.label.split(mark).map(str::trim).enumerate() {
                if *places.entry(part).or_insert(place) != place {
                    moved.insert(part);
                }
            }
        }
        if places.is_empty() {
            continue;
        }
        let whole: HashSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        let is_label = |part: &str| whole.contains(part) || moved.contains(part);
        let is_several = |row: &&Row| {
            let mut parts = row.label.split(mark).map(str::trim);
            if mark == ',' {
                parts.all(is_label)
            } else {
                parts.any(is_label)
            }
        };
        if let Some(row) = joined(mark).find(is_several) {
            return Some(row);
        }
    }
    None
}
