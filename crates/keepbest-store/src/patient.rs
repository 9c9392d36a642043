//! A file system whose calls may be interrupted: they are made again, and not for ever.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::fs::{FileSystem, SharedFileSystem, Stat, WritableFile};

/// The number of times that a call is made before its interruption counts as a failure.
const TRIES: u32 = 8;
/// The time that a call that could not be made at that moment waits before it is made again.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes calls again that were interrupted (`EINTR`) or could not be made at that moment (`EAGAIN`). What goes on for longer is an
/// error of another kind, so that no loop further up makes it again without end.
#[derive(Debug)]
struct Patient(SharedFileSystem);

/// The same file system, with patience.
pub(crate) fn patient(fs: SharedFileSystem) -> SharedFileSystem {
    Arc::new(Patient(fs))
}

pub(crate) fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
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

/// Opens a file. The standard library makes an interrupted call again without end.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    // Of a file that it makes, as the standard library has it: the rest is the user's umask.
    let mode = Mode::from_raw_mode(0o666);
    let opened = patiently(|| Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, mode)?))?;
    Ok(File::from(opened))
}

/// Makes contents and length durable.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    // Apple's systems need another call for it, which the standard library makes.
    #[cfg(target_vendor = "apple")]
    return file.sync_data();
    #[cfg(not(target_vendor = "apple"))]
    Ok(rustix::fs::fdatasync(file)?)
}

/// Makes a directory's names durable.
pub(crate) fn sync_all(directory: &File) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    return directory.sync_all();
    #[cfg(not(target_vendor = "apple"))]
    Ok(rustix::fs::fsync(directory)?)
}

/// What is left of a file. The standard library makes an interrupted read again without end.
pub(crate) fn read_to_end(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PatientRead(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file whose interrupted reads are made again, and not for ever.
pub(crate) struct PatientRead<'a, R>(pub(crate) &'a mut R);

impl<R: Read> Read for PatientRead<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        patiently(|| self.0.read(buffer))
    }
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

    /// A file of which every read is interrupted but each of this number.
    struct Interrupted(u32, u32);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match (self.1 % self.0, self.1 / self.0) {
                (0, 1) => Ok({
                    buffer[..4].copy_from_slice(b"text");
                    4
                }),
                (0, _) => Ok(0),
                _ => Err(ErrorKind::Interrupted.into()),
            }
        }
    }

    impl Interrupted {
        fn every(number: u32) -> Self {
            Self(number, 0)
        }
    }

    #[test]
    fn a_file_whose_reads_are_interrupted_for_good_is_an_error() {
        assert_eq!(
            read_to_end(&mut Interrupted::every(TRIES)).unwrap(),
            b"text"
        );
        let error = read_to_end(&mut Interrupted::every(u32::MAX)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
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
