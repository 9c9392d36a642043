//! Names of classes from a file beside the data, or their numbers.

use std::collections::BTreeSet;
use std::path::Path;

use super::disk::{is_there, read_file};
use super::limits;
use crate::DataError;

/// Class names from a text file, one a line; blank lines at the end do not count.
pub(crate) fn read_class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let bad = |reason: String| DataError::ClassName {
        path: path.to_owned(),
        reason,
    };
    let text = String::from_utf8(read_file(path, limits::CLASS_NAMES_BYTES)?)
        .map_err(|_| bad("the file is not UTF-8".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let names: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    limits::check_classes(path, names.len(), "classes")?;
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(bad(format!("line {} is empty", index + 1)));
        }
        if !seen.insert(name) {
            return Err(bad(format!("`{name}` is there twice")));
        }
    }
    Ok(names)
}

/// Whether a label is what programs write where there is none. `NA` and `None` are not among them: things are called so.
pub(crate) fn says_no_label(label: &str) -> bool {
    let words = ["nan", "null", "n/a", "<na>", "#n/a", "?"];
    words.iter().any(|word| word.eq_ignore_ascii_case(label))
}

/// Whether a label may well stand for none, and may as well be a class.
pub(crate) fn may_say_no_label(label: &str) -> bool {
    ["NA", "None", "-1"].contains(&label)
}

/// The class names beside the data where there are any, else the numbers up to the largest training label. `labels` is
/// the file that the labels are from.
pub(crate) fn class_names_or_numbers(
    folder: &Path,
    file: &str,
    labels: &Path,
    train: &[u32],
) -> Result<Vec<String>, DataError> {
    let path = folder.join(file);
    if is_there(&path) {
        return read_class_names(&path);
    }
    let Some(&largest) = train.iter().max() else {
        return Ok(Vec::new());
    };
    let classes = largest as usize + 1;
    let what = format!("classes, for the largest label is {largest}");
    limits::check_classes(labels, classes, &what)?;
    Ok((0..classes).map(|class| class.to_string()).collect())
}
