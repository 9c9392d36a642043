//! A file system whose calls may be interrupted: they are made again, and not for ever.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::fs::{FileSystem, SharedFileSystem, Stat, WritableFile};

/// How often a call is made before its interruption counts as a failure.
const TRIES: u32 = 8;
/// How long a call that could not be made at that moment waits before it is made again.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes calls again that were interrupted (`EINTR`) or could not be made at that moment (`EAGAIN`). What goes on for longer is an
/// error of another kind, so that no loop further up makes it again without end.
#[derive(Debug)]
struct Patient(SharedFileSystem);

/// The same file system, with patience.
pub(crate) fn patient(fs: SharedFileSystem) -> SharedFileSystem {
    Arc::new(Patient(fs))
}

fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            done => return done,
        }
    }
    call().map_err(|error| match error.kind() {
        ErrorKind::Interrupted | ErrorKind::WouldBlock => io::Error::other(error),
        _ => error,
    })
}

impl FileSystem for Patient {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let file = patiently(|| self.0.create_new(path))?;
        Ok(Box::new(PatientFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let file = patiently(|| self.0.open_append(path))?;
        Ok(Box::new(PatientFile(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        patiently(|| self.0.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        patiently(|| self.0.remove_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        patiently(|| self.0.rename(from, to))
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        patiently(|| self.0.hard_link(original, link))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        patiently(|| self.0.remove_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        patiently(|| self.0.sync_dir(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        patiently(|| self.0.read(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        patiently(|| self.0.list(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        patiently(|| self.0.stat(path))
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        patiently(|| self.0.available_space(path))
    }
}

struct PatientFile(Box<dyn WritableFile>);

impl Write for PatientFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        patiently(|| self.0.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        patiently(|| self.0.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        patiently(|| self.0.flush())
    }
}

impl WritableFile for PatientFile {
    fn sync_data(&mut self) -> io::Result<()> {
        // An interrupted sync has not failed; one that could not be made may have, and then the file is abandoned.
        for _ in 1..TRIES {
            match self.0.sync_data() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        patiently(|| self.0.truncate(len))
    }

    fn stat(&self) -> io::Result<Stat> {
        patiently(|| self.0.stat())
    }

    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        patiently(|| self.0.read_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(times: u32, kind: ErrorKind) -> (io::Result<()>, u32) {
        let mut calls = 0;
        let result = patiently(|| {
            calls += 1;
            match calls > times {
                true => Ok(()),
                false => Err(kind.into()),
            }
        });
        (result, calls)
    }

    #[test]
    fn an_interruption_passes_and_a_lasting_one_is_a_failure_of_another_kind() {
        for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let (result, calls) = fails(TRIES - 1, kind);
            result.unwrap();
            assert_eq!(calls, TRIES);
            let (result, calls) = fails(u32::MAX, kind);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Other);
            assert_eq!(calls, TRIES);
        }
        let (result, calls) = fails(1, ErrorKind::NotFound);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(calls, 1);
    }
}
