//! The most that a data set may hold, checked before memory is taken for it.

use std::path::Path;

use crate::DataError;

/// Bytes of an image file.
pub(crate) const IMAGE_FILE_BYTES: u64 = 1 << 30;

/// Bytes of a file of arrays, or of an array in it.
pub(crate) const ARRAY_BYTES: u64 = 16 << 30;

/// Bytes of a table.
pub(crate) const TABLE_BYTES: u64 = 1 << 30;

/// Bytes of a file of class names.
pub(crate) const CLASS_NAMES_BYTES: u64 = 16 << 20;

/// Classes; ImageNet in full has 21,841.
pub(crate) const CLASSES: usize = 1 << 16;

/// Files and folders below a folder.
pub(crate) const ENTRIES: u64 = 1 << 24;

/// Folders inside one another.
pub(crate) const DEPTH: usize = 32;

/// Bytes that a compressed file of `length` bytes may unpack to: a hundred times as many (real images take a tenth of
/// that), and never less than 256 MiB.
pub(crate) fn unpacked_bytes(length: u64) -> u64 {
    length.saturating_mul(100).clamp(256 << 20, ARRAY_BYTES)
}

/// Checks a number of classes. `what` names them: `classes`.
pub(crate) fn check_classes(path: &Path, classes: usize, what: &str) -> Result<(), DataError> {
    if classes <= CLASSES {
        return Ok(());
    }
    Err(DataError::OverLimit {
        path: path.to_owned(),
        found: classes as u64,
        what: what.to_owned(),
        limit: CLASSES as u64,
    })
}
