//! Which column of a table is the path, which the label, and which tells the split.

use std::path::Path;

use csv::StringRecord;

use super::super::split_names::{Part, parts};
use crate::decode::has_image_extension;

/// What columns are called, the surest names first; without case, blanks and underscores.
const PATH: [&[&str]; 3] = [
    &["path", "file", "filename", "image", "imagepath"],
    &[
        "filepath",
        "imagefile",
        "imagefilename",
        "imagename",
        "img",
        "imgpath",
        "imgfile",
        "imgname",
        "fname",
        "photo",
        "picture",
    ],
    &["name", "id", "imageid", "imgid"],
];
const LABEL: [&[&str]; 2] = [
    &["label", "class", "category"],
    &[
        "labels",
        "labelname",
        "classname",
        "classlabel",
        "categoryname",
        "species",
        "breed",
        "target",
        "groundtruth",
        "y",
    ],
];
const SPLIT: [&[&str]; 1] = [&["split", "set", "subset", "partition", "phase"]];

/// The places of the columns, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Whether the first row names them.
    pub header: bool,
    pub path: usize,
    pub label: usize,
    /// The name of the split.
    pub split: Option<usize>,
    /// Columns that say of one split, by yes or no, whether the image is in it.
    pub marks: Vec<(usize, Part)>,
    /// Columns with a name that are none of these.
    pub unused: Vec<usize>,
}

impl Columns {
    /// Whether the first rows alone show which columns are path and label.
    pub(super) fn are_told(rows: &[StringRecord], folder: &Path) -> bool {
        let Some(first) = rows.first() else {
            return false;
        };
        let named = named(first, &PATH).is_some() && named(first, &LABEL).is_some();
        named || first.len() > 1 && path_column(rows, folder).is_some()
    }

    /// Columns by the names in the first row; by where there are files, when it does not name them; else path, label and
    /// split in this order.
    ///
    /// # Errors
    /// In words, when it does not show which column is the label.
    pub(super) fn find(rows: &[StringRecord], folder: &Path) -> Result<Self, String> {
        let Some(first) = rows.first() else {
            return Err("the table is empty".to_owned());
        };
        let by_name = named(first, &PATH).zip(named(first, &LABEL));
        let by_content = path_column(rows, folder);
        let (header, path) = match (by_name, by_content) {
            (Some((path, _)), _) => (true, path),
            (None, Some((row, path))) => (row > 0, named_in(first, row, path)),
            (None, None) => (false, 0),
        };
        if !header {
            let label = usize::from(path == 0);
            if path > 1 || path == 1 && first.len() > 2 {
                return Err(format!(
                    "the images are in column {}, but no first row says which column is the label",
                    path + 1
                ));
            }
            return Ok(Self {
                header,
                path,
                label,
                split: (first.len() > 2).then_some(2),
                marks: Vec::new(),
                unused: Vec::new(),
            });
        }
        let split = named(first, &SPLIT).or_else(|| split_by_content(rows, path));
        let by_name = by_name.map(|(_, label)| label);
        let split = split.filter(|&split| Some(split) != by_name);
        let marks = match split {
            Some(_) => Vec::new(),
            None => marks(rows, &[Some(path), by_name]),
        };
        let mut used = vec![Some(path), split];
        used.extend(marks.iter().map(|(column, _)| Some(*column)));
        let label = match by_name {
            Some(label) => label,
            None => label_column(rows, &used)?,
        };
        used.push(Some(label));
        let unused = (0..first.len()).filter(|&column| {
            !used.contains(&Some(column)) && first.get(column).is_some_and(|name| !name.is_empty())
        });
        Ok(Self {
            header,
            path,
            label,
            unused: unused.collect(),
            split: split.filter(|&split| split != label),
            marks,
        })
    }
}

/// The columns called as one split is (`is_valid`, `is_training_image`, `test`) that hold yes and no. After `is` the name alone
/// tells.
fn marks(rows: &[StringRecord], used: &[Option<usize>]) -> Vec<(usize, Part)> {
    let part = |column: usize| {
        let name = bare(rows[0].get(column)?);
        let (sure, name) = match name.strip_prefix("is") {
            Some(name) => (true, name),
            None => (false, name.as_str()),
        };
        let name = ["image", "img", "flag", "sample"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let part = parts(std::iter::once(name))[0]?;
        let mut cells = rows.iter().skip(1).map(|row| row.get(column));
        (sure || cells.all(|cell| cell.and_then(yes).is_some())).then_some((column, part))
    };
    let columns = (0..rows[0].len()).filter(|&column| !used.contains(&Some(column)));
    columns.filter_map(part).collect()
}

/// Whether a cell says yes; `None` where it says neither yes nor no.
pub(super) fn yes(cell: &str) -> Option<bool> {
    match cell.to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// The column whose name in the first row is one of these.
fn named(first: &StringRecord, names: &[&[&str]]) -> Option<usize> {
    let cells: Vec<String> = first.iter().map(bare).collect();
    names
        .iter()
        .find_map(|names| cells.iter().position(|cell| names.contains(&cell.as_str())))
}

/// A name without case, blanks and marks.
fn bare(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// The column that has files in it, and the first row where it has one: the first row's where that has any. What is called
/// as images are counts as well, so that a missing file is not taken for a name of a column.
fn path_column(rows: &[StringRecord], folder: &Path) -> Option<(usize, usize)> {
    let exists = |cell: &str| !cell.is_empty() && super::written(folder, cell).is_file();
    let is_id = |cell: &str| !cell.is_empty() && super::locate(folder, cell).is_file();
    let is_called_image = |cell: &str| has_image_extension(Path::new(cell));
    let (first, others) = rows.split_first()?;
    let column = |row: &StringRecord| {
        let by = |test: &dyn Fn(&str) -> bool| row.iter().position(test);
        by(&exists)
            .or_else(|| by(&is_called_image))
            .or_else(|| by(&is_id))
    };
    let in_first = column(first).map(|column| (0, column));
    in_first.or_else(|| {
        let mut found = others.iter().enumerate();
        found.find_map(|(row, cells)| Some((row + 1, column(cells)?)))
    })
}

/// The column found by its content, unless the first row is a header that names another that is it.
fn named_in(first: &StringRecord, row: usize, found: usize) -> usize {
    if row == 0 {
        return found;
    }
    named(first, &PATH[..2]).unwrap_or(found)
}

/// A column that holds nothing but names of splits.
fn split_by_content(rows: &[StringRecord], path: usize) -> Option<usize> {
    let width = rows.first()?.len();
    (0..width).find(|&column| {
        let cells: Option<Vec<&str>> = rows.iter().skip(1).map(|row| row.get(column)).collect();
        let Some(cells) = cells.filter(|cells| !cells.is_empty()) else {
            return false;
        };
        column != path && parts(cells.into_iter()).iter().all(Option::is_some)
    })
}

/// The only column that is none of `used`.
fn label_column(rows: &[StringRecord], used: &[Option<usize>]) -> Result<usize, String> {
    let first = &rows[0];
    if let Some(label) = named(first, &LABEL) {
        return Ok(label);
    }
    let left: Vec<usize> = (0..first.len())
        .filter(|&column| !used.contains(&Some(column)))
        .collect();
    let names = |columns: &[usize]| {
        let names: Vec<&str> = columns.iter().map(|&column| &first[column]).collect();
        names.join(", ")
    };
    let is_mark = |&column: &usize| {
        let mut cells = rows.iter().skip(1).map(|row| row.get(column));
        cells.all(|cell| cell.and_then(yes).is_some())
    };
    match left[..] {
        [label] => Ok(label),
        [] => Err("there is no column for the label".to_owned()),
        _ if left.iter().all(is_mark) => Err(format!(
            "the columns {} hold yes and no, a label each; what is read is one column `label` with the one class of the image",
            names(&left)
        )),
        _ => Err(format!(
            "the first row does not say which column is the label: {}; call one of them `label`",
            names(&left)
        )),
    }
}
