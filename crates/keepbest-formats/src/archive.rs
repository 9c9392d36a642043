//! Archives: several checkpoint files in one, each the exact difference from the one before.
//!
//! ```text
//! 8 bytes     "KBARCH1\n"
//! streams     one a member, as [`crate::delta`] writes them
//! index       JSON: {"members": [{"name", "bytes", "digest", "reference", "packed"}]}
//! 8 bytes     length of the index, little-endian
//! 32 bytes    BLAKE3 of the index
//! 8 bytes     "KBINDEX\n"
//! ```

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::delta::{self, DecodeError};
use crate::map::map_file;
use crate::{ParseDigestError, TensorDigest};

const HEAD: &[u8; 8] = b"KBARCH1\n";
const TAIL: &[u8; 8] = b"KBINDEX\n";
const TRAILER: usize = 8 + 32 + 8;
const INDEX_LIMIT: u64 = 16 << 20;
/// Members that follow a keyframe at most: restoring one decodes those before it, back to the keyframe.
const CHAIN: usize = 31;
/// Members that one may depend on in an archive that is read: twice as many as are written.
const LONGEST_CHAIN: usize = 2 * CHAIN;

/// One file in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of it, in hexadecimal digits.
    pub digest: String,
    /// The member that it is a difference from, by position; none for a keyframe.
    pub reference: Option<usize>,
    /// Length of its stream.
    pub packed: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    members: Vec<Member>,
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Io(#[from] io::Error),
    /// It is not one, or it is cut or damaged.
    #[error("not a whole archive: {reason}")]
    Damaged {
        /// The fault, in words.
        reason: &'static str,
    },
    /// The index is not what it should be.
    #[error("the archive's index cannot be read")]
    Index(#[from] serde_json::Error),
    /// A member's digest is not one.
    #[error("the archive's index cannot be read")]
    Digest(#[from] ParseDigestError),
    /// A member is longer than it may be.
    #[error("{member} would have {bytes} bytes, {limit} are expected")]
    TooLong {
        /// The member.
        member: String,
        /// The value in the index.
        bytes: u64,
        /// The value that the caller knows.
        limit: u64,
    },
    /// A member's stream is damaged.
    #[error("{member} does not decode")]
    Decode {
        /// The member.
        member: String,
        /// The fault, in words.
        source: DecodeError,
    },
    /// A member decodes to other bytes than were archived.
    #[error("{member} does not come back as it was archived")]
    Differs {
        /// The member.
        member: String,
    },
}

/// Writes an archive member by member.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    index: Index,
    /// The newest member and the length of its chain.
    newest: Option<(Bytes, usize)>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(HEAD)?;
        Ok(Self {
            out,
            index: Index::default(),
            newest: None,
        })
    }

    /// Adds a file, as a difference from the one before unless the chain grows too long. Returns the length of its stream.
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn add(&mut self, name: &str, file: Bytes) -> io::Result<u64> {
        let newest = self.newest.take().filter(|(_, chain)| *chain < CHAIN);
        let stream = delta::encode(&file, newest.as_ref().map(|(file, _)| &file[..]))?;
        self.out.write_all(&stream)?;
        self.index.members.push(Member {
            name: name.into(),
            bytes: file.len() as u64,
            digest: blake3::hash(&file).to_hex().to_string(),
            reference: newest.as_ref().map(|_| self.index.members.len() - 1),
            packed: stream.len() as u64,
        });
        self.newest = Some((file, newest.map_or(0, |(_, chain)| chain + 1)));
        Ok(stream.len() as u64)
    }

    /// Writes the index, and gives the writer back.
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let index = serde_json::to_vec(&self.index)?;
        self.out.write_all(&index)?;
        self.out.write_all(&(index.len() as u64).to_le_bytes())?;
        self.out.write_all(blake3::hash(&index).as_bytes())?;
        self.out.write_all(TAIL)?;
        Ok(self.out)
    }
}

/// An archive, for reading.
#[derive(Debug)]
pub struct Archive {
    file: Bytes,
    members: Vec<Member>,
    /// The beginning of each stream.
    starts: Vec<usize>,
}

impl Archive {
    /// Opens an archive: reads its index.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::from_bytes(map_file(path)?)
    }

    /// Reads an archive that is in memory.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn from_bytes(file: Bytes) -> Result<Self, ArchiveError> {
        let damaged = |reason| ArchiveError::Damaged { reason };
        let body = file
            .strip_prefix(HEAD)
            .ok_or(damaged("it does not begin like one"))?;
        let (body, trailer) = body
            .split_last_chunk::<TRAILER>()
            .filter(|(_, trailer)| trailer.ends_with(TAIL))
            .ok_or(damaged("it does not end like one"))?;
        let mut length = [0; 8];
        length.copy_from_slice(&trailer[..8]);
        let length = u64::from_le_bytes(length);
        let index = usize::try_from(length)
            .ok()
            .filter(|_| length <= INDEX_LIMIT)
            .and_then(|length| body.len().checked_sub(length))
            .map(|start| body.split_at(start))
            .ok_or(damaged("its index does not fit"))?;
        let (streams, index) = index;
        if blake3::hash(index).as_bytes()[..] != trailer[8..40] {
            return Err(damaged("its index is not what was written"));
        }
        let Index { members } = serde_json::from_slice(index)?;
        let mut starts = Vec::with_capacity(members.len());
        let mut chains: Vec<usize> = Vec::with_capacity(members.len());
        let mut at = 0_u64;
        for (i, member) in members.iter().enumerate() {
            if member.reference.is_some_and(|reference| reference >= i) {
                return Err(damaged("a member refers to a later one"));
            }
            let chain = member
                .reference
                .map_or(0, |reference| chains[reference] + 1);
            if chain > LONGEST_CHAIN {
                return Err(damaged("a member depends on too many others"));
            }
            chains.push(chain);
            starts.push(HEAD.len() + at as usize);
            at = at
                .checked_add(member.packed)
                .filter(|end| *end <= streams.len() as u64)
                .ok_or(damaged("a member does not fit"))?;
        }
        if at != streams.len() as u64 {
            return Err(damaged("it is longer than its members"));
        }
        Ok(Self {
            file,
            members,
            starts,
        })
    }

    /// What it holds, in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Restores a member, and those before it that it depends on; each is compared with its digest. `limit` tells how long a
    /// member may be, by name: nothing longer is allocated.
    ///
    /// # Errors
    /// [`ArchiveError`], with the member that is damaged.
    pub fn restore(
        &self,
        member: usize,
        limit: impl Fn(&str) -> Option<u64>,
    ) -> Result<Bytes, ArchiveError> {
        let mut chain = vec![member];
        while let Some(reference) = chain
            .last()
            .and_then(|last| self.members.get(*last)?.reference)
        {
            chain.push(reference);
        }
        let mut newest = None;
        for member in chain.into_iter().rev() {
            newest = Some(self.decode(member, newest.as_ref(), &limit)?);
        }
        newest.ok_or(ArchiveError::Damaged {
            reason: "it has no such member",
        })
    }

    /// Restores every member in turn.
    ///
    /// # Errors
    /// As [`restore`](Self::restore), or what `each` returns.
    pub fn restore_all<E: From<ArchiveError>>(
        &self,
        limit: impl Fn(&str) -> Option<u64>,
        mut each: impl FnMut(&Member, &Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut newest: Option<(usize, Bytes)> = None;
        for (i, member) in self.members.iter().enumerate() {
            let old = match (member.reference, newest.take()) {
                (None, _) => None,
                (Some(reference), Some((at, file))) if at == reference => Some(file),
                (Some(reference), _) => Some(self.restore(reference, &limit)?),
            };
            let file = self.decode(i, old.as_ref(), &limit)?;
            each(member, &file)?;
            newest = Some((i, file));
        }
        Ok(())
    }

    fn decode(
        &self,
        at: usize,
        old: Option<&Bytes>,
        limit: &impl Fn(&str) -> Option<u64>,
    ) -> Result<Bytes, ArchiveError> {
        let (Some(member), Some(start)) = (self.members.get(at), self.starts.get(at)) else {
            return Err(ArchiveError::Damaged {
                reason: "it has no such member",
            });
        };
        let limit = limit(&member.name).unwrap_or(0);
        let len = usize::try_from(member.bytes)
            .ok()
            .filter(|_| member.bytes <= limit)
            .ok_or_else(|| ArchiveError::TooLong {
                member: member.name.clone(),
                bytes: member.bytes,
                limit,
            })?;
        let stream = &self.file[*start..*start + member.packed as usize];
        let file = delta::decode(stream, len, old.map(|old| &old[..])).map_err(|source| {
            ArchiveError::Decode {
                member: member.name.clone(),
                source,
            }
        })?;
        let expected: TensorDigest = member.digest.parse()?;
        if *blake3::hash(&file).as_bytes() != expected.0 {
            return Err(ArchiveError::Differs {
                member: member.name.clone(),
            });
        }
        Ok(file.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
        for (i, file) in files.iter().enumerate() {
            writer.add(&i.to_string(), file.clone().into()).unwrap();
        }
        writer.finish().unwrap()
    }

    fn files() -> Vec<Vec<u8>> {
        (0..40_u8)
            .map(|i| {
                (0..900_u16)
                    .map(|at| (at as u8 ^ (at / 256) as u8).wrapping_add(i / 8))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn members_come_back() {
        let files = files();
        let archive = Archive::from_bytes(archive(&files).into()).unwrap();
        for (i, file) in files.iter().enumerate() {
            assert_eq!(archive.restore(i, |_| Some(900)).unwrap(), file);
        }
        let keyframes = archive.members().iter().filter(|m| m.reference.is_none());
        assert_eq!(keyframes.count(), 2);
        assert!(matches!(
            archive.restore(3, |_| Some(899)),
            Err(ArchiveError::TooLong { .. })
        ));
        assert!(archive.restore(40, |_| Some(900)).is_err());
    }

    /// An archive with another index, well-formed as a file.
    fn with_index(members: &[Member], streams: &[u8]) -> Vec<u8> {
        let index = serde_json::json!({ "members": members }).to_string();
        let length = (index.len() as u64).to_le_bytes();
        let digest = blake3::hash(index.as_bytes());
        let parts: [&[u8]; 6] = [
            HEAD,
            streams,
            index.as_bytes(),
            &length,
            digest.as_bytes(),
            TAIL,
        ];
        parts.concat()
    }

    #[test]
    fn lengths_that_lie_reserve_nothing() {
        let whole = archive(&files()[..2]);
        let members = Archive::from_bytes(whole.clone().into()).unwrap().members;
        let packed: u64 = members.iter().map(|member| member.packed).sum();
        let streams = &whole[HEAD.len()..HEAD.len() + packed as usize];
        for bytes in [1 << 40, 1 << 63, u64::MAX] {
            let mut lying = members.clone();
            lying[0].bytes = bytes;
            lying[1].bytes = bytes;
            let archive = Archive::from_bytes(with_index(&lying, streams).into()).unwrap();
            for member in 0..2 {
                // Whoever asks believes the same.
                let error = archive.restore(member, |_| Some(bytes)).unwrap_err();
                assert!(matches!(error, ArchiveError::Decode { .. }), "{error}");
            }
        }
        // Streams that claim to be longer than they are.
        // A range of plain bytes, as `delta` has them.
        let mut range = vec![1];
        range.extend((1_u64 << 62).to_le_bytes());
        range.extend(0_u64.to_le_bytes());
        let mut lying = members[..1].to_vec();
        lying[0].bytes = 1 << 62;
        lying[0].packed = range.len() as u64;
        let archive = Archive::from_bytes(with_index(&lying, &range).into()).unwrap();
        assert!(archive.restore(0, |_| Some(1 << 62)).is_err());
        for packed in [1 << 63, u64::MAX] {
            lying[0].packed = packed;
            assert!(Archive::from_bytes(with_index(&lying, &range).into()).is_err());
        }
        // Each after the other, without a keyframe between.
        let chain: Vec<Member> = (0..1000)
            .map(|at| Member {
                name: at.to_string(),
                reference: (at as usize).checked_sub(1),
                packed: 0,
                ..members[0].clone()
            })
            .collect();
        let error = Archive::from_bytes(with_index(&chain, &[]).into()).unwrap_err();
        assert!(
            error.to_string().contains("depends on too many others"),
            "{error}"
        );
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let files = files()[..4].to_vec();
        let whole = archive(&files);
        let check = |bytes: Vec<u8>| -> Result<(), ArchiveError> {
            Archive::from_bytes(bytes.into())?.restore_all(|_| Some(900), |_, _| Ok(()))
        };
        check(whole.clone()).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            // Bytes that come back all the same come back right: each is compared with its digest.
            if check(bad).is_ok() {
                assert!(at >= HEAD.len() && at < whole.len() - TRAILER, "byte {at}");
            }
            assert!(check(whole[..at].to_vec()).is_err(), "cut at {at}");
        }
    }
}
