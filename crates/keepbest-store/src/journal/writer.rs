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
    // What is durable, whatever somebody else does to the file.
    text: Vec<u8>,
    events: u64,
    // The time of the file's last change, when it was known to hold that and nothing else.
    changed: Option<(i64, i64)>,
}

/// What has become of a journal behind its writer's back.
enum Found {
    Removed,
    Replaced,
    /// It ends earlier.
    Shortened {
        bytes: u64,
        of: u64,
    },
    /// It holds something else.
    Changed,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("was removed"),
            Self::Replaced => f.write_str("was replaced by another file"),
            Self::Shortened { bytes, of } => write!(f, "was cut to {bytes} of {of} bytes"),
            Self::Changed => f.write_str("was changed"),
        }
    }
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
            text: bytes[..journal.len as usize].to_vec(),
            events: journal.entries.len() as u64,
            changed: None,
        };
        Ok((writer, journal))
    }

    /// The number of events that are durable.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Writes the journal anew when somebody has removed or changed it, or put something else in its place. Returns what was found and
    /// what was done.
    pub(crate) fn restore(&mut self) -> Result<Option<(String, String)>, JournalError> {
        let Some(found) = self.look()? else {
            return Ok(None);
        };
        let action = match found {
            // Nothing is lost by it.
            Found::Removed | Found::Shortened { .. } => "written anew".to_owned(),
            Found::Replaced | Found::Changed => {
                let aside = free_aside(&*self.fs, &self.path)?;
                self.fs
                    .rename(&self.path, &aside)
                    .map_err(IoError::at("rename", &self.path))?;
                let aside = aside.file_name().unwrap_or_default().to_string_lossy();
                format!("written anew, the other is kept as {aside}")
            }
        };
        self.rewrite()?;
        Ok(Some((found.to_string(), action)))
    }

    /// Compares the file with what was written to it: by its length and the time of its last change, and when that is another, whole.
    fn look(&mut self) -> Result<Option<Found>, JournalError> {
        let Handle::Open(file) = &mut self.file else {
            return Ok(None);
        };
        let named = self
            .fs
            .stat(&self.path)
            .map_err(IoError::at("examine", &self.path))?;
        let own = file.stat().map_err(IoError::at("examine", &self.path))?;
        match named {
            None => return Ok(Some(Found::Removed)),
            Some(named) if named.identity != own.identity => return Ok(Some(Found::Replaced)),
            Some(_) => {}
        }
        let written = self.text.len() as u64;
        if own.len > written {
            return Ok(Some(Found::Changed));
        }
        if own.len == written && self.changed == Some(own.changed) {
            return Ok(None);
        }
        let bytes = file.read_all().map_err(IoError::at("read", &self.path))?;
        if bytes == self.text {
            self.changed = Some(own.changed);
            return Ok(None);
        }
        Ok(Some(match self.text.starts_with(&bytes) {
            true => Found::Shortened {
                bytes: bytes.len() as u64,
                of: written,
            },
            false => Found::Changed,
        }))
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
        let durable = self.text.len() as u64;
        if let Err(error) = file.write_all(line.as_bytes()) {
            // The partial line, if any, must not stay in front of the next one.
            if file.truncate(durable).is_err() {
                self.file = Handle::Abandoned;
            }
            return Err(IoError::at("append to", &self.path)(error).into());
        }
        if let Err(error) = file.sync_data() {
            self.file = Handle::Abandoned;
            return Err(IoError::at("sync", &self.path)(error).into());
        }
        self.changed = file.stat().ok().map(|stat| stat.changed);
        self.text.extend_from_slice(line.as_bytes());
        self.events += 1;
        Ok(entry)
    }

    /// Writes the durable part to a new file that takes the place of what is there.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        replace(&self.fs, &self.path, &self.text)?;
        self.changed = None;
        self.reopen()
    }
}

fn abandoned(path: &Path) -> IoError {
    IoError::at("append to", path)(std::io::Error::other("it could not be written anew"))
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
