//! Making the image of a model file.

use std::io::{self, Read, Write};

use keepbest_core::{FileDigest, WeightsDigest};

use super::attachments::Written;
use super::{HEADER_DIGEST_KEY, Kind, METADATA_KEY, ModelFileError, ModelMetadata};
use super::{Seal, TRAINING_PREFIX};
use super::{metadata, seal};
use crate::digest::{TensorDigest, combine, digest_stream, digest_tensors};
use crate::safetensors::{Layout, LayoutError};
use crate::{StateDict, Tensor};

/// Who this build says it is in the files that it writes.
const PRODUCER: &str = concat!("keepbest ", env!("CARGO_PKG_VERSION"));

/// Why a model cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// There are no weights.
    #[error("a model without weights cannot be written")]
    NoWeights,
    /// A weight's name starts with what marks training state.
    #[error(
        "weight `{tensor}` cannot be written: names under `{TRAINING_PREFIX}` are training state"
    )]
    ReservedName {
        /// The weight.
        tensor: String,
    },
    /// What only a full model has was given for a params-only file.
    #[error("a params-only file cannot hold {what}")]
    NotOnlyParams {
        /// The value given.
        what: &'static str,
    },
    /// The metadata cannot be put into JSON.
    #[error("the metadata cannot be written as JSON")]
    Metadata(#[source] serde_json::Error),
    /// The metadata could be written but not read again: JSON nested too deeply.
    #[error("the metadata could not be read again")]
    Unreadable(#[source] Box<ModelFileError>),
    /// The tensors or names do not fit into a safetensors file.
    #[error("the model does not fit into a safetensors file")]
    Layout(#[from] LayoutError),
}

/// The difference of a file from the image it was written from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// It ends early or cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The header is another.
    #[error("its header is not the one that was written")]
    Header,
    /// A tensor is another.
    #[error("tensor `{tensor}` has digest {found}, {expected} was to be written")]
    Tensor {
        /// Name as in the file.
        tensor: String,
        /// Digest of the tensor when the image was made.
        expected: TensorDigest,
        /// Digest of what the file holds.
        found: TensorDigest,
    },
    /// Something follows.
    #[error("it is longer than what was written")]
    Longer,
}

/// A model file ready to be written. It shares the tensors' bytes: making one costs a header, and
/// one pass over the tensors for their digests.
#[derive(Debug, Clone)]
pub struct ModelImage {
    layout: Layout,
    seal: Seal,
}

impl ModelImage {
    /// The model's identity.
    #[must_use]
    pub fn weights_digest(&self) -> WeightsDigest {
        self.seal.weights_digest
    }

    /// The digests that the file will carry.
    #[must_use]
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.layout.total_len()
    }

    /// Writes the file from first to last byte, without copying tensors. It may be called again:
    /// the bytes are the same each time.
    ///
    /// # Errors
    /// The errors of `writer`.
    pub fn write_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.layout.write_to(writer)
    }

    /// Whether `file` gives this image to the last byte, told by the digests and not by the tensors in memory: what changed
    /// there since they were hashed is found too. Memory stays small, and the file is read once from its start.
    ///
    /// ```
    /// use keepbest_formats::model_file::{ModelMetadata, encode};
    /// use keepbest_formats::{StateDict, Tensor};
    /// let mut weights = StateDict::new();
    /// weights.insert("w", Tensor::from_f32(&[2], &[1.0, 2.0])?)?;
    /// let image = encode(&weights, &StateDict::new(), &ModelMetadata::default())?;
    /// let mut file = Vec::new();
    /// image.write_to(&mut file)?;
    /// image.compare(&mut file.as_slice())?;
    /// *file.last_mut().unwrap() ^= 1;
    /// assert!(image.compare(&mut file.as_slice()).unwrap_err().to_string().contains("`w`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first difference, or what `file` returns.
    pub fn compare(&self, file: &mut impl Read) -> Result<(), CompareError> {
        let mut head = vec![0; self.layout.head.len()];
        file.read_exact(&mut head).map_err(CompareError::Read)?;
        if head != self.layout.head {
            return Err(CompareError::Header);
        }
        let segments = &self.layout.segments;
        let sizes = segments.iter().map(|segment| segment.bytes.len());
        for (segment, found) in segments.iter().zip(digest_stream(file, sizes)) {
            let expected = self.seal.tensors[&segment.name];
            let found = found.map_err(CompareError::Read)?;
            if found != expected {
                return Err(CompareError::Tensor {
                    tensor: segment.name.clone(),
                    expected,
                    found,
                });
            }
        }
        match file.read(&mut [0]).map_err(CompareError::Read)? {
            0 => Ok(()),
            _ => Err(CompareError::Longer),
        }
    }
}

/// Makes the image of a model file of `weights` and `training` (optimizer state, its names without
/// [`TRAINING_PREFIX`]).
///
/// The same input gives the same bytes. Large models are hashed on a few threads.
///
/// # Errors
/// When there are no weights, a name is reserved, the metadata asks for what its kind cannot hold,
/// or the whole does not fit into a safetensors file.
pub fn encode(
    weights: &StateDict,
    training: &StateDict,
    metadata: &ModelMetadata,
) -> Result<ModelImage, EncodeError> {
    check(weights, training, metadata)?;
    let training_names: Vec<String> = training
        .names()
        .map(|name| format!("{TRAINING_PREFIX}{name}"))
        .collect();
    let tensors: Vec<(&str, &Tensor)> = weights
        .iter()
        .chain(
            training_names
                .iter()
                .map(String::as_str)
                .zip(training.iter().map(|(_, tensor)| tensor)),
        )
        .collect();
    let digests = digest_tensors(
        &tensors
            .iter()
            .map(|&(_, tensor)| tensor)
            .collect::<Vec<_>>(),
    );
    let mut seal = Seal {
        schema: metadata.schema(),
        producer: PRODUCER.into(),
        weights_digest: combine(weights, &digests[..weights.len()]),
        tensors: tensors
            .iter()
            .map(|&(name, _)| name.to_owned())
            .zip(digests)
            .collect(),
        // Known once the header is made of the others.
        file_digest: FileDigest([0; 32]),
    };
    let json =
        serde_json::to_string(&Written::of(metadata, &seal)).map_err(EncodeError::Metadata)?;
    metadata::from_json(&json, seal.file_digest)
        .map_err(|error| EncodeError::Unreadable(Box::new(error)))?;
    let mut layout = Layout::new(
        &tensors,
        &[
            (HEADER_DIGEST_KEY, seal::BLANK),
            // Some loaders refuse a file that does not say which framework's layout it has.
            ("format", "pt"),
            (METADATA_KEY, &json),
        ],
    )?;
    if let Some(Ok(digest)) = seal::sign(&mut layout.head[8..]).map(|digest| digest.parse()) {
        seal.file_digest = digest;
    }
    Ok(ModelImage { layout, seal })
}

fn check(
    weights: &StateDict,
    training: &StateDict,
    metadata: &ModelMetadata,
) -> Result<(), EncodeError> {
    if weights.is_empty() {
        return Err(EncodeError::NoWeights);
    }
    if let Some(name) = weights
        .names()
        .find(|name| name.starts_with(TRAINING_PREFIX))
    {
        return Err(EncodeError::ReservedName {
            tensor: name.into(),
        });
    }
    match metadata.kind {
        Kind::Full => Ok(()),
        Kind::Params => match metadata.beyond_params(training) {
            None => Ok(()),
            Some(what) => Err(EncodeError::NotOnlyParams { what }),
        },
    }
}
