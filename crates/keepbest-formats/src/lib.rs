//! State dicts to bytes and back: safetensors and keepbest's full-model schema, hostile input first.
//!
//! - [`StateDict`], [`Tensor`], [`Dtype`]: weights as data, sharing bytes rather than owning them.
//! - [`Snapshot`]: the weights at one step, whatever holds them.
//! - [`weights_digest`]: the identity of a state dict.
//! - [`safetensors`]: the container, read strictly and without a copy.
//! - [`model_file`]: keepbest's files, full and params-only, with every byte under a digest.
//! - [`archive`]: several checkpoint files in one.
//! - [`delta`]: a file as its exact difference from an earlier one.
//! - [`OptimizerConfig`]: optimizers, their settings and the names of their state.
//! - [`protobuf`]: protocol buffers, field by field.
//! - [`pth`]: PyTorch's files as data, running nothing of what is in them.
//! - [`names`]: tensors under other names, and which of them a model can take.
//! - [`npz`]: NumPy's archives, read.
//! - [`onnx`]: ONNX models, written and read.
//! - [`sharded`]: weights in several files with an index.
//! - [`sniff`]: what a file holds that is something else.

#[cfg(not(unix))]
compile_error!("keepbest-formats builds on Unix systems only");

pub mod archive;
mod convert;
pub mod delta;
mod digest;
mod dtype;
mod map;
pub mod model_file;
pub mod names;
pub mod npz;
pub mod onnx;
mod optimizer;
pub mod protobuf;
pub mod pth;
pub mod safetensors;
mod setting;
pub mod sharded;
mod snapshot;
pub mod sniff;
mod state_dict;
mod tensor;
mod zip;

pub use convert::TensorStats;
pub use digest::{ParseDigestError, TensorDigest, weights_digest};
pub use dtype::Dtype;
pub use keepbest_core::WeightsDigest;
pub use map::{map_file, map_open_file, open_regular, read_text};
pub use optimizer::{OptimizerConfig, OptimizerDefaults, OptimizerKind};
pub use setting::{SettingError, check_setting};
pub use snapshot::{OwnedSnapshot, Snapshot, SnapshotHandle, Wanted};
pub use state_dict::{DuplicateTensor, StateDict};
pub use tensor::{Tensor, TensorError};
pub use zip::ZipError;
