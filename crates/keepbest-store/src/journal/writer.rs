//! Extending the journal.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::event::Event;
use super::line;
use super::reader::{Entry, Journal, parse};
use crate::error::{IoError, JournalError};
use crate::fs::{SharedFileSystem, WritableFile, sync_dir};
use crate::layout::free_aside;
use crate::lock::now_ms;
use crate::staged::{Staged, parent};

/// The one writer of a journal. Every append is durable when it returns, or has not happened.
pub(crate) struct JournalWriter {
    fs: SharedFileSystem,
    path: PathBuf,
    file: Handle,
    // Length and number of events of the part that is durable.
    len: u64,
    events: u64,
}

enum Handle {
    Open(Box<dyn WritableFile>),
    // A sync failed, or a partial line could not be cut: what the file holds is unknown. The next append writes the durable
    // part to a new file first.
    Abandoned,
}

impl fmt::Debug for JournalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalWriter")
            .field("path", &self.path)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl JournalWriter {
    /// Opens or creates the journal, and cuts a torn tail.
    pub(crate) fn open(
        fs: &SharedFileSystem,
        path: &Path,
    ) -> Result<(Self, Journal), JournalError> {
        let existing = fs.stat(path).map_err(IoError::at("examine", path))?;
        let bytes = match existing {
            Some(_) => fs.read(path).map_err(IoError::at("read", path))?,
            None => Vec::new(),
        };
        let journal = parse(path, &bytes)?;
        let mut file = fs.open_append(path).map_err(IoError::at("open", path))?;
        if existing.is_none() {
            sync_dir(&**fs, parent(path))?;
        }
        if journal.torn.is_some() {
            match file.truncate(journal.len) {
                Ok(()) => file.sync_data().map_err(IoError::at("sync", path))?,
                // No cutting here, or not now.
                Err(_) => {
                    replace(fs, path, &bytes[..journal.len as usize])?;
                    file = fs.open_append(path).map_err(IoError::at("open", path))?;
                }
            }
        }
        let writer = Self {
            fs: SharedFileSystem::clone(fs),
            path: path.to_owned(),
            file: Handle::Open(file),
            len: journal.len,
            events: journal.entries.len() as u64,
        };
        Ok((writer, journal))
    }

    /// How many events are durable.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Brings the journal back to its name when it was removed, or something else was put in its place. Returns what was found and
    /// what was done.
    pub(crate) fn restore(&mut self) -> Result<Option<(String, String)>, JournalError> {
        let Handle::Open(file) = &mut self.file else {
            return Ok(None);
        };
        let named = self
            .fs
            .stat(&self.path)
            .map_err(IoError::at("examine", &self.path))?;
        let own = file.stat().map_err(IoError::at("examine", &self.path))?;
        if named.is_some_and(|named| named.identity == own.identity) {
            return Ok(None);
        }
        let bytes = file
            .read_all()
            .map_err(IoError::at("read what was", &self.path))?;
        let durable = self.durable(&bytes)?;
        let told = match named {
            None => ("was removed".to_owned(), "written anew".to_owned()),
            Some(_) => {
                let aside = free_aside(&*self.fs, &self.path)?;
                self.fs
                    .rename(&self.path, &aside)
                    .map_err(IoError::at("rename", &self.path))?;
                let aside = aside.file_name().unwrap_or_default().to_string_lossy();
                (
                    "was replaced by another file".to_owned(),
                    format!("written anew, the other is kept as {aside}"),
                )
            }
        };
        replace(&self.fs, &self.path, durable)?;
        self.reopen()?;
        Ok(Some(told))
    }

    /// The part of the journal's bytes that was synced: proves that the system still has it.
    fn durable<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], JournalError> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let durable = bytes.get(..len).ok_or_else(|| abandoned(&self.path))?;
        let journal = parse(&self.path, durable)?;
        match journal.torn.is_none() && journal.entries.len() as u64 == self.events {
            true => Ok(durable),
            false => Err(abandoned(&self.path).into()),
        }
    }

    fn reopen(&mut self) -> Result<(), JournalError> {
        let file = self
            .fs
            .open_append(&self.path)
            .map_err(IoError::at("open", &self.path))?;
        self.file = Handle::Open(file);
        Ok(())
    }

    /// Appends one event and syncs it.
    pub(crate) fn append(&mut self, event: Event) -> Result<Entry, JournalError> {
        let entry = Entry {
            seq: self.events + 1,
            time_ms: now_ms(),
            event,
        };
        let line = line::seal(&entry).map_err(|source| JournalError::Encode {
            kind: entry.event.kind().to_owned(),
            source,
        })?;
        if matches!(self.file, Handle::Abandoned) {
            self.rewrite()?;
        }
        let Handle::Open(file) = &mut self.file else {
            return Err(abandoned(&self.path).into());
        };
        if let Err(error) = file.write_all(line.as_bytes()) {
            // The partial line, if any, must not stay in front of the next one.
            if file.truncate(self.len).is_err() {
                self.file = Handle::Abandoned;
            }
            return Err(IoError::at("append to", &self.path)(error).into());
        }
        if let Err(error) = file.sync_data() {
            self.file = Handle::Abandoned;
            return Err(IoError::at("sync", &self.path)(error).into());
        }
        self.len += line.len() as u64;
        self.events += 1;
        Ok(entry)
    }

    /// Writes the durable part to a new file that takes the place of the abandoned one.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        let bytes = self
            .fs
            .read(&self.path)
            .map_err(IoError::at("read", &self.path))?;
        replace(&self.fs, &self.path, self.durable(&bytes)?)?;
        self.reopen()
    }
}

fn abandoned(path: &Path) -> IoError {
    IoError::at("recover", path)(std::io::Error::other(
        "the part that was synced earlier can no longer be read",
    ))
}

/// Replaces a file durably.
fn replace(fs: &SharedFileSystem, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    Staged::create(fs, path.to_owned())?.put(bytes)
}

/// Writes a journal anew from `events`, numbered from 1.
pub(crate) fn rebuild(
    fs: &SharedFileSystem,
    path: &Path,
    entries: &[Entry],
) -> Result<(), JournalError> {
    let mut text = String::new();
    for (index, entry) in entries.iter().enumerate() {
        let entry = Entry {
            seq: index as u64 + 1,
            ..entry.clone()
        };
        text.push_str(&line::seal(&entry).map_err(|source| JournalError::Encode {
            kind: entry.event.kind().to_owned(),
            source,
        })?);
    }
    Ok(replace(fs, path, text.as_bytes())?)
}
