//! keepbest's model file: a plain safetensors file whose metadata says everything else, and whose
//! every byte is covered by a digest.
//!
//! [`encode`] makes the image of a file to write, [`ModelFile::open`] reads one back and verifies
//! it. Foreign safetensors files open too; they carry no digests, so nothing can be verified.
//! `docs/format.md` describes the file byte by byte.
//!
//! ```
//! use keepbest_formats::model_file::{self, Attachments, ModelFile, ModelMetadata};
//! use keepbest_formats::{StateDict, Tensor};
//!
//! let mut weights = StateDict::new();
//! weights.insert("fc.bias", Tensor::from_f32(&[2], &[0.25, -1.0])?)?;
//! let metadata = ModelMetadata {
//!     step: 1200,
//!     attachments: Attachments {
//!         classes: vec!["cat".into(), "dog".into()],
//!         ..Attachments::default()
//!     },
//!     ..ModelMetadata::default()
//! };
//! let image = model_file::encode(&weights, &StateDict::new(), &metadata)?;
//! let mut file = Vec::new();
//! image.write_to(&mut file)?;
//!
//! let model = ModelFile::from_bytes(file.into())?;
//! assert_eq!(model.weights, weights);
//! assert_eq!(model.metadata, Some(metadata));
//! assert_eq!(model.weights_digest(), image.weights_digest());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attachments;
mod encode;
mod error;
mod metadata;
mod open;
mod seal;

use std::collections::BTreeMap;

use keepbest_core::WeightsDigest;

pub use attachments::Attachments;
pub use encode::{CompareError, EncodeError, ModelImage, encode};
pub use error::{ModelFileError, OpenError};
pub use metadata::{Kind, ModelMetadata};
pub use seal::Seal;

use crate::{StateDict, weights_digest};

/// The newest schema that this keepbest reads. It writes the oldest that can say what there is to say.
pub const SCHEMA: u32 = 2;

/// What names of training state start with in a file.
pub const TRAINING_PREFIX: &str = "optimizer.";

/// Key in `__metadata__` of the JSON that [`ModelMetadata`] and [`Seal`] are read from.
pub const METADATA_KEY: &str = "keepbest";

/// Key in `__metadata__` of the header's own digest.
pub const HEADER_DIGEST_KEY: &str = "keepbest_header_digest";

/// A model file as read. Tensors are views of the file's mapping or bytes.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What keepbest wrote about the model; `None` in a foreign file.
    pub metadata: Option<ModelMetadata>,
    /// The digests that the file carries; `None` in a foreign file.
    pub seal: Option<Seal>,
    /// The state dict, in model order.
    pub weights: StateDict,
    /// Optimizer state, its names without [`TRAINING_PREFIX`]; empty in a params-only file.
    pub training: StateDict,
    /// Text under `__metadata__` that is not keepbest's.
    pub other: BTreeMap<String, String>,
}

impl ModelFile {
    /// The model's identity: as recorded in the file (and verified, unless it was opened without),
    /// computed for a foreign file.
    #[must_use]
    pub fn weights_digest(&self) -> WeightsDigest {
        match &self.seal {
            Some(seal) => seal.weights_digest,
            None => weights_digest(&self.weights),
        }
    }
}
