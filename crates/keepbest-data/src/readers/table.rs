//! A table of image files and their labels: CSV, or TSV by the file's name.
//!
//! Columns are told by a header (`path`, `file`, `filename` or `image`; `label`, `class` or `category`; `split`, `set` or
//! `subset`), and without one stand in this order. Paths are relative to the table. The split is `train`, `val` (`valid`,
//! `validation`) or `test`; without that column all images are for training. Classes are the labels of the training images,
//! sorted by number when all are whole numbers, by their bytes otherwise.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{FileDataset, Intake, Unreadable};
use super::io_error;
use crate::{DataBundle, DataError, Dataset, Watch};

const PATH: [&str; 5] = ["path", "file", "filename", "image", "image_path"];
const LABEL: [&str; 3] = ["label", "class", "category"];
const SPLIT: [&str; 3] = ["split", "set", "subset"];

/// Whether a file is called as tables are.
pub(crate) fn is_table(path: &Path) -> bool {
    delimiter(path).is_some()
}

fn delimiter(path: &Path) -> Option<u8> {
    let extension = path.extension()?.to_str()?.to_lowercase();
    match extension.as_str() {
        "csv" => Some(b','),
        "tsv" => Some(b'\t'),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Train,
    Val,
    Test,
}

struct Row {
    path: PathBuf,
    label: String,
    split: Split,
    line: u64,
}

/// Opens a table of images.
///
/// # Errors
/// When the table cannot be read, a row has no path or label or another split, a file's header cannot be read (the first is
/// named), a label is not among those of the training images, or the watch says to stop.
pub fn open(
    path: &Path,
    unreadable: Unreadable,
    watch: Watch<'_>,
) -> Result<DataBundle, DataError> {
    let rows = read(path)?;
    let classes = classes(&rows);
    if classes.is_empty() {
        return Err(DataError::Table {
            path: path.to_owned(),
            line: 1,
            reason: "the table names no images".to_owned(),
        });
    }
    let mut intake = Intake::new(unreadable, watch);
    let mut set = |split: Split| -> Result<Option<Arc<dyn Dataset>>, DataError> {
        let mut files = Vec::new();
        for row in rows.iter().filter(|row| row.split == split) {
            let label = classes.iter().position(|class| *class == row.label);
            let label = label.ok_or_else(|| DataError::Table {
                path: path.to_owned(),
                line: row.line,
                reason: format!("class `{}` is unknown to the training images", row.label),
            })?;
            files.push((row.path.clone(), label as u32));
        }
        if files.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(FileDataset::open(
            "table",
            &classes,
            files,
            &mut intake,
        )?)))
    };
    let [train, val, test] = [set(Split::Train)?, set(Split::Val)?, set(Split::Test)?];
    let bundle = DataBundle::of_splits(path.display().to_string(), train, val, test);
    let bundle = bundle.ok_or_else(|| DataError::Empty {
        path: path.to_owned(),
    })?;
    Ok(DataBundle {
        kind: "table",
        notes: intake.note().into_iter().collect(),
        skipped: intake.skipped,
        ..bundle
    })
}

fn classes(rows: &[Row]) -> Vec<String> {
    // A table to measure on alone has the classes of all its images.
    let trains = rows.iter().any(|row| row.split == Split::Train);
    let named = rows
        .iter()
        .filter(|row| !trains || row.split == Split::Train);
    let names: BTreeSet<&str> = named.map(|row| row.label.as_str()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// Where the columns are.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

impl Columns {
    /// As the first row names them; `None` when it names none.
    fn named(first: &csv::StringRecord) -> Option<Self> {
        let find = |names: &[&str]| {
            first
                .iter()
                .position(|cell| names.contains(&cell.trim().to_lowercase().as_str()))
        };
        Some(Self {
            path: find(&PATH)?,
            label: find(&LABEL)?,
            split: find(&SPLIT),
        })
    }
}

fn read(path: &Path) -> Result<Vec<Row>, DataError> {
    let bad = |line: u64, reason: String| DataError::Table {
        path: path.to_owned(),
        line,
        reason,
    };
    let file = std::fs::File::open(path).map_err(|source| io_error(path, source))?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(path).unwrap_or(b','))
        .has_headers(false)
        .flexible(true)
        .from_reader(file);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut columns = None;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            bad(line, error.to_string())
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let columns = match &columns {
            Some(columns) => columns,
            None => match Columns::named(&record) {
                Some(named) => {
                    columns = Some(named);
                    continue;
                }
                None => columns.insert(Columns {
                    path: 0,
                    label: 1,
                    split: (record.len() > 2).then_some(2),
                }),
            },
        };
        let cell = |at: usize, what: &str| {
            let text = record
                .get(at)
                .map(str::trim)
                .filter(|text| !text.is_empty());
            text.ok_or_else(|| bad(line, format!("there is no {what} in column {}", at + 1)))
        };
        let split = match columns.split {
            None => Split::Train,
            Some(at) => match cell(at, "split")?.to_lowercase().as_str() {
                "train" | "training" => Split::Train,
                "val" | "valid" | "validation" => Split::Val,
                "test" | "testing" => Split::Test,
                other => {
                    return Err(bad(
                        line,
                        format!("split `{other}` is none of train, val and test"),
                    ));
                }
            },
        };
        rows.push(Row {
            path: folder.join(cell(columns.path, "path")?),
            label: cell(columns.label, "label")?.to_owned(),
            split,
            line,
        });
    }
    Ok(rows)
}
