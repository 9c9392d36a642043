//! Writing PyTorch's files: the zip form, so that `torch.load(weights_only=True, mmap=True)` takes them.

mod pickler;

use std::io::{self, Write};

use bytes::Bytes;

use super::Tree;
use crate::zip;
use pickler::Pickler;

/// Each tensor begins at a multiple of this in the file, as PyTorch has it.
const ALIGNMENT: u64 = 64;

/// The folder that everything in the archive is in. PyTorch takes any; a fixed one makes the bytes
/// independent of the file's name.
const ROOT: &str = "archive";

/// Levels of values in one another that are written.
const DEEPEST: usize = 128;

/// Why values cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A dict has a key twice.
    #[error("the dict has the key `{key}` twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Values are in one another beyond any sense.
    #[error("values are nested more than {limit} deep")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// Text longer than the pickle format has a length for.
    #[error("a text of {bytes} bytes is longer than a pickle can hold")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// A PyTorch file ready to be written. It shares the tensors' bytes: making one costs its pickle, and
/// one pass over the tensors for their CRC-32.
#[derive(Debug, Clone)]
pub struct PthImage {
    pieces: Vec<Bytes>,
}

impl PthImage {
    /// Bytes of the whole file.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Writes the file from first to last byte, without copying tensors. It may be called again:
    /// the bytes are the same each time.
    ///
    /// # Errors
    /// The errors of `writer`.
    pub fn write_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.pieces
            .iter()
            .try_for_each(|piece| writer.write_all(piece))
    }
}

/// Makes the image of a file that holds `value`. The same input gives the same bytes.
///
/// ```
/// use keepbest_formats::pth::{self, PthFile, Tree};
/// use keepbest_formats::{StateDict, Tensor};
/// let mut weights = StateDict::new();
/// weights.insert("fc.bias", Tensor::from_f32(&[2], &[0.25, -1.0])?)?;
/// let mut file = Vec::new();
/// pth::encode(&Tree::from(&weights))?.write_to(&mut file)?;
///
/// let read = PthFile::from_bytes(file.into(), Default::default())?;
/// assert_eq!(read.weights(None)?.weights, weights);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When a dict has a key twice, values are nested too deeply, or a text is too long for a pickle.
pub fn encode(value: &Tree) -> Result<PthImage, WriteError> {
    let (pickle, storages) = Pickler::pickle(value)?;
    let mut entries = vec![
        (format!("{ROOT}/data.pkl"), Bytes::from(pickle)),
        (format!("{ROOT}/byteorder"), Bytes::from_static(b"little")),
    ];
    entries.extend(
        storages
            .into_iter()
            .enumerate()
            .map(|(key, bytes)| (format!("{ROOT}/data/{key}"), bytes)),
    );
    entries.push((format!("{ROOT}/version"), Bytes::from_static(b"3\n")));
    Ok(PthImage {
        pieces: zip::stored(entries, ALIGNMENT),
    })
}
