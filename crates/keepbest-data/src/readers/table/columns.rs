//! Which column of a table is the path, which the label, and which tells the split.

use std::path::Path;

use csv::StringRecord;

use super::super::split_names::parts;
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
const IS_VAL: [&[&str]; 1] = [&["isvalid", "isval", "isvalidation"]];
const IS_TEST: [&[&str]; 1] = [&["istest"]];

/// Where the columns are, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Whether the first row names them.
    pub header: bool,
    pub path: usize,
    pub label: usize,
    /// The name of the split.
    pub split: Option<usize>,
    /// Whether the image is one of validation.
    pub is_val: Option<usize>,
    /// Whether the image is one for testing.
    pub is_test: Option<usize>,
}

impl Columns {
    /// Whether the first rows alone show which columns are path and label.
    pub fn are_told(rows: &[StringRecord], folder: &Path) -> bool {
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
    pub fn find(rows: &[StringRecord], folder: &Path) -> Result<Self, String> {
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
                is_val: None,
                is_test: None,
            });
        }
        let split = named(first, &SPLIT).or_else(|| split_by_content(rows, path));
        let (is_val, is_test) = (named(first, &IS_VAL), named(first, &IS_TEST));
        let label = match by_name {
            Some((_, label)) => label,
            None => {
                let used = [Some(path), split, is_val, is_test];
                label_column(rows, &used)?
            }
        };
        Ok(Self {
            header,
            path,
            label,
            split: split.filter(|&split| split != label),
            is_val,
            is_test,
        })
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
    let exists = |cell: &str| !cell.is_empty() && super::locate(folder, cell).is_file();
    let is_called_image = |cell: &str| has_image_extension(Path::new(cell));
    let (first, others) = rows.split_first()?;
    let column = |row: &StringRecord| {
        let by = |test: &dyn Fn(&str) -> bool| row.iter().position(test);
        by(&exists).or_else(|| by(&is_called_image))
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
        cells.all(|cell| matches!(cell, Some("0" | "1" | "0.0" | "1.0")))
    };
    match left[..] {
        [label] => Ok(label),
        [] => Err("there is no column for the label".to_owned()),
        _ if left.iter().all(is_mark) => Err(format!(
            "the columns {} hold 0 and 1, a label each; what is read is one column `label` with the one class of the image",
            names(&left)
        )),
        _ => Err(format!(
            "the first row does not say which column is the label: {}; call one of them `label`",
            names(&left)
        )),
    }
}
