//! A table of image files and their labels: CSV or TSV, in UTF-8 or UTF-16; what parts the cells is told by the content.
//!
//! Columns are told by a first row of names (`path`, `filename`, `image` and the like; `label`, `class`, `species`;
//! `split`, `set`; `is_valid`, `is_test`, `is_train` and the like, or `train`, `val`, `test` with yes and no in them). Where it does not name them, the path is the column with files in it, and the
//! first row is one of names when it has no file there. Without names the columns are path, label and split in this order.
//! Paths are relative to the table. The split is `train`, `val` or `test` by any usual name; without that column all
//! images are for training. Classes are the labels of the training images, sorted by number when all are whole numbers, by
//! their bytes otherwise. An image has one label.

mod columns;
mod labels;
mod text;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::StringRecord;

use self::columns::Columns;
use super::disk::read_file;
use super::files::{FileDataset, Intake, Unreadable};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use super::split_names::{Part, USUAL, parts};
use crate::decode::{EXTENSIONS, has_image_extension};
use crate::{DataBundle, DataError, Dataset, Mirrored};

/// A table of image files and their labels.
#[derive(Debug)]
pub(crate) struct Table;

impl Reader for Table {
    fn kind(&self) -> &'static str {
        "table"
    }

    fn accepts(&self) -> Accepts {
        Accepts::File("a .csv or .tsv of path, label and split")
    }

    fn mirrored(&self) -> Mirrored {
        Mirrored::Unknown
    }

    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
        match source.has_extension(&["csv", "tsv"]) {
            true => open(source).map(Some),
            false => Ok(None),
        }
    }
}

fn usual_delimiter(path: &Path) -> Option<u8> {
    let extension = path.extension()?.to_str()?.to_lowercase();
    match extension.as_str() {
        "csv" => Some(b','),
        "tsv" => Some(b'\t'),
        _ => None,
    }
}

struct Row {
    path: PathBuf,
    label: String,
    part: Part,
    line: u64,
}

/// Opens a table of images.
///
/// # Errors
/// When the table cannot be read, it is not clear which column is the label, a row has no path or label or another split,
/// an image has several labels, files are missing (they are counted), a file's header cannot be read (the first is named),
/// a label is not among those of the training images, or the watch says to stop.
fn open(source: &Source<'_>) -> Result<DataBundle, DataError> {
    let path = source.path;
    let table = Cells::read(path)?;
    let rows = table.rows()?;
    let classes = classes(&rows);
    if classes.is_empty() {
        return Err(table.bad(1, None, "the table names no images".to_owned()));
    }
    limits::check_classes(path, classes.len(), "classes")?;
    let repeated = labels::check(&table, &rows)?;
    if source.unreadable == Unreadable::Refuse {
        check_files(path, &rows)?;
    }
    let numbers: HashMap<&str, u32> = (0u32..)
        .zip(&classes)
        .map(|(number, class)| (class.as_str(), number))
        .collect();
    let mut intake = Intake::new(source.unreadable, source.watch);
    let mut set = |part: Part| -> Result<Option<Arc<dyn Dataset>>, DataError> {
        let mut files = Vec::new();
        for row in rows.iter().filter(|row| row.part == part) {
            let label = numbers.get(row.label.as_str()).ok_or_else(|| {
                let reason = format!("class `{}` is unknown to the training images", row.label);
                table.bad(row.line, Some(table.columns.label), reason)
            })?;
            files.push((row.path.clone(), *label));
        }
        if files.is_empty() {
            return Ok(None);
        }
        let set = FileDataset::open("table", path, &classes, files, &mut intake)?;
        Ok(Some(Arc::new(set)))
    };
    let splits = [set(Part::Train)?, set(Part::Val)?, set(Part::Test)?];
    Ok(DataBundle {
        notes: table
            .notes()
            .into_iter()
            .chain(repeated)
            .chain(intake.note())
            .collect(),
        skipped: intake.skipped,
        ..DataBundle::of_splits(path, splits)?
    })
}

fn classes(rows: &[Row]) -> Vec<String> {
    // A table to measure on alone has the classes of all its images.
    let trains = rows.iter().any(|row| row.part == Part::Train);
    let named = rows.iter().filter(|row| !trains || row.part == Part::Train);
    let names: BTreeSet<&str> = named.map(|row| row.label.as_str()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// Counts the files that are missing.
fn check_files(table: &Path, rows: &[Row]) -> Result<(), DataError> {
    let is_missing = |row: &&Row| {
        let found = fs::metadata(&row.path);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let mut missing = rows.iter().filter(is_missing);
    let Some(first) = missing.next() else {
        return Ok(());
    };
    Err(DataError::MissingImages {
        path: table.to_owned(),
        missing: 1 + missing.count(),
        listed: rows.len(),
        first: first.path.clone(),
        line: first.line,
    })
}

/// The path of an image that a cell names; with the extension of an image where the cell has none, and such a file is there.
fn locate(folder: &Path, cell: &str) -> PathBuf {
    let path = written(folder, cell);
    if has_image_extension(&path) || path.is_file() {
        return path;
    }
    let extended = EXTENSIONS
        .iter()
        .flat_map(|extension| [(*extension).to_owned(), extension.to_uppercase()])
        .map(|extension| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{extension}"));
            PathBuf::from(name)
        });
    let mut extended = extended.filter(|path| path.is_file());
    extended.next().unwrap_or(path)
}

/// The path as a cell has it. Windows' separators are read where that gives a file.
fn written(folder: &Path, cell: &str) -> PathBuf {
    let path = folder.join(cell);
    if cell.contains('\\') && !path.exists() {
        let other = cell.replace('\\', "/");
        let there = folder.join(other);
        if there.exists() || !has_image_extension(&there) {
            return there;
        }
    }
    path
}

/// The cells of a table.
struct Cells {
    path: PathBuf,
    columns: Columns,
    records: Vec<StringRecord>,
}

impl Cells {
    fn read(path: &Path) -> Result<Self, DataError> {
        let text = text::decode(&read_file(path, limits::TABLE_BYTES)?, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let usual = usual_delimiter(path).unwrap_or(b',');
        let (text, told) = text::without_separator(text);
        let delimiter = told.unwrap_or_else(|| text::delimiter(&text, usual, folder));
        let bad = |line: u64, reason: String| DataError::Table {
            path: path.to_owned(),
            line,
            column: None,
            reason,
        };
        let records = text::reader(&text, delimiter).into_records();
        let records: Result<Vec<StringRecord>, DataError> = records
            .map(|record| {
                record.map_err(|error| {
                    let line = error.position().map_or(0, csv::Position::line);
                    bad(line, error.to_string())
                })
            })
            .collect();
        let records = records?;
        let start = &records[..records.len().min(text::LOOKED_AT)];
        let columns = Columns::find(start, folder).map_err(|reason| bad(1, reason))?;
        Ok(Self {
            path: path.to_owned(),
            columns,
            records,
        })
    }

    /// An error in a line; columns are counted from 0 here.
    fn bad(&self, line: u64, column: Option<usize>, reason: String) -> DataError {
        DataError::Table {
            path: self.path.clone(),
            line,
            column: column.map(|column| column + 1),
            reason,
        }
    }

    fn rows(&self) -> Result<Vec<Row>, DataError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let records = &self.records[usize::from(self.columns.header)..];
        let parts = self.parts(records)?;
        let rows = records.iter().zip(parts).map(|(record, part)| {
            Ok(Row {
                path: locate(folder, self.cell(record, self.columns.path, "path")?),
                label: self.cell(record, self.columns.label, "label")?.to_owned(),
                part,
                line: line(record),
            })
        });
        rows.collect()
    }

    fn cell<'a>(
        &self,
        record: &'a StringRecord,
        column: usize,
        what: &str,
    ) -> Result<&'a str, DataError> {
        let cell = record.get(column).filter(|text| !text.is_empty());
        cell.ok_or_else(|| {
            let reason = format!("there is no {what}");
            self.bad(line(record), Some(column), reason)
        })
    }

    /// The split of every record.
    fn parts(&self, records: &[StringRecord]) -> Result<Vec<Part>, DataError> {
        if let Some(column) = self.columns.split {
            let names: Result<Vec<&str>, _> = records
                .iter()
                .map(|record| self.cell(record, column, "split"))
                .collect();
            let names = names?;
            // What a name stands for may depend on the others.
            let distinct: BTreeSet<&str> = names.iter().copied().collect();
            let known: HashMap<&str, Option<Part>> = distinct
                .iter()
                .copied()
                .zip(parts(distinct.iter().copied()))
                .collect();
            let part = |(record, name): (&StringRecord, &str)| {
                known[name].ok_or_else(|| {
                    let reason = format!("split `{name}` is none of train, val and test");
                    self.bad(line(record), Some(column), reason)
                })
            };
            return records.iter().zip(names).map(part).collect();
        }
        records.iter().map(|record| self.marked(record)).collect()
    }

    /// The split by the columns that say yes or no of one. Where they say no, it is the one that they leave: that for training,
    /// or where they say of that the test, unless only val is left.
    fn marked(&self, record: &StringRecord) -> Result<Part, DataError> {
        let marks = &self.columns.marks;
        let mut found: Option<(usize, Part)> = None;
        for &(column, part) in marks {
            if !self.mark(record, column)? {
                continue;
            }
            if let Some((other, _)) = found.filter(|(_, other)| *other != part) {
                let reason = format!(
                    "it is of two splits, `{}` and `{}`",
                    self.name(other),
                    self.name(column)
                );
                return Err(self.bad(line(record), Some(column), reason));
            }
            found = Some((column, part));
        }
        let told = |part: Part| marks.iter().any(|(_, told)| *told == part);
        match found {
            Some((_, part)) => Ok(part),
            None if !told(Part::Train) => Ok(Part::Train),
            None if !told(Part::Test) => Ok(Part::Test),
            None if !told(Part::Val) => Ok(Part::Val),
            None => {
                let reason = "it is of no split".to_owned();
                Err(self.bad(line(record), Some(marks[0].0), reason))
            }
        }
    }

    /// What a column is called in the first row.
    fn name(&self, column: usize) -> &str {
        self.records[0].get(column).unwrap_or_default()
    }

    /// Which column says what, where that is not plain, and which are not used.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let records = &self.records[usize::from(self.columns.header)..];
        if let Some(column) = self.columns.split {
            let cells = records.iter().filter_map(|record| record.get(column));
            let distinct: BTreeSet<&str> = cells.collect();
            let found = parts(distinct.iter().copied());
            let unusual = distinct.iter().zip(found).filter_map(|(name, part)| {
                let part = part?;
                (!USUAL.contains(name)).then(|| format!("`{name}` as {}", part.name()))
            });
            let unusual: Vec<String> = unusual.collect();
            if !unusual.is_empty() {
                notes.push(format!("read {}", unusual.join(", ")));
            }
        }
        let marks = &self.columns.marks;
        if let Some((column, _)) = marks.iter().find(|(_, part)| *part == Part::Train) {
            let told = |part: Part| marks.iter().any(|(_, told)| *told == part);
            let rest = match (told(Part::Test), told(Part::Val)) {
                (false, _) => Some("test"),
                (true, false) => Some("val"),
                (true, true) => None,
            };
            notes.extend(rest.map(|rest| {
                format!(
                    "rows whose `{}` is no are read as {rest}",
                    self.name(*column)
                )
            }));
        }
        const SHOWN: usize = 8;
        let unused = &self.columns.unused;
        if !unused.is_empty() {
            let names = unused.iter().take(SHOWN);
            let names: Vec<String> = names
                .map(|&column| format!("`{}`", self.name(column)))
                .collect();
            notes.push(format!(
                "not used: the column{} {}{}",
                if unused.len() == 1 { "" } else { "s" },
                names.join(", "),
                if unused.len() > SHOWN { ", ..." } else { "" }
            ));
        }
        notes
    }

    /// Whether a cell says yes.
    fn mark(&self, record: &StringRecord, column: usize) -> Result<bool, DataError> {
        let cell = self.cell(record, column, "value, true or false")?;
        columns::yes(cell).ok_or_else(|| {
            let reason = format!("`{cell}` is neither true nor false");
            self.bad(line(record), Some(column), reason)
        })
    }
}

fn line(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}
