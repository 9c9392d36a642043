//! A zip reader for model files: one parser for telling kinds apart, listing and loading.
//!
//! Only what writers of models produce is accepted: stored and deflated entries, zip64, no
//! encryption, no parts. Entries must not overlap, must have one name each, and their local headers
//! must say what the central directory says, so that no two readers see two archives.
//!
//! Format: PKWARE APPNOTE.TXT 6.3.10.

mod write;

use std::collections::BTreeMap;

use bytes::Bytes;

pub(crate) use write::stored;

/// Entries more than this are no model.
const MOST_ENTRIES: u64 = 1_000_000;

/// Deflate cannot expand by more than this factor (a 258-byte match takes two bits at best).
const DEFLATE_EXPANSION: u64 = 1032;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;

/// Why bytes are not a zip archive that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZipError {
    /// There is no end of central directory: no zip archive, or a truncated one.
    #[error("the zip archive has no end record: it is truncated or not a zip archive")]
    NoEnd,
    /// A record reaches past where it can be.
    #[error("the zip archive is truncated in its {record} at byte {at}")]
    Truncated {
        /// Which record.
        record: &'static str,
        /// The place where it starts.
        at: u64,
    },
    /// A record does not begin with its signature.
    #[error("the zip archive has no {record} at byte {at}")]
    Signature {
        /// Which record.
        record: &'static str,
        /// The place where it should start.
        at: u64,
    },
    /// The archive is spread over several files.
    #[error("the zip archive is one of several parts")]
    Parts,
    /// There are more entries than any model has.
    #[error("the zip archive claims {entries} entries")]
    TooManyEntries {
        /// Entries claimed.
        entries: u64,
    },
    /// Two entries have one name.
    #[error("the zip archive has `{entry}` twice")]
    DuplicateEntry {
        /// The name.
        entry: String,
    },
    /// The local header does not say what the central directory says.
    #[error("zip entry `{entry}` has another {field} in its local header")]
    Contradiction {
        /// The entry.
        entry: String,
        /// The difference, in words.
        field: &'static str,
    },
    /// Two entries share bytes of the file.
    #[error("zip entries `{entry}` and `{other}` overlap")]
    Overlap {
        /// One entry.
        entry: String,
        /// The other.
        other: String,
    },
    /// A name is not UTF-8.
    #[error("the zip archive has an entry whose name is not UTF-8")]
    Name,
    /// An entry is encrypted.
    #[error("zip entry `{entry}` is encrypted")]
    Encrypted {
        /// The entry.
        entry: String,
    },
    /// A compression method other than stored and deflated.
    #[error("zip entry `{entry}` has compression method {method}, not stored or deflated")]
    Method {
        /// The entry.
        entry: String,
        /// The method's number.
        method: u16,
    },
    /// A size that cannot be true.
    #[error("zip entry `{entry}` claims {size} bytes from {compressed}")]
    Size {
        /// The entry.
        entry: String,
        /// Size claimed.
        size: u64,
        /// Size compressed.
        compressed: u64,
    },
    /// There is no entry of that name.
    #[error("the zip archive has no entry `{entry}`")]
    Missing {
        /// The name.
        entry: String,
    },
    /// Compressed data is malformed.
    #[error("zip entry `{entry}` does not inflate")]
    Inflate {
        /// The entry.
        entry: String,
    },
    /// The checksum differs.
    #[error(
        "zip entry `{entry}` is damaged: its CRC-32 is {found:08x}, {expected:08x} was recorded"
    )]
    Checksum {
        /// The entry.
        entry: String,
        /// CRC-32 in the archive.
        expected: u32,
        /// CRC-32 of what is there.
        found: u32,
    },
    /// Inflating would take more memory than is allowed.
    #[error("zip entry `{entry}` would inflate to {size} bytes, {left} are left of the limit")]
    Budget {
        /// The entry.
        entry: String,
        /// Its size.
        size: u64,
        /// The bytes that are left.
        left: u64,
    },
}

/// The place of an entry.
#[derive(Debug, Clone, Copy)]
struct Entry {
    deflated: bool,
    crc: u32,
    size: usize,
    /// First byte of the (compressed) data in the file, and byte after its last.
    begin: usize,
    end: usize,
}

/// A zip archive in memory or mapped.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    file: Bytes,
    entries: BTreeMap<String, Entry>,
    /// Names in the order of the central directory.
    order: Vec<String>,
}

/// A cursor over little-endian fields of one record.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    record: &'static str,
}

impl<'a> Fields<'a> {
    /// The record that starts at `at` with `signature`.
    fn open(
        bytes: &'a [u8],
        at: u64,
        signature: u32,
        record: &'static str,
    ) -> Result<Self, ZipError> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let mut fields = Self {
            bytes,
            at: start,
            record,
        };
        if fields.u32()? == signature {
            Ok(fields)
        } else {
            Err(ZipError::Signature { record, at })
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ZipError> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or(ZipError::Truncated {
            record: self.record,
            at: self.at as u64,
        })?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ZipError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, ZipError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ZipError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ZipError> {
        self.array().map(u64::from_le_bytes)
    }
}

/// The place of the central directory and the number of its entries.
struct Directory {
    begin: u64,
    end: u64,
    entries: u64,
}

/// Names of the entries of an archive in order, checked as for reading.
pub(crate) fn names(file: &[u8]) -> Result<Vec<String>, ZipError> {
    read_directory(file).map(|(_, order)| order)
}

/// All entries by name, and their names in order. No data is looked at.
fn read_directory(file: &[u8]) -> Result<(BTreeMap<String, Entry>, Vec<String>), ZipError> {
    let directory = find_directory(file)?;
    if directory.entries > MOST_ENTRIES {
        return Err(ZipError::TooManyEntries {
            entries: directory.entries,
        });
    }
    let mut entries = BTreeMap::new();
    let mut order = Vec::new();
    let mut places = Vec::new();
    let mut at = directory.begin;
    // The directory is known to end inside the file.
    let central = &file[..usize::try_from(directory.end).unwrap_or(usize::MAX)];
    for _ in 0..directory.entries {
        let (name, central_entry, next) = read_central(central, at)?;
        let entry = read_local(file, &name, &central_entry, directory.begin)?;
        places.push((central_entry.local, entry.end as u64, order.len()));
        if entries.insert(name.clone(), entry).is_some() {
            return Err(ZipError::DuplicateEntry { entry: name });
        }
        order.push(name);
        at = next;
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let ((_, end, one), (begin, _, two)) = (pair[0], pair[1]);
        if begin < end {
            return Err(ZipError::Overlap {
                entry: order[one].clone(),
                other: order[two].clone(),
            });
        }
    }
    Ok((entries, order))
}

impl Archive {
    /// Reads the directory of an archive and checks every entry's place; no data is looked at.
    pub(crate) fn parse(file: Bytes) -> Result<Self, ZipError> {
        let (entries, order) = read_directory(&file)?;
        Ok(Self {
            file,
            entries,
            order,
        })
    }

    /// Names in the order of the archive.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Whether there is an entry of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Uncompressed size of an entry.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size as u64)
    }

    /// The bytes of an entry, checked against its CRC-32 (0 counts as not recorded: PyTorch can be
    /// told to leave it out). Stored entries are views of the file; inflated ones are copies, and
    /// take from `budget`.
    pub(crate) fn read(&self, name: &str, budget: &mut u64) -> Result<Bytes, ZipError> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| ZipError::Missing { entry: name.into() })?;
        let raw = self.file.slice(entry.begin..entry.end);
        let bytes = if entry.deflated {
            let size = entry.size as u64;
            *budget = budget.checked_sub(size).ok_or(ZipError::Budget {
                entry: name.into(),
                size,
                left: *budget,
            })?;
            inflate(&raw, entry.size).ok_or_else(|| ZipError::Inflate { entry: name.into() })?
        } else {
            raw
        };
        let found = crc32fast::hash(&bytes);
        if entry.crc != 0 && entry.crc != found {
            return Err(ZipError::Checksum {
                entry: name.into(),
                expected: entry.crc,
                found,
            });
        }
        Ok(bytes)
    }
}

/// The end record, which is at the end but for a comment of up to 65535 bytes, and its zip64 form.
fn find_directory(file: &[u8]) -> Result<Directory, ZipError> {
    const LENGTH: usize = 22;
    let last = file.len().checked_sub(LENGTH).ok_or(ZipError::NoEnd)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let at = (first..=last)
        .rev()
        .find(|&at| {
            file[at..].starts_with(&END.to_le_bytes())
                && usize::from(u16::from_le_bytes([file[at + 20], file[at + 21]]))
                    == file.len() - at - LENGTH
        })
        .ok_or(ZipError::NoEnd)? as u64;
    let mut end = Fields::open(file, at, END, "end record")?;
    let (disk, directory_disk) = (end.u16()?, end.u16()?);
    let (here, entries) = (u64::from(end.u16()?), u64::from(end.u16()?));
    let (size, begin) = (u64::from(end.u32()?), u64::from(end.u32()?));
    let mut directory = Directory {
        begin,
        end: begin + size,
        entries,
    };
    let mut limit = at;
    let is_64 = at
        .checked_sub(20)
        .filter(|&locator| Fields::open(file, locator, END_64_LOCATOR, "zip64 locator").is_ok());
    if let Some(locator_at) = is_64 {
        let mut locator = Fields::open(file, locator_at, END_64_LOCATOR, "zip64 locator")?;
        let (locator_disk, end_at, disks) = (locator.u32()?, locator.u64()?, locator.u32()?);
        // Some writers count no disks.
        if locator_disk != 0 || disks > 1 {
            return Err(ZipError::Parts);
        }
        let mut end = Fields::open(file, end_at, END_64, "zip64 end record")?;
        let _record_size = end.u64()?;
        let _versions = end.u32()?;
        if (end.u32()?, end.u32()?) != (0, 0) {
            return Err(ZipError::Parts);
        }
        let (here, entries) = (end.u64()?, end.u64()?);
        if here != entries {
            return Err(ZipError::Parts);
        }
        let (size, begin) = (end.u64()?, end.u64()?);
        directory = Directory {
            begin,
            end: begin.saturating_add(size),
            entries,
        };
        limit = end_at;
    } else if disk != 0 || directory_disk != 0 || here != entries {
        return Err(ZipError::Parts);
    }
    if directory.end > limit {
        return Err(ZipError::Truncated {
            record: "central directory",
            at: directory.begin,
        });
    }
    Ok(directory)
}

/// An entry as the central directory has it.
struct CentralEntry {
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    local: u64,
}

/// The entry of the central directory at `at`, and where the next one is.
fn read_central(central: &[u8], at: u64) -> Result<(String, CentralEntry, u64), ZipError> {
    let mut fields = Fields::open(central, at, CENTRAL_HEADER, "central directory")?;
    let _versions = fields.u32()?;
    let flags = fields.u16()?;
    let method = fields.u16()?;
    let _time = fields.u32()?;
    let crc = fields.u32()?;
    let mut compressed = u64::from(fields.u32()?);
    let mut size = u64::from(fields.u32()?);
    let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let _disk = fields.u16()?;
    let _attributes = fields.take(6)?;
    let mut local = u64::from(fields.u32()?);
    let name = std::str::from_utf8(fields.take(name.into())?)
        .map_err(|_| ZipError::Name)?
        .to_owned();
    let extra = fields.take(extra.into())?;
    fields.take(comment.into())?;
    let next = fields.at as u64;
    if let Some(wide) = extra_field(extra, 1) {
        // Each is there only if its 32-bit field is full.
        let mut wide = Fields {
            bytes: wide,
            at: 0,
            record: "zip64 extra field",
        };
        for value in [&mut size, &mut compressed, &mut local] {
            if *value == u64::from(u32::MAX) {
                *value = wide.u64()?;
            }
        }
    }
    // Bit 0: encrypted. Bit 13: central directory encrypted.
    if flags & 0x2001 != 0 {
        return Err(ZipError::Encrypted { entry: name });
    }
    Ok((
        name,
        CentralEntry {
            method,
            crc,
            compressed,
            size,
            local,
        },
        next,
    ))
}

/// The content of the extra field with the given id.
fn extra_field(mut extra: &[u8], id: u16) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*c, *d]));
        let content = rest.get(..length)?;
        if u16::from_le_bytes([*a, *b]) == id {
            return Some(content);
        }
        extra = &rest[length..];
    }
    None
}

/// Checks the local header of an entry and finds its data, which must end before the directory.
fn read_local(
    file: &[u8],
    name: &str,
    central: &CentralEntry,
    limit: u64,
) -> Result<Entry, ZipError> {
    let entry = || name.to_owned();
    let deflated = match central.method {
        0 => false,
        8 => true,
        method => {
            return Err(ZipError::Method {
                entry: entry(),
                method,
            });
        }
    };
    let possible = if deflated {
        central.size <= central.compressed.saturating_mul(DEFLATE_EXPANSION)
    } else {
        central.size == central.compressed
    };
    if !possible {
        return Err(ZipError::Size {
            entry: entry(),
            size: central.size,
            compressed: central.compressed,
        });
    }
    let mut local = Fields::open(file, central.local, LOCAL_HEADER, "local header")?;
    let _version = local.u16()?;
    let _flags = local.u16()?;
    if local.u16()? != central.method {
        return Err(ZipError::Contradiction {
            entry: entry(),
            field: "compression method",
        });
    }
    // Time, checksum and sizes: those of the central directory count, as the local ones may be
    // left to a descriptor behind the data.
    let _rest = local.take(16)?;
    let (name_length, extra_length) = (local.u16()?, local.u16()?);
    if local.take(name_length.into())? != name.as_bytes() {
        return Err(ZipError::Contradiction {
            entry: entry(),
            field: "name",
        });
    }
    local.take(extra_length.into())?;
    let begin = local.at;
    let end = usize::try_from(central.compressed)
        .ok()
        .and_then(|length| begin.checked_add(length))
        .filter(|&end| end as u64 <= limit);
    let (Some(end), Ok(size)) = (end, usize::try_from(central.size)) else {
        return Err(ZipError::Truncated {
            record: "data",
            at: begin as u64,
        });
    };
    Ok(Entry {
        deflated,
        crc: central.crc,
        size,
        begin,
        end,
    })
}

/// Inflates to exactly `size` bytes.
fn inflate(raw: &[u8], size: usize) -> Option<Bytes> {
    let mut bytes = vec![0u8; size];
    let mut state = flate2::Decompress::new(false);
    let status = state
        .decompress(raw, &mut bytes, flate2::FlushDecompress::Finish)
        .ok()?;
    let complete = status == flate2::Status::StreamEnd
        && state.total_out() == size as u64
        && state.total_in() == raw.len() as u64;
    complete.then(|| bytes.into())
}

#[cfg(test)]
mod tests;
