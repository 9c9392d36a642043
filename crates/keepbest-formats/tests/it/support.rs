//! Small models and files made by hand.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use keepbest_formats::model_file::{self, Attachments, ModelFile, ModelFileError, ModelMetadata};
use keepbest_formats::{StateDict, Tensor};
use serde_json::json;

/// The folder of golden files.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A safetensors file of any header and data, well-formed or not.
pub(crate) fn file(header: &str, data: &[u8]) -> Bytes {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file.into()
}

pub(crate) fn dict(entries: impl IntoIterator<Item = (&'static str, Tensor)>) -> StateDict {
    let mut dict = StateDict::new();
    for (name, tensor) in entries {
        dict.insert(name, tensor).unwrap();
    }
    dict
}

pub(crate) fn f32s(shape: &[usize], start: f32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| start + i as f32 * 0.25).collect();
    Tensor::from_f32(shape, &values).unwrap()
}

/// Weights, training state and metadata of a small full model.
pub(crate) fn small_model() -> (StateDict, StateDict, ModelMetadata) {
    let weights = dict([
        ("conv.weight", f32s(&[2, 1, 2, 2], -1.0)),
        ("bn.running_mean", f32s(&[2], 0.5)),
        (
            "bn.num_batches_tracked",
            Tensor::from_i64(&[], &[40]).unwrap(),
        ),
        ("fc.bias", f32s(&[3], 7.0)),
    ]);
    let training = dict([
        ("conv.weight.momentum", f32s(&[2, 1, 2, 2], 3.0)),
        ("fc.bias.momentum", f32s(&[3], 0.0)),
    ]);
    let metadata = ModelMetadata {
        step: 40,
        epoch: 2,
        attachments: Attachments {
            model: Some(json!({"version": 1, "name": "tiny", "layers": []})),
            classes: vec!["cat".into(), "dog".into(), "été ☀".into()],
            preprocessing: Some(json!({"mean": [0.5], "std": [0.25]})),
            training: Some(json!({"learning_rate": 0.1, "seed": u64::MAX})),
            evaluation: Some(json!({"val/accuracy": 0.875})),
            history: Some(json!([{"epoch": 1, "val/accuracy": 0.5}])),
            provenance: Some(json!({"data": "made by hand"})),
            ..Attachments::default()
        },
        ..ModelMetadata::default()
    };
    (weights, training, metadata)
}

/// The bytes of a model file.
pub(crate) fn encoded(
    weights: &StateDict,
    training: &StateDict,
    metadata: &ModelMetadata,
) -> Vec<u8> {
    let image = model_file::encode(weights, training, metadata).unwrap();
    let mut bytes = Vec::new();
    image.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, image.total_len());
    bytes
}

pub(crate) fn small_file() -> Vec<u8> {
    let (weights, training, metadata) = small_model();
    encoded(&weights, &training, &metadata)
}

pub(crate) fn read(bytes: impl Into<Bytes>) -> Result<ModelFile, ModelFileError> {
    ModelFile::from_bytes(bytes.into())
}

/// The message of an error with all of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A zip archive with stored entries, without checksums (as PyTorch writes when told to).
pub(crate) fn zip_archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let name_length = (name.len() as u16).to_le_bytes();
        let length = (data.len() as u32).to_le_bytes();
        let at = (bytes.len() as u32).to_le_bytes();
        bytes.extend(b"PK\x03\x04");
        bytes.extend([0; 22]);
        bytes.extend(name_length);
        bytes.extend([0; 2]);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 16]);
        directory.extend(length);
        directory.extend(length);
        directory.extend(name_length);
        directory.extend([0; 12]);
        directory.extend(at);
        directory.extend(name.as_bytes());
    }
    let begin = bytes.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(begin.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}
