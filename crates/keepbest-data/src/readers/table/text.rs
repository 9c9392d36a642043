//! From a table's bytes to its cells: encoding and delimiter are told by what is in it.

use std::path::Path;

use csv::StringRecord;

use super::columns::Columns;
use crate::DataError;

/// The number of rows that are looked at to tell what a table is like.
pub(super) const LOOKED_AT: usize = 20;

/// The text of a table in UTF-8 or UTF-16, with or without a byte order mark.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<String, DataError> {
    let bad = |line: u64, reason: &str| DataError::Table {
        path: path.to_owned(),
        line,
        column: None,
        reason: reason.to_owned(),
    };
    let wide = |bytes: &[u8], number: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|&pair| number(pair));
        let mut text = String::with_capacity(bytes.len());
        for letter in char::decode_utf16(units) {
            let Ok(letter) = letter else {
                let line = 1 + text.matches('\n').count() as u64;
                return Err(bad(line, "the text is no UTF-16"));
            };
            text.push(letter);
        }
        if rest.is_empty() {
            Ok(text)
        } else {
            Err(bad(1, "the text ends within a letter of UTF-16"))
        }
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return wide(rest, u16::from_be_bytes),
        // Without a mark: tables begin with letters of ASCII, which are half zero then.
        [1..=255, 0, 1..=255, 0, ..] => return wide(bytes, u16::from_le_bytes),
        [0, 1..=255, 0, 1..=255, ..] => return wide(bytes, u16::from_be_bytes),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        bad(line as u64, "the text is neither UTF-8 nor UTF-16")
    })?;
    Ok(text.to_owned())
}

/// The text with nothing in its first line where that is `sep=;`, by which Excel is told what parts the cells; and what that is.
pub(super) fn without_separator(text: String) -> (String, Option<u8>) {
    let first = text.lines().next().unwrap_or_default();
    let bare = first.trim().trim_matches('"').to_lowercase();
    let told = match bare.strip_prefix("sep=").map(str::as_bytes) {
        Some(&[delimiter]) => delimiter,
        // A tab at the end is trimmed away.
        Some([]) if first.contains('\t') => b'\t',
        _ => return (text, None),
    };
    let rest = text[first.len()..].to_owned();
    (rest, Some(told))
}

/// What parts the cells: of comma, semicolon, tab and bar the first by which the columns can be told, `usual` before all
/// others; else the first by which there is more than one column.
pub(super) fn delimiter(text: &str, usual: u8, folder: &Path) -> u8 {
    let candidates = [usual, b',', b';', b'\t', b'|'];
    let start = |delimiter: u8| -> Vec<StringRecord> {
        let records = reader(text, delimiter).into_records();
        records.take(LOOKED_AT).map_while(Result::ok).collect()
    };
    let told = |delimiter: &&u8| Columns::are_told(&start(**delimiter), folder);
    let parted = |delimiter: &&u8| {
        let records = start(**delimiter);
        records.first().is_some_and(|first| first.len() > 1)
    };
    let found = candidates.iter().find(told);
    let found = found.or_else(|| candidates.iter().find(parted));
    found.copied().unwrap_or(usual)
}

pub(super) fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes())
}
