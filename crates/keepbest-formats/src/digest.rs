//! Content digests: of a tensor's bytes, and of a whole state dict.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use keepbest_core::WeightsDigest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{StateDict, Tensor};

/// First bytes of the canonical form that the weights digest hashes; its last part is the version.
const WEIGHTS_DOMAIN: &[u8] = b"keepbest weights 1\n";

/// Below this many bytes, starting threads takes longer than hashing.
const PARALLEL_FROM: usize = 4 << 20;

/// Bytes read at a time: they stay in the processor's cache until they are hashed.
const PIECE: usize = 256 << 10;

/// More threads than this only fight over memory bandwidth.
const MOST_THREADS: usize = 4;

/// BLAKE3 of a tensor's bytes (element type and shape not included).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorDigest(pub [u8; 32]);

/// Text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hexadecimal digits, found `{found}`")]
pub struct ParseDigestError {
    /// The text.
    pub found: String,
}

impl TensorDigest {
    /// Hashes the bytes of `tensor`.
    #[must_use]
    pub fn of(tensor: &Tensor) -> Self {
        Self(*blake3::hash(tensor.bytes()).as_bytes())
    }
}

impl fmt::Display for TensorDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for TensorDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorDigest({self})")
    }
}

impl FromStr for TensorDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One spelling only: a digest is compared as text too, byte by byte, in a file's header.
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match blake3::Hash::from_hex(text) {
            Ok(hash) if lower => Ok(Self(*hash.as_bytes())),
            _ => Err(ParseDigestError { found: text.into() }),
        }
    }
}

impl Serialize for TensorDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TensorDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Digest of a state dict: the identity of the model that it is.
///
/// BLAKE3 over a canonical form which `docs/format.md` defines byte by byte: for each tensor, sorted
/// by name, its name, element type, shape and the BLAKE3 of its bytes. Order in the state dict and
/// place in a file do not matter. Large state dicts are hashed on a few threads; the result does not
/// depend on how many.
///
/// ```
/// use keepbest_formats::{StateDict, Tensor, weights_digest};
/// let (mut one, mut two) = (StateDict::new(), StateDict::new());
/// one.insert("a", Tensor::from_f32(&[1], &[1.0])?)?;
/// one.insert("b", Tensor::from_f32(&[1], &[2.0])?)?;
/// two.insert("b", Tensor::from_f32(&[1], &[2.0])?)?;
/// two.insert("a", Tensor::from_f32(&[1], &[1.0])?)?;
/// assert_eq!(weights_digest(&one), weights_digest(&two));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn weights_digest(weights: &StateDict) -> WeightsDigest {
    let tensors: Vec<&Tensor> = weights.iter().map(|(_, tensor)| tensor).collect();
    combine(weights, &digest_tensors(&tensors))
}

/// The weights digest when each tensor's digest (in the order of `weights`) is known already.
pub(crate) fn combine(weights: &StateDict, digests: &[TensorDigest]) -> WeightsDigest {
    let mut entries: Vec<_> = weights.iter().zip(digests).collect();
    entries.sort_unstable_by(|((a, _), _), ((b, _), _)| a.as_bytes().cmp(b.as_bytes()));
    let mut hasher = blake3::Hasher::new();
    hasher.update(WEIGHTS_DOMAIN);
    let number = |hasher: &mut blake3::Hasher, value: usize| {
        hasher.update(&(value as u64).to_le_bytes());
    };
    number(&mut hasher, entries.len());
    for ((name, tensor), digest) in entries {
        number(&mut hasher, name.len());
        hasher.update(name.as_bytes());
        let dtype = tensor.dtype().name();
        number(&mut hasher, dtype.len());
        hasher.update(dtype.as_bytes());
        number(&mut hasher, tensor.shape().len());
        for &side in tensor.shape() {
            number(&mut hasher, side);
        }
        hasher.update(&digest.0);
    }
    WeightsDigest(*hasher.finalize().as_bytes())
}

/// Hashes each tensor, on a few threads when there is much to hash.
pub(crate) fn digest_tensors(tensors: &[&Tensor]) -> Vec<TensorDigest> {
    let sizes: Vec<usize> = tensors.iter().map(|tensor| tensor.bytes().len()).collect();
    spread(&sizes, |at| TensorDigest::of(tensors[at]))
}

/// Hashes parts of a file, on a few threads when there is much to hash. The file is read in pieces, so memory stays small
/// whatever its size, and a part that cannot be read is an error and not a signal.
pub(crate) fn digest_parts(file: &File, parts: &[Range<usize>]) -> Vec<io::Result<TensorDigest>> {
    let sizes: Vec<usize> = parts.iter().map(Range::len).collect();
    spread(&sizes, |at| {
        let mut piece = vec![0; PIECE.min(sizes[at])];
        let mut offset = parts[at].start as u64;
        digest_pieces(sizes[at], &mut piece, |piece| {
            fill(piece, |piece, done| {
                file.read_at(piece, offset + done as u64)
            })?;
            offset += piece.len() as u64;
            Ok(())
        })
    })
}

/// Hashes tensors of the given sizes one after the other, as they come.
pub(crate) fn digest_stream(
    file: &mut impl Read,
    sizes: impl Iterator<Item = usize>,
) -> impl Iterator<Item = io::Result<TensorDigest>> {
    let mut piece = vec![0; PIECE];
    sizes.map(move |size| {
        digest_pieces(size, &mut piece, |piece| {
            fill(piece, |piece, _| file.read(piece))
        })
    })
}

/// The number of times that an interrupted read is made again.
const TRIES: u32 = 8;

/// Fills a piece by reads, each told how much there is already. A read that is interrupted is made again, and not for ever, as the
/// standard library would.
fn fill(
    piece: &mut [u8],
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> io::Result<()> {
    let (mut done, mut tries) = (0, 0);
    while done < piece.len() {
        match read(&mut piece[done..], done) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => (done, tries) = (done + more, 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                tries += 1;
                if tries == TRIES {
                    return Err(io::Error::other(error));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn digest_pieces(
    bytes: usize,
    piece: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<TensorDigest> {
    let mut hasher = blake3::Hasher::new();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len());
        read(&mut piece[..length])?;
        hasher.update(&piece[..length]);
        left -= length;
    }
    Ok(TensorDigest(*hasher.finalize().as_bytes()))
}

/// Does the work on items of the given sizes in bytes, on a few threads when it is much. The largest go first, so that threads
/// end at about the same time. Results in the order of the items.
fn spread<R: Send>(sizes: &[usize], work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let threads = if sizes.iter().sum::<usize>() < PARALLEL_FROM {
        1
    } else {
        thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS)
            .min(sizes.len())
    };
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(sizes[at]));
    let next = AtomicUsize::new(0);
    let share = || {
        let mut done = Vec::new();
        while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((at, work(at)));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        // A thread that cannot be started is no failure: this one does its share.
        let helpers: Vec<_> = (1..threads)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, share).ok())
            .collect();
        let mut done = share();
        for helper in helpers {
            match helper.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|&(at, _)| at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    fn dict(entries: &[(&str, Tensor)]) -> StateDict {
        let mut dict = StateDict::new();
        for (name, tensor) in entries {
            dict.insert(*name, tensor.clone()).unwrap();
        }
        dict
    }

    #[test]
    fn a_read_that_is_interrupted_for_good_is_an_error() {
        // Each second read is interrupted, and none gives more than two bytes.
        let mut calls = 0;
        let mut piece = [0; 5];
        let source = *b"bytes";
        fill(&mut piece, |piece, done| {
            calls += 1;
            if calls % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = piece.len().min(2);
            piece[..length].copy_from_slice(&source[done..done + length]);
            Ok(length)
        })
        .unwrap();
        assert_eq!(piece, source);
        let error = fill(&mut piece, |_, _| Err(io::ErrorKind::Interrupted.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        let error = fill(&mut piece, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn canonical_form_is_the_documented_one() {
        let weights = dict(&[("b", Tensor::from_f32(&[1, 2], &[1.0, 2.0]).unwrap())]);
        let mut form = b"keepbest weights 1\n".to_vec();
        form.extend(1u64.to_le_bytes());
        form.extend(1u64.to_le_bytes());
        form.extend(b"b");
        form.extend(3u64.to_le_bytes());
        form.extend(b"F32");
        form.extend(2u64.to_le_bytes());
        form.extend(1u64.to_le_bytes());
        form.extend(2u64.to_le_bytes());
        form.extend(blake3::hash(&[0, 0, 128, 63, 0, 0, 0, 64]).as_bytes());
        assert_eq!(weights_digest(&weights).0, *blake3::hash(&form).as_bytes());
    }

    #[test]
    fn every_part_of_a_tensor_counts() {
        let base = Tensor::new(Dtype::F32, [2, 3], vec![1u8; 24]).unwrap();
        let digest = weights_digest(&dict(&[("w", base.clone())]));
        let others = [
            dict(&[]),
            dict(&[("v", base.clone())]),
            dict(&[("w", base.clone()), ("x", base)]),
            dict(&[("w", Tensor::new(Dtype::F32, [3, 2], vec![1u8; 24]).unwrap())]),
            dict(&[("w", Tensor::new(Dtype::F32, [6], vec![1u8; 24]).unwrap())]),
            dict(&[("w", Tensor::new(Dtype::I32, [2, 3], vec![1u8; 24]).unwrap())]),
            dict(&[("w", Tensor::new(Dtype::F32, [2, 3], vec![2u8; 24]).unwrap())]),
        ];
        for other in others {
            assert_ne!(weights_digest(&other), digest, "{other:?}");
        }
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let mut weights = StateDict::new();
        for at in 0..9usize {
            let bytes: Vec<u8> = (0..(at + 1) * 300_000)
                .map(|i| (i * 31 + at) as u8)
                .collect();
            let tensor = Tensor::new(Dtype::U8, [bytes.len()], bytes).unwrap();
            weights.insert(format!("t{at}"), tensor).unwrap();
        }
        assert!(weights.total_bytes() as usize > PARALLEL_FROM);
        let tensors: Vec<&Tensor> = weights.iter().map(|(_, tensor)| tensor).collect();
        let sequential: Vec<_> = tensors
            .iter()
            .map(|tensor| TensorDigest::of(tensor))
            .collect();
        assert_eq!(digest_tensors(&tensors), sequential);
    }

    #[test]
    fn text_has_one_spelling() {
        let digest = TensorDigest(*blake3::hash(b"x").as_bytes());
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert!(text.to_uppercase().parse::<TensorDigest>().is_err());
        assert!(text[1..].parse::<TensorDigest>().is_err());
        assert!(serde_json::from_str::<TensorDigest>("\"00\"").is_err());
    }
}
