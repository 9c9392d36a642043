//! Refs: `best.safetensors`, `last.safetensors` and their like, moved by renaming a hard link over them.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::IoError;
use crate::fs::{SharedFileSystem, sync_dir};
use crate::layout::{CheckpointName, RefName, free_aside};
use crate::regular::FileKind;
use crate::staged::{Staged, staged_path};

/// Points a ref at a checkpoint and syncs the run directory.
pub(crate) fn point(
    fs: &SharedFileSystem,
    run: &Path,
    reference: &RefName,
    checkpoint: &CheckpointName,
) -> Result<(), IoError> {
    replace_by_link(fs, &checkpoint.path(run), &reference.path(run))?;
    sync_dir(&**fs, run)
}

/// Makes `target` another name of `original`, or a synced copy where that is not possible. The directory is not synced in the
/// first case.
pub(crate) fn replace_by_link(
    fs: &SharedFileSystem,
    original: &Path,
    target: &Path,
) -> Result<(), IoError> {
    if same_file(fs, original, target)? {
        // Renaming one name of a file over another does nothing and leaves both, so this case must not come below.
        return Ok(());
    }
    let found = fs.stat(target).map_err(IoError::at("examine", target))?;
    if found.is_some_and(|stat| stat.kind == FileKind::Directory) {
        // A rename does not replace it, and what is in it is not ours to remove.
        let aside = free_aside(&**fs, target)?;
        fs.rename(target, &aside)
            .map_err(IoError::at("rename", target))?;
    }
    let staged = staged_path(fs, target)?;
    match fs.hard_link(original, &staged) {
        Ok(()) => fs.rename(&staged, target).map_err(|error| {
            let _ = fs.remove_file(&staged);
            IoError::at("rename", &staged)(error)
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(IoError::at("link", original)(error))
        }
        // No links here (FAT, some network file systems), or no more for this file.
        Err(_) => copy(fs, original, target),
    }
}

fn copy(fs: &SharedFileSystem, original: &Path, target: &Path) -> Result<(), IoError> {
    let bytes = fs.read(original).map_err(IoError::at("read", original))?;
    Staged::create(fs, target.to_owned())?.put(&bytes)
}

/// Whether two paths name one file.
pub(crate) fn same_file(fs: &SharedFileSystem, a: &Path, b: &Path) -> Result<bool, IoError> {
    let a = fs.stat(a).map_err(IoError::at("examine", a))?;
    let b = fs.stat(b).map_err(IoError::at("examine", b))?;
    Ok(matches!((a, b), (Some(a), Some(b)) if a.identity == b.identity))
}

/// The first of `refs` that on disk is another name of the file at `path`.
pub(crate) fn link_to(
    fs: &SharedFileSystem,
    run: &Path,
    path: &Path,
    refs: Vec<RefName>,
) -> Result<Option<RefName>, IoError> {
    for reference in refs {
        if same_file(fs, path, &reference.path(run))? {
            return Ok(Some(reference));
        }
    }
    Ok(None)
}
