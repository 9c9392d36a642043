//! One file outside of a run, written as safely as one in it.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::error::IoError;
use crate::fs::{RealFileSystem, SharedFileSystem};
use crate::staged::{Staged, parent};
use crate::writer::ensure_space;
use crate::{BoxError, CommitError};

/// Writes a file of about `bytes` bytes: under a hidden name beside `target`, synced, read back through `verify`, renamed,
/// the directory synced. Whenever it stops, `target` is what it was or the new file, whole.
///
/// Unless `replace`, an existing `target` is left alone.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.txt");
/// keepbest_store::write_file(&path, false, 2, |out| out.write_all(b"hi"), |_| Ok(()))?;
/// assert_eq!(std::fs::read(&path)?, b"hi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CommitError::Io`] when `target` exists (`ErrorKind::AlreadyExists`) or a system call fails, [`CommitError::NoSpace`],
/// [`CommitError::Verify`] when `verify` refuses what was written, which is then removed.
pub fn write_file(
    target: &Path,
    replace: bool,
    bytes: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    verify: impl FnOnce(&Path) -> Result<(), BoxError> + Send,
) -> Result<(), CommitError> {
    write_file_on(
        &RealFileSystem::shared(),
        target,
        replace,
        bytes,
        write,
        verify,
    )
}

/// Writes a file on a given file system.
///
/// # Errors
/// As [`write_file`].
pub fn write_file_on(
    fs: &SharedFileSystem,
    target: &Path,
    replace: bool,
    bytes: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    verify: impl FnOnce(&Path) -> Result<(), BoxError> + Send,
) -> Result<(), CommitError> {
    let free = || match fs.stat(target).map_err(IoError::at("examine", target))? {
        Some(_) if !replace => Err(IoError::at("create", target)(
            ErrorKind::AlreadyExists.into(),
        )),
        Some(stat) if stat.is_dir => Err(IoError::at("replace", target)(
            ErrorKind::IsADirectory.into(),
        )),
        _ => Ok(()),
    };
    free()?;
    ensure_space(&**fs, parent(target), bytes)?;
    let mut staged = Staged::create(fs, target.to_owned())?;
    write(&mut staged).map_err(IoError::at("write", target))?;
    staged.sync_and_verify(verify)?;
    // Another process may have made one meanwhile.
    free()?;
    staged.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_stays_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth");
        let write = |text: &'static [u8], replace| {
            let put = |out: &mut dyn Write| out.write_all(text);
            write_file(&path, replace, 3, put, |_| Ok(()))
        };
        write(b"old", false).unwrap();
        let error = write(b"new", false).unwrap_err();
        assert!(
            matches!(&error, CommitError::Io(error) if error.source.kind() == ErrorKind::AlreadyExists),
            "{error:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(b"new", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_is_not_as_written_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth");
        std::fs::write(&path, "old").unwrap();
        let put = |out: &mut dyn Write| out.write_all(b"new");
        let error = write_file(&path, true, 3, put, |staged| {
            assert_eq!(std::fs::read(staged)?, b"new");
            Err("no".into())
        });
        assert!(matches!(error, Err(CommitError::Verify { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn crashes_leave_the_old_or_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("disk");
        std::fs::create_dir(&root).unwrap();
        let path = root.join("best.pth");
        let faulty = std::sync::Arc::new(crate::faulty::FaultyFileSystem::new(&root).unwrap());
        let fs: SharedFileSystem = faulty.clone();
        for text in [&b"old"[..], b"new, and longer"] {
            write_file_on(&fs, &path, true, 3, |out| out.write_all(text), |_| Ok(())).unwrap();
        }
        let calls = faulty.calls();
        assert!(calls > 8);
        // Whichever call fails, the file is one of the two.
        for fail_at in calls..calls + 10 {
            faulty.fail(move |call| (call.index == fail_at).then(|| io::Error::other("failed")));
            let before = std::fs::read(&path).unwrap();
            let put = |out: &mut dyn Write| out.write_all(format!("{fail_at}").as_bytes());
            let done = write_file_on(&fs, &path, true, 3, put, |_| Ok(()));
            faulty.heal();
            let after = std::fs::read(&path).unwrap();
            let new = format!("{fail_at}").into_bytes();
            assert!(after == before || after == new, "{done:?}");
            assert!(done.is_err() || after == new);
        }
    }
}
