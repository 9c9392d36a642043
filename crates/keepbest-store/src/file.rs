//! One file outside of a run, written as safely as one in it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use crate::error::IoError;
use crate::fs::{RealFileSystem, SharedFileSystem};
use crate::patient::{PatientRead, patient, patiently};
use crate::regular::{FileKind, Links, open_regular};
use crate::staged::{Staged, parent};
use crate::writer::require_space;
use crate::{BoxError, CommitError};

/// Writes a file of about `bytes` bytes: under a hidden name beside `target`, read back through `verify`, synced, renamed,
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
        &patient(RealFileSystem::shared()),
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
        // A rename would replace a device, too. A link is replaced, not what it leads to.
        Some(stat) if stat.kind != FileKind::Link => stat
            .kind
            .require_file()
            .map_err(IoError::at("replace", target)),
        _ => Ok(()),
    };
    free()?;
    require_space(&**fs, parent(target), bytes)?;
    let write = |out: &mut dyn Write| {
        write(out).map_err(|error| CommitError::Io(IoError::at("write", target)(error)))
    };
    let (filled, ()) =
        Staged::create(fs, target.to_owned())?.fill(write, |back| verify(back.path()?))?;
    // Another process may have made one meanwhile.
    free()?;
    filled.finish()?;
    Ok(())
}

/// Replaces a file that can be made again at any time: whole or not at all, and not synced. A link in its place is replaced, not
/// followed.
///
/// # Errors
/// When a system call fails; `target` is then what it was.
pub fn replace_unsynced(target: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let fs = patient(RealFileSystem::shared());
    Staged::create(&fs, target.to_owned())?.put_unsynced(bytes)
}

/// Whether a file holds exactly what `write` writes.
///
/// # Errors
/// When it cannot be read, or `write` fails.
pub fn holds(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<bool> {
    let mut compare = Compare {
        file: open_regular(path, Links::Refuse)?,
        equal: true,
    };
    write(&mut compare)?;
    Ok(compare.equal && patiently(|| compare.file.read(&mut [0]))? == 0)
}

/// Compares what is written to it with what the file has at that place.
struct Compare {
    file: File,
    equal: bool,
}

impl Write for Compare {
    fn write(&mut self, expected: &[u8]) -> io::Result<usize> {
        if !self.equal {
            return Ok(expected.len());
        }
        let mut found = [0; 1 << 16];
        let found = &mut found[..expected.len().min(1 << 16)];
        match PatientRead(&mut self.file).read_exact(found) {
            Ok(()) => self.equal = *found == expected[..found.len()],
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.equal = false,
            Err(error) => return Err(error),
        }
        Ok(found.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    fn a_link_is_replaced_and_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("precious"), "precious").unwrap();
        for name in ["report.html", ".staged-report.html.0"] {
            std::os::unix::fs::symlink(path("precious"), path(name)).unwrap();
        }
        replace_unsynced(&path("report.html"), b"page").unwrap();
        assert_eq!(std::fs::read(path("precious")).unwrap(), b"precious");
        assert_eq!(std::fs::read(path("report.html")).unwrap(), b"page");
        assert!(
            std::fs::symlink_metadata(path("report.html"))
                .unwrap()
                .is_file()
        );
        std::fs::create_dir(path("folder")).unwrap();
        replace_unsynced(&path("folder"), b"page").unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = write_file(&path, true, 3, |out| out.write_all(b"new"), |_| Ok(()));
        let CommitError::Io(error) = error.unwrap_err() else {
            panic!("it was replaced");
        };
        assert_eq!(error.source.to_string(), "it is a FIFO, not a regular file");
    }

    #[test]
    fn a_file_holds_what_was_written_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth");
        let text: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let put = |out: &mut dyn Write| {
            out.write_all(&text[..7])?;
            out.write_all(&text[7..])
        };
        let same = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            holds(&path, put).unwrap()
        };
        assert!(same(&text));
        assert!(!same(&text[..199_999]));
        assert!(!same(&[&text[..], b"x"].concat()));
        let mut other = text.clone();
        other[150_000] ^= 1;
        assert!(!same(&other));
        assert_eq!(
            holds(&folder.path().join("none"), put).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn a_small_file_needs_its_own_bytes_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.md");
        let fs = crate::faulty::FaultyFileSystem::new(folder.path()).unwrap();
        let shared: SharedFileSystem = std::sync::Arc::new(fs.clone());
        let write = || {
            let put = |out: &mut dyn Write| out.write_all(b"card");
            write_file_on(&shared, &path, true, 4, put, |_| Ok(()))
        };
        fs.limit_space(3);
        let error = write().unwrap_err();
        assert!(
            matches!(
                error,
                CommitError::NoSpace {
                    needed: 4,
                    available: 3,
                    ..
                }
            ),
            "{error:?}"
        );
        fs.limit_space(4);
        write().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"card");
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
