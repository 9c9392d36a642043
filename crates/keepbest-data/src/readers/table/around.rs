//! What lies around a table: the files that it lists, and other tables.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::disk::{EntryKind, check_regular, entries_of, names_in};
use super::super::split_names::{Part, parts};
use super::{Cells, Row, usual_delimiter};
use crate::DataError;

/// Tables beside one for training that are called as other splits are, and not used.
pub(super) fn tables_beside(table: &Path, rows: &[Row]) -> Option<String> {
    let stem = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let folder = match table.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let tables: Vec<(String, PathBuf)> = names_in(folder).ok()?;
    let tables: Vec<PathBuf> = tables
        .into_iter()
        .map(|(_, path)| path)
        .filter(|path| usual_delimiter(path).is_some())
        .collect();
    let stems: Option<Vec<String>> = tables.iter().map(|path| stem(path)).collect();
    let stems = stems?;
    let parts = parts(stems.iter().map(String::as_str));
    let is_own = |path: &&PathBuf| path.file_name() == table.file_name();
    let own = tables.iter().position(|path| is_own(&path))?;
    // One that has splits of its own is whole.
    if parts[own] != Some(Part::Train) || rows.iter().any(|row| row.part != Part::Train) {
        return None;
    }
    let others = tables.iter().zip(&parts);
    let others = others.filter(|(_, part)| part.is_some_and(|part| part != Part::Train));
    let names = others.filter_map(|(path, _)| Some(format!("`{}`", path.file_name()?.to_str()?)));
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| {
        format!(
            "not used: {} beside it; what one table lists in a column `split` is read together",
            names.join(", ")
        )
    })
}

/// Counts the files that are missing, and checks that the others are files.
pub(super) fn check_files(table: &Cells, rows: &[Row]) -> Result<(), DataError> {
    let mut missing = 0;
    let mut first: Option<&Row> = None;
    for row in rows {
        let bad = |reason: String| Err(table.bad(row.line, Some(table.columns.path), reason));
        match fs::metadata(&row.path) {
            Ok(found) => {
                if let Err(error) = check_regular(&row.path, &found) {
                    return bad(error.to_string());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing += 1;
                first.get_or_insert(row);
            }
            Err(error) => return bad(format!("{}: {error}", row.path.display())),
        }
    }
    let Some(first) = first else {
        return Ok(());
    };
    Err(DataError::MissingImages {
        path: table.path.clone(),
        missing,
        listed: rows.len(),
        first: first.path.clone(),
        line: first.line,
        found_in: found_below(table.folder(), &first.path),
    })
}

/// The folder in the table's, or in one of those, where a file lies by the path that is missing in the table's.
fn found_below(folder: &Path, missing: &Path) -> Option<PathBuf> {
    /// The most folders that are looked at.
    const LOOKED_INTO: usize = 1000;
    let path = missing.strip_prefix(folder).ok()?;
    let folders_in = |folder: &Path| -> Vec<PathBuf> {
        let entries = entries_of(if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        });
        let mut folders: Vec<PathBuf> = entries
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, kind)| *kind == EntryKind::Folder)
            .map(|(name, _)| folder.join(name))
            .collect();
        folders.sort();
        folders
    };
    let first = folders_in(folder);
    let second = first
        .iter()
        .take(LOOKED_INTO)
        .flat_map(|inner| folders_in(inner));
    let mut all = first.iter().cloned().chain(second).take(LOOKED_INTO);
    all.find(|inner| inner.join(path).is_file())
}
