//! Reading a file while it is being written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::fs::WritableFile;
use crate::patient::patiently;
use crate::regular::{Links, open_regular};

/// The progress of writing a file: what its writer tells its reader.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<(Mutex<Written>, Condvar)>);

#[derive(Clone, Copy, Default)]
struct Written {
    bytes: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Abandoned,
}

impl Progress {
    /// A writer into `file` that tells how far it is.
    pub(crate) fn follow<'a>(&self, file: &'a mut dyn WritableFile) -> Writing<'a> {
        Writing {
            file,
            progress: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    /// Waits until more than `bytes` are written or the writer has ended.
    fn beyond(&self, bytes: u64) -> Written {
        *self
            .0
            .1
            .wait_while(self.lock(), |written| {
                written.bytes <= bytes && written.end.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes into a file. Dropped before [`end`](Self::end), it tells the reader that there will be no more.
pub(crate) struct Writing<'a> {
    file: &'a mut dyn WritableFile,
    progress: Progress,
}

impl Writing<'_> {
    /// The file is whole. Returns its length.
    pub(crate) fn end(self) -> u64 {
        self.progress.tell(|written| written.end = Some(End::Whole));
        self.progress.lock().bytes
    }

    fn count(&self, bytes: usize) -> usize {
        self.progress.tell(|written| written.bytes += bytes as u64);
        bytes
    }
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        Ok(self.count(written))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let written = self.file.write_vectored(slices)?;
        Ok(self.count(written))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.progress
            .tell(|written| _ = written.end.get_or_insert(End::Abandoned));
    }
}

/// A file that is being written, read from the start: a read waits for the writer. What it gives is what the file holds.
pub struct ReadBack {
    file: File,
    path: PathBuf,
    progress: Progress,
    at: u64,
}

impl std::fmt::Debug for ReadBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBack")
            .field("path", &self.path)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl ReadBack {
    pub(crate) fn open(path: &Path, progress: &Progress) -> io::Result<Self> {
        Ok(Self {
            file: open_regular(path, Links::Refuse)?,
            path: path.to_owned(),
            progress: progress.clone(),
            at: 0,
        })
    }

    /// The file's hidden name, once it is whole.
    ///
    /// # Errors
    /// When the writer has given up.
    pub fn path(&self) -> io::Result<&Path> {
        self.beyond(u64::MAX)?;
        Ok(&self.path)
    }

    fn beyond(&self, bytes: u64) -> io::Result<Written> {
        let written = self.progress.beyond(bytes);
        match written.end {
            Some(End::Abandoned) => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "it was not written to its end",
            )),
            _ => Ok(written),
        }
    }
}

impl Read for ReadBack {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let written = self.beyond(self.at)?;
        // At the end the file itself says where that is, which must not be further than it was written.
        let most = match written.end {
            None => usize::try_from(written.bytes - self.at).unwrap_or(usize::MAX),
            Some(_) => usize::MAX,
        };
        let length = buffer.len().min(most);
        let read = patiently(|| self.file.read_at(&mut buffer[..length], self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::fs::{FileSystem, RealFileSystem};

    fn writer(folder: &Path) -> (Box<dyn WritableFile>, Progress, ReadBack) {
        let path = folder.join("file");
        let file = RealFileSystem.create_new(&path).unwrap();
        let progress = Progress::default();
        let back = ReadBack::open(&path, &progress).unwrap();
        (file, progress, back)
    }

    #[test]
    fn a_reader_waits_for_the_writer_and_gets_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, progress, mut back) = writer(folder.path());
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            back.read_to_end(&mut read).unwrap();
            assert_eq!(std::fs::read(back.path().unwrap()).unwrap(), read);
            read
        });
        let mut writing = progress.follow(&mut *file);
        for piece in text.chunks(777) {
            writing.write_all(piece).unwrap();
        }
        assert_eq!(writing.end(), text.len() as u64);
        assert_eq!(reader.join().unwrap(), text);
    }

    #[test]
    fn an_abandoned_file_is_an_error_and_not_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, progress, mut back) = writer(folder.path());
        let mut writing = progress.follow(&mut *file);
        writing.write_all(b"half").unwrap();
        drop(writing);
        let error = back.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        back.path().unwrap_err();
    }

    #[test]
    fn bytes_that_nobody_wrote_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, progress, mut back) = writer(folder.path());
        let mut writing = progress.follow(&mut *file);
        writing.write_all(b"mine").unwrap();
        writing.end();
        file.write_all(b"and more").unwrap();
        let mut read = Vec::new();
        back.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"mineand more");
    }
}
