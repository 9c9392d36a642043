//! Files as exact differences from an earlier file of the same run: byte planes, entropy coded.
//!
//! [`encode`] cuts a safetensors file into ranges, finds each tensor's predecessor of the same name and shape in the
//! reference, and writes what differs. Any other file is compressed as it is. [`decode`] knows nothing of tensors: it follows
//! the ranges, and gives back every byte.
//!
//! Weights of neighbouring steps share sign, exponent and the first bits of the mantissa. Their difference is taken between the
//! bit patterns in the order of the numbers, its sign in the lowest bit, so that a small change leaves the high bytes zero. How
//! large a change is depends on the size of the number: the elements are sorted by the exponent of the reference, which the
//! decoder knows, so that those that change alike are compressed together. Then each of the four byte planes is compressed, or
//! stored where that gains nothing. Momentum changes wholly between checkpoints; there the value itself is stored in that order.
//!
//! `docs/format.md` describes the bytes.
//!
//! ```
//! use keepbest_formats::delta;
//!
//! let (old, new) = (vec![7_u8; 5000], [vec![7; 4000], vec![9; 1000]].concat());
//! let packed = delta::encode(&new, Some(&old))?;
//! assert!(packed.len() < 200);
//! assert_eq!(delta::decode(&packed, new.len(), Some(&old))?, new);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Read as _};

use crate::{Dtype, safetensors};

/// Elements of a tensor that its encoding is chosen by.
const SAMPLE: usize = 32 << 10;
/// Level of zstd: higher ones look for repetitions, of which there are none.
const LEVEL: i32 = 1;

/// What is done to a range before its planes are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// The bytes of the reference.
    Same = 0,
    /// Bytes, compressed as one.
    Bytes = 1,
    /// f32, the sign moved to the lowest bit.
    Float = 2,
    /// The same in the order of the reference's exponents.
    FloatSorted = 3,
    /// f32, the difference from the reference, in the order of its exponents.
    FloatDelta = 4,
    /// Bytes, XOR with the reference's.
    Xor = 5,
}

/// Why an encoded file does not decode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends too early.
    #[error("it ends within a range")]
    Truncated,
    /// A range is of a kind that does not exist.
    #[error("a range of kind {kind} is unknown")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// A range does not fit into the file, or is not of whole elements.
    #[error("a range of {len} bytes does not fit: {left} are left")]
    Range {
        /// Bytes of the range.
        len: u64,
        /// Bytes of the file that are left.
        left: u64,
    },
    /// A range refers to bytes that the reference does not have.
    #[error("a range refers to bytes beyond the reference")]
    Reference,
    /// The ranges do not make up the file.
    #[error("{missing} bytes are missing")]
    Missing {
        /// The number of them.
        missing: u64,
    },
    /// A compressed plane is damaged.
    #[error("a compressed plane is damaged")]
    Plane(#[source] io::Error),
}

/// Encodes `file` against `reference`. Without one it is compressed alone.
///
/// # Errors
/// When the compressor fails, for lack of memory.
pub fn encode(file: &[u8], reference: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let tensors = reference.map(places).unwrap_or_default();
    let mut out = Vec::with_capacity(file.len() / 2);
    let mut packer = Packer::new()?;
    let mut at = 0;
    for place in places(file) {
        if place.begin > at {
            packer.range(&mut out, Kind::Bytes, &file[at..place.begin], None)?;
        }
        let bytes = &file[place.begin..place.end];
        let old = tensors
            .iter()
            .find(|old| old.name == place.name && old.float == place.float)
            .filter(|old| old.end - old.begin == bytes.len())
            .and_then(|old| Some((old.begin, &reference?[old.begin..old.end])));
        let kind = match old {
            Some((_, old)) if old == bytes => Kind::Same,
            old => packer.choose(bytes, old.map(|(_, old)| old), place.float)?,
        };
        packer.range(&mut out, kind, bytes, old)?;
        at = place.end;
    }
    if at < file.len() {
        let rest = &file[at..];
        // A file that is no safetensors file, of the same length as its reference.
        let old = reference.filter(|old| at == 0 && old.len() == file.len());
        let kind = if old.is_some() {
            Kind::Xor
        } else {
            Kind::Bytes
        };
        packer.range(&mut out, kind, rest, old.map(|old| (0, old)))?;
    }
    Ok(out)
}

/// A tensor's place in a file.
struct Place {
    name: String,
    float: bool,
    begin: usize,
    end: usize,
}

/// The tensors in the order of their bytes; none when it is no safetensors file.
fn places(file: &[u8]) -> Vec<Place> {
    // A view: nothing is copied but the header.
    let Ok(read) = safetensors::places(file) else {
        return Vec::new();
    };
    let mut places: Vec<Place> = read
        .into_iter()
        .filter(|(.., range)| !range.is_empty())
        .map(|(name, dtype, range)| Place {
            name,
            float: dtype == Dtype::F32,
            begin: range.start,
            end: range.end,
        })
        .collect();
    places.sort_by_key(|place| place.begin);
    places
}

struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Packer {
    fn new() -> io::Result<Self> {
        use zstd::zstd_safe::{CParameter, Strategy};
        let mut zstd = zstd::bulk::Compressor::new(LEVEL)?;
        // What is left of a plane has uneven frequencies but no repetitions: short matches would cost more than they save.
        zstd.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))?;
        zstd.set_parameter(CParameter::MinMatch(7))?;
        zstd.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self {
            zstd,
            buffer: Vec::new(),
        })
    }

    /// The kind that makes a sample of the tensor smallest.
    fn choose(&mut self, bytes: &[u8], old: Option<&[u8]>, float: bool) -> io::Result<Kind> {
        let kinds: &[Kind] = match (old, float) {
            (None, true) => &[Kind::Float],
            (None, false) => &[Kind::Bytes],
            (Some(_), true) => &[Kind::FloatDelta, Kind::FloatSorted],
            (Some(_), false) => &[Kind::Xor, Kind::Bytes],
        };
        if let [only] = kinds {
            return Ok(*only);
        }
        let sample = bytes.len().min(SAMPLE * 4);
        let old = old.map(|old| (0, &old[..sample]));
        let mut best = (usize::MAX, kinds[0]);
        for &kind in kinds {
            let mut out = Vec::new();
            self.range(&mut out, kind, &bytes[..sample], old)?;
            best = if out.len() < best.0 {
                (out.len(), kind)
            } else {
                best
            };
        }
        Ok(best.1)
    }

    fn range(
        &mut self,
        out: &mut Vec<u8>,
        kind: Kind,
        bytes: &[u8],
        old: Option<(usize, &[u8])>,
    ) -> io::Result<()> {
        out.push(kind as u8);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        let (offset, old) = old.unwrap_or_default();
        if kind.refers() {
            out.extend_from_slice(&(offset as u64).to_le_bytes());
        }
        match kind {
            Kind::Same => {}
            Kind::Bytes => self.plane(out, bytes)?,
            Kind::Xor => {
                let changed: Vec<u8> = bytes.iter().zip(old).map(|(a, b)| a ^ b).collect();
                self.plane(out, &changed)?;
            }
            Kind::Float => self.planes(
                out,
                words(bytes).map(|bits| bits.rotate_left(1)),
                bytes.len() / 4,
            )?,
            Kind::FloatSorted | Kind::FloatDelta => {
                let order = by_exponent(old);
                let pairs = order.iter().map(|&i| {
                    let at = i as usize * 4;
                    (word(&bytes[at..]), word(&old[at..]))
                });
                let delta = kind == Kind::FloatDelta;
                let coded = pairs.map(|(new, old)| match delta {
                    true => zigzag(ordered(new).wrapping_sub(ordered(old))),
                    false => new.rotate_left(1),
                });
                self.planes(out, coded, order.len())?;
            }
        }
        Ok(())
    }

    fn planes(
        &mut self,
        out: &mut Vec<u8>,
        words: impl Iterator<Item = u32>,
        len: usize,
    ) -> io::Result<()> {
        let mut planes: [Vec<u8>; 4] = std::array::from_fn(|_| Vec::with_capacity(len));
        for word in words {
            for (plane, byte) in planes.iter_mut().zip(word.to_le_bytes()) {
                plane.push(byte);
            }
        }
        planes.iter().try_for_each(|plane| self.plane(out, plane))
    }

    /// A length and bytes: as many as the plane has when they are stored, fewer when they are compressed.
    fn plane(&mut self, out: &mut Vec<u8>, plane: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer
            .reserve(zstd::zstd_safe::compress_bound(plane.len()));
        let packed = self.zstd.compress_to_buffer(plane, &mut self.buffer)?;
        let bytes = if packed < plane.len() {
            &self.buffer[..packed]
        } else {
            plane
        };
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
        Ok(())
    }
}

impl Kind {
    fn of(kind: u8) -> Result<Self, DecodeError> {
        [
            Self::Same,
            Self::Bytes,
            Self::Float,
            Self::FloatSorted,
            Self::FloatDelta,
            Self::Xor,
        ]
        .into_iter()
        .find(|known| *known as u8 == kind)
        .ok_or(DecodeError::Kind { kind })
    }

    fn refers(self) -> bool {
        !matches!(self, Self::Bytes | Self::Float)
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(word)
}

/// The bits in the order of the numbers: negative ones below, the larger the lower.
fn ordered(bits: u32) -> u32 {
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn unordered(bits: u32) -> u32 {
    if bits >> 31 == 1 {
        bits & !(1 << 31)
    } else {
        !bits
    }
}

fn zigzag(delta: u32) -> u32 {
    (delta << 1) ^ (0_u32.wrapping_sub(delta >> 31))
}

fn unzigzag(code: u32) -> u32 {
    (code >> 1) ^ (0_u32.wrapping_sub(code & 1))
}

/// Positions of the elements, by the exponent of their f32, then by position: a counting sort.
fn by_exponent(old: &[u8]) -> Vec<u32> {
    let exponent = |bits: u32| (bits >> 23 & 0xff) as usize;
    let mut starts = [0_u32; 257];
    for bits in words(old) {
        starts[exponent(bits) + 1] += 1;
    }
    for i in 0..256 {
        starts[i + 1] += starts[i];
    }
    let mut order = vec![0; old.len() / 4];
    for (i, bits) in words(old).enumerate() {
        let next = &mut starts[exponent(bits)];
        order[*next as usize] = i as u32;
        *next += 1;
    }
    order
}

/// Decodes a file of `len` bytes. No more than that, and one tensor's planes, is allocated, whatever `packed` says; and no more than
/// what `packed` holds comes to, whatever `len` is.
///
/// # Errors
/// [`DecodeError`] for anything that [`encode`] does not write. Whether the bytes are the right ones, a digest must tell.
pub fn decode(packed: &[u8], len: usize, reference: Option<&[u8]>) -> Result<Vec<u8>, DecodeError> {
    let mut input = Input(packed);
    // Grows with what is decoded: `len` is the word of whoever asks, and need not be true.
    let mut out = Vec::with_capacity(
        len.min(
            packed
                .len()
                .saturating_add(reference.map_or(0, <[u8]>::len)),
        ),
    );
    while !input.0.is_empty() {
        let kind = Kind::of(input.take(1)?[0])?;
        let wanted = input.number()?;
        let left = (len - out.len()) as u64;
        let float = matches!(kind, Kind::Float | Kind::FloatSorted | Kind::FloatDelta);
        let range = usize::try_from(wanted)
            .ok()
            .filter(|_| wanted <= left && wanted > 0 && !(float && wanted % 4 != 0))
            // Positions within a tensor are of 32 bits.
            .filter(|range| !float || range / 4 <= u32::MAX as usize)
            .ok_or(DecodeError::Range { len: wanted, left })?;
        let old = if kind.refers() {
            let offset = usize::try_from(input.number()?).map_err(|_| DecodeError::Reference)?;
            reference
                .and_then(|old| old.get(offset..offset.checked_add(range)?))
                .ok_or(DecodeError::Reference)?
        } else {
            &[]
        };
        match kind {
            Kind::Same => out.extend_from_slice(old),
            Kind::Bytes => out.extend_from_slice(&input.plane(range)?),
            Kind::Xor => {
                let changed = input.plane(range)?;
                out.extend(changed.iter().zip(old).map(|(a, b)| a ^ b));
            }
            Kind::Float => {
                let planes = input.planes(range / 4)?;
                for i in 0..range / 4 {
                    let bits = joined(&planes, i).rotate_right(1);
                    out.extend_from_slice(&bits.to_le_bytes());
                }
            }
            Kind::FloatSorted | Kind::FloatDelta => {
                let planes = input.planes(range / 4)?;
                let start = out.len();
                out.resize(start + range, 0);
                for (i, &position) in by_exponent(old).iter().enumerate() {
                    let code = joined(&planes, i);
                    let at = position as usize * 4;
                    let bits = match kind {
                        Kind::FloatSorted => code.rotate_right(1),
                        _ => unordered(ordered(word(&old[at..])).wrapping_add(unzigzag(code))),
                    };
                    out[start + at..start + at + 4].copy_from_slice(&bits.to_le_bytes());
                }
            }
        }
    }
    match len - out.len() {
        0 => Ok(out),
        missing => Err(DecodeError::Missing {
            missing: missing as u64,
        }),
    }
}

fn joined(planes: &[Vec<u8>; 4], i: usize) -> u32 {
    u32::from_le_bytes([planes[0][i], planes[1][i], planes[2][i], planes[3][i]])
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = [0; 8];
        number.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(number))
    }

    fn plane(&mut self, len: usize) -> Result<Vec<u8>, DecodeError> {
        let packed = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        let packed = self.take(packed)?;
        if packed.len() == len {
            return Ok(packed.to_vec());
        }
        let damaged = || {
            DecodeError::Plane(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not as long as its tensor",
            ))
        };
        // Allocated as it is decoded, whatever frame and length say.
        let mut plane = Vec::with_capacity(len.min(packed.len().saturating_mul(4)));
        let decoder =
            zstd::stream::read::Decoder::with_buffer(packed).map_err(DecodeError::Plane)?;
        decoder
            .single_frame()
            .take((len as u64).saturating_add(1))
            .read_to_end(&mut plane)
            .map_err(DecodeError::Plane)?;
        if plane.len() == len {
            Ok(plane)
        } else {
            Err(damaged())
        }
    }

    fn planes(&mut self, len: usize) -> Result<[Vec<u8>; 4], DecodeError> {
        Ok([
            self.plane(len)?,
            self.plane(len)?,
            self.plane(len)?,
            self.plane(len)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::model_file::{self, ModelMetadata};
    use crate::{StateDict, Tensor};

    fn file(seed: u32, scale: f32) -> Vec<u8> {
        let mut weights = StateDict::new();
        let mut training = StateDict::new();
        for name in ["conv.weight", "frozen", "fc.weight"] {
            let values: Vec<f32> = (0..4000_u32)
                .map(|i| {
                    let at = i.wrapping_mul(2_654_435_761);
                    let noise = at
                        .wrapping_add(seed.wrapping_mul(40_503))
                        .wrapping_mul(2_246_822_519);
                    let base = at as f32 / u32::MAX as f32 - 0.5;
                    let moved = (noise as f32 / u32::MAX as f32 - 0.5) * scale;
                    if name == "frozen" { base } else { base + moved }
                })
                .collect();
            weights
                .insert(name, Tensor::from_f32(&[4000], &values).unwrap())
                .unwrap();
            training
                .insert(
                    format!("m.{name}"),
                    Tensor::from_f32(&[4000], &values).unwrap(),
                )
                .unwrap();
        }
        let count = Tensor::new(
            Dtype::I64,
            vec![1],
            Bytes::copy_from_slice(&u64::from(seed).to_le_bytes()),
        );
        weights.insert("count", count.unwrap()).unwrap();
        let mut bytes = Vec::new();
        model_file::encode(&weights, &training, &ModelMetadata::default())
            .unwrap()
            .write_to(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn model_files_come_back_whole_and_small() {
        let (old, new) = (file(1, 1e-3), file(2, 1e-3));
        let alone = encode(&new, None).unwrap();
        assert_eq!(decode(&alone, new.len(), None).unwrap(), new);
        let packed = encode(&new, Some(&old)).unwrap();
        assert_eq!(decode(&packed, new.len(), Some(&old)).unwrap(), new);
        assert!(
            packed.len() < alone.len(),
            "{} {}",
            packed.len(),
            alone.len()
        );
        let same = encode(&new, Some(&new)).unwrap();
        assert!(same.len() < 2000 + new.len() / 20, "{}", same.len());
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_and_never_a_panic() {
        let (old, new) = (file(1, 1e-3), file(2, 1e-3));
        let packed = encode(&new, Some(&old)).unwrap();
        for at in (0..packed.len()).step_by(61) {
            for bit in [0x01, 0x80] {
                let mut bad = packed.clone();
                bad[at] ^= bit;
                let _ = decode(&bad, new.len(), Some(&old));
            }
            assert!(decode(&packed[..at], new.len(), Some(&old)).is_err());
        }
        assert!(decode(&packed, new.len(), None).is_err());
        assert!(decode(&packed, new.len() - 1, Some(&old)).is_err());
        assert!(decode(&packed, new.len() + 1, Some(&old)).is_err());
        // A range of 2^63 bytes is refused, not allocated.
        let huge = [&[1][..], &(1_u64 << 63).to_le_bytes()].concat();
        assert!(matches!(
            decode(&huge, 10, None),
            Err(DecodeError::Range { .. })
        ));
    }

    #[test]
    fn every_pattern_of_bits_survives() {
        for bits in [
            0,
            1,
            0x8000_0000,
            0x7f80_0000,
            0xff80_0001,
            u32::MAX,
            0x3f80_0000,
        ] {
            assert_eq!(unordered(ordered(bits)), bits);
            assert_eq!(unzigzag(zigzag(bits)), bits);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_come_back(new in proptest::collection::vec(any::<u8>(), 0..500),
                               old in proptest::collection::vec(any::<u8>(), 0..500)) {
            let packed = encode(&new, Some(&old)).unwrap();
            prop_assert_eq!(decode(&packed, new.len(), Some(&old)).unwrap(), new);
        }

        #[test]
        fn any_floats_come_back(new in proptest::collection::vec(any::<u32>(), 1..200),
                                old in proptest::collection::vec(any::<u32>(), 200)) {
            let bytes = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
            let (new, old) = (bytes(&new), bytes(&old[..new.len()]));
            let mut packer = Packer::new().unwrap();
            for kind in [Kind::Float, Kind::FloatSorted, Kind::FloatDelta, Kind::Xor] {
                let mut out = Vec::new();
                packer.range(&mut out, kind, &new, Some((0, &old))).unwrap();
                prop_assert_eq!(&decode(&out, new.len(), Some(&old)).unwrap(), &new);
            }
        }
    }
}
