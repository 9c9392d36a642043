//! What is written is what is read, whatever it is.

use std::io::{self, Write};

use bytes::Bytes;
use keepbest_formats::model_file::{
    Attachments, EncodeError, Kind, ModelFile, ModelMetadata, encode,
};
use keepbest_formats::safetensors::{self, Layout, LayoutError};
use keepbest_formats::{Dtype, StateDict, Tensor, weights_digest};
use proptest::prelude::*;

use crate::support::{dict, encoded, f32s, read, small_model};

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let dtypes: Vec<Dtype> = Dtype::ALL
        .into_iter()
        .filter(|dtype| dtype.in_safetensors())
        .collect();
    (
        proptest::sample::select(dtypes),
        proptest::collection::vec(0usize..4, 0..4),
    )
        .prop_flat_map(|(dtype, shape)| {
            let length = dtype.byte_len(&shape).unwrap();
            proptest::collection::vec(any::<u8>(), length)
                .prop_map(move |bytes| Tensor::new(dtype, shape.clone(), bytes).unwrap())
        })
}

fn any_dict(least: usize) -> impl Strategy<Value = StateDict> {
    proptest::collection::vec((any::<String>(), any_tensor()), least..8).prop_map(|entries| {
        let mut dict = StateDict::new();
        for (at, (name, tensor)) in entries.into_iter().enumerate() {
            // The number makes names unique; it stands last, so that any first characters occur.
            dict.insert(format!("{name}{at}"), tensor).unwrap();
        }
        dict
    })
}

proptest! {
    #[test]
    fn any_model(weights in any_dict(1), training in any_dict(0), step: u64, epoch: u64,
                 classes in proptest::collection::vec(any::<String>(), 0..4), text: String) {
        let metadata = ModelMetadata { step, epoch, attachments: Attachments { classes, model: Some(serde_json::json!({ text.clone(): [text, step, 0.1, null] })), thresholds: step.is_multiple_of(2).then(|| serde_json::json!({"values": [0.5]})), ..Attachments::default() }, ..ModelMetadata::default() };
        let file = encoded(&weights, &training, &metadata);
        let read = read(file.clone()).unwrap();
        prop_assert_eq!(&read.weights, &weights);
        prop_assert_eq!(&read.training, &training);
        prop_assert_eq!(&read.metadata, &Some(metadata));
        prop_assert_eq!(read.weights_digest(), weights_digest(&weights));
        prop_assert_eq!(read.seal.unwrap().tensors.len(), weights.len() + training.len());
        // Aligned as promised: in a mapping every tensor begins at a multiple of its element.
        let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        prop_assert_eq!(start % 64, 0);
        let whole = Bytes::from(file);
        let base = whole.as_ptr() as usize;
        for (name, tensor) in safetensors::read(&whole).unwrap().tensors.iter() {
            let offset = tensor.bytes().as_ptr() as usize - base;
            prop_assert!(tensor.elements() == 0 || offset.is_multiple_of(tensor.dtype().size()), "{}", name);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Whatever it is, it does not panic.
        let _ = read(bytes.clone());
        let _ = safetensors::read(&bytes.into());
    }

    #[test]
    fn any_header_is_read_or_refused(text in r#"[{}\[\]":,a0-9 UF]{0,60}"#, data in proptest::collection::vec(any::<u8>(), 0..9)) {
        let _ = safetensors::read(&crate::support::file(&format!("{{{text}"), &data));
    }
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let (weights, training, metadata) = small_model();
    assert_eq!(
        encoded(&weights, &training, &metadata),
        encoded(&weights, &training, &metadata)
    );
}

#[test]
fn training_state_does_not_change_the_identity() {
    let (weights, training, metadata) = small_model();
    let full = encode(&weights, &training, &metadata).unwrap();
    let params = encode(&weights, &StateDict::new(), &metadata.into_params()).unwrap();
    assert_eq!(full.weights_digest(), params.weights_digest());
    assert_eq!(full.weights_digest(), weights_digest(&weights));
}

#[test]
fn params_only_holds_no_more_than_that() {
    let (weights, training, metadata) = small_model();
    let params = metadata.clone().into_params();
    assert_eq!(params.classes, metadata.classes);
    let file = read(encoded(&weights, &StateDict::new(), &params)).unwrap();
    assert_eq!(file.metadata, Some(params.clone()));
    assert!(file.training.is_empty());

    let error = encode(&weights, &training, &params).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a params-only file cannot hold training state"
    );
    let with_model = ModelMetadata {
        kind: Kind::Params,
        ..metadata
    };
    let error = encode(&weights, &StateDict::new(), &with_model).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a params-only file cannot hold a model spec"
    );
    let decided = ModelMetadata {
        attachments: Attachments {
            thresholds: Some(serde_json::json!({"values": [0.5]})),
            ..params.attachments
        },
        ..params
    };
    let error = encode(&weights, &StateDict::new(), &decided).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a params-only file cannot hold thresholds"
    );
    // What was measured by them is not what the file decides.
    assert_eq!(decided.into_params().evaluation, None);
}

#[test]
fn what_cannot_be_written_is_said() {
    let none = StateDict::new();
    let metadata = ModelMetadata::default();
    assert!(matches!(
        encode(&none, &none, &metadata).unwrap_err(),
        EncodeError::NoWeights
    ));
    let reserved = dict([("optimizer.x", f32s(&[1], 0.0))]);
    assert!(matches!(
        encode(&reserved, &none, &metadata).unwrap_err(),
        EncodeError::ReservedName { tensor } if tensor == "optimizer.x"
    ));
    let reserved = dict([("__metadata__", f32s(&[1], 0.0))]);
    assert!(matches!(
        encode(&reserved, &none, &metadata).unwrap_err(),
        EncodeError::Layout(LayoutError::ReservedName { .. })
    ));
    let complex = dict([("z", Tensor::new(Dtype::C128, [1], vec![0u8; 16]).unwrap())]);
    assert!(matches!(
        encode(&complex, &none, &metadata).unwrap_err(),
        EncodeError::Layout(LayoutError::Dtype { tensor, dtype: Dtype::C128 }) if tensor == "z"
    ));
    let deep = (0..200).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
    let too_deep = ModelMetadata {
        attachments: Attachments {
            model: Some(deep),
            ..metadata.attachments
        },
        ..metadata
    };
    assert!(matches!(
        encode(&dict([("a", f32s(&[1], 0.0))]), &none, &too_deep).unwrap_err(),
        EncodeError::Unreadable(_)
    ));
    let tensor = f32s(&[1], 0.0);
    assert!(matches!(
        Layout::new(&[("a", &tensor), ("a", &tensor)], &[]).unwrap_err(),
        LayoutError::DuplicateName { name } if name == "a"
    ));
}

/// A writer that takes little at a time and is interrupted, as pipes and signals do.
struct Stubborn {
    taken: Vec<u8>,
    calls: usize,
}

impl Write for Stubborn {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(7);
        self.taken.extend(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn short_writes_and_interruptions_lose_nothing() {
    let (weights, training, metadata) = small_model();
    let image = encode(&weights, &training, &metadata).unwrap();
    let mut stubborn = Stubborn {
        taken: Vec::new(),
        calls: 0,
    };
    image.write_to(&mut stubborn).unwrap();
    assert_eq!(stubborn.taken, encoded(&weights, &training, &metadata));
}

#[test]
fn a_full_disk_is_reported() {
    let (weights, training, metadata) = small_model();
    let image = encode(&weights, &training, &metadata).unwrap();
    let mut small = vec![0u8; 100];
    let error = image.write_to(&mut small.as_mut_slice()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn many_tensors_go_out_in_groups() {
    let mut weights = StateDict::new();
    for at in 0..2500 {
        weights
            .insert(format!("w{at}"), f32s(&[1], at as f32))
            .unwrap();
    }
    let file = encoded(&weights, &StateDict::new(), &ModelMetadata::default());
    assert_eq!(read(file).unwrap().weights, weights);
}

#[test]
fn an_opened_file_is_mapped_and_stays_valid_after_it_is_replaced() {
    let (weights, training, metadata) = small_model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    std::fs::write(&path, encoded(&weights, &training, &metadata)).unwrap();
    let model = ModelFile::open(&path).unwrap();
    let next = folder.path().join("next");
    std::fs::write(&next, b"something else").unwrap();
    std::fs::rename(&next, &path).unwrap();
    assert_eq!(model.weights, weights);
    // Views, not copies: all tensors lie in one mapping, conv.weight 8 bytes after the counter.
    let at = |name: &str| model.weights.get(name).unwrap().bytes().as_ptr() as usize;
    assert_eq!(at("conv.weight") - at("bn.num_batches_tracked"), 8);
    assert!(matches!(
        model.weights.get("conv.weight").unwrap().as_f32().unwrap(),
        std::borrow::Cow::Borrowed(_)
    ));
}
