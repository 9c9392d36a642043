//! Model files of every schema ever released open forever and hold what was put into them.

use keepbest_formats::model_file::{Attachments, Kind, ModelFile, ModelMetadata, encode};
use keepbest_formats::{Dtype, StateDict, Tensor, weights_digest};
use serde_json::json;

use crate::support::golden;

const WEIGHTS_DIGEST: &str = "887deb443e1761e313b84469c793f53ed7feec407422f8d52cc6805cdb9598ce";

fn ramp(shape: &[usize], start: f32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|at| start + at as f32 * 0.125).collect();
    Tensor::from_f32(shape, &values).unwrap()
}

fn check_weights(weights: &StateDict) {
    let names: Vec<_> = weights.names().collect();
    assert_eq!(
        names,
        [
            "conv.weight",
            "bn.running_mean",
            "bn.num_batches_tracked",
            "mask",
            "half",
            "empty",
            "fc.weight",
            "模型.偏置"
        ]
    );
    let get = |name: &str| weights.get(name).unwrap();
    assert_eq!(get("conv.weight"), &ramp(&[2, 1, 3, 3], -1.0));
    assert_eq!(get("bn.running_mean"), &ramp(&[2], 0.0));
    assert_eq!(get("bn.num_batches_tracked").as_i64().unwrap()[0], 1200);
    assert_eq!(get("mask").dtype(), Dtype::Bool);
    assert_eq!(get("mask").bytes().as_ref(), [1, 0, 1]);
    assert_eq!(get("half").dtype(), Dtype::F16);
    assert_eq!(get("half").bytes().as_ref(), [0x00, 0x3c, 0x00, 0xc0]);
    assert_eq!(get("empty").shape(), [0, 4]);
    assert_eq!(get("fc.weight"), &ramp(&[3, 2], 4.0));
    assert_eq!(get("模型.偏置"), &ramp(&[3], 8.0));
    assert_eq!(weights_digest(weights).to_string(), WEIGHTS_DIGEST);
}

#[test]
fn schema_one_full() {
    let file = ModelFile::open(golden("schema-1-full.safetensors")).unwrap();
    check_weights(&file.weights);
    assert_eq!(file.weights_digest().to_string(), WEIGHTS_DIGEST);
    let names: Vec<_> = file.training.names().collect();
    assert_eq!(
        names,
        ["step", "conv.weight.momentum", "fc.weight.momentum"]
    );
    assert_eq!(
        file.training.get("fc.weight.momentum").unwrap(),
        &ramp(&[3, 2], -0.25)
    );
    let seal = file.seal.clone().unwrap();
    assert_eq!((seal.schema, seal.producer.as_str()), (1, "keepbest 0.1.0"));
    assert_eq!(seal.tensors.len(), 11);
    let metadata = file.metadata.clone().unwrap();
    assert_eq!(metadata.kind, Kind::Full);
    assert_eq!((metadata.step, metadata.epoch), (1200, 7));
    assert_eq!(metadata.classes, ["T-shirt/top", "\"quoted\"", "été ☀"]);
    assert_eq!(metadata.model.as_ref().unwrap()["name"], "golden");
    let training = metadata.training.as_ref().unwrap();
    assert_eq!(training["seed"], u64::MAX);
    assert_eq!(training["learning_rate"], 0.1);
    assert_eq!(
        metadata.evaluation,
        Some(json!({"val/accuracy": 0.8912, "val/loss": "NaN"}))
    );
    assert_eq!(
        metadata.history,
        Some(json!([{"epoch": 6, "val/accuracy": 0.8875}]))
    );
    assert_eq!(
        metadata.preprocessing,
        Some(json!({"mean": [0.2860], "std": [0.3530]}))
    );
    assert_eq!(metadata.provenance, Some(json!({"data": "fashion-mnist"})));
    // What was read can be written again, and is then the same model.
    let again = encode(&file.weights, &file.training, &metadata).unwrap();
    assert_eq!(again.seal().tensors, seal.tensors);
    assert_eq!(again.weights_digest(), file.weights_digest());
}

#[test]
fn schema_one_params() {
    let file = ModelFile::open(golden("schema-1-params.safetensors")).unwrap();
    check_weights(&file.weights);
    assert!(file.training.is_empty());
    let metadata = file.metadata.unwrap();
    assert_eq!(metadata.kind, Kind::Params);
    assert_eq!((&metadata.model, &metadata.training), (&None, &None));
    assert_eq!(metadata.classes.len(), 3);
    assert_eq!((metadata.step, metadata.epoch), (1200, 7));
}

/// What a full model holds whatever its schema; gives its metadata.
#[track_caller]
fn check_full(file: &ModelFile) -> ModelMetadata {
    check_weights(&file.weights);
    assert_eq!(file.weights_digest().to_string(), WEIGHTS_DIGEST);
    assert_eq!(file.training.len(), 3);
    let metadata = file.metadata.clone().unwrap();
    assert_eq!(metadata.kind, Kind::Full);
    assert_eq!((metadata.step, metadata.epoch), (1200, 7));
    metadata
}

#[test]
fn schema_two_adds_thresholds() {
    let one = ModelFile::open(golden("schema-1-full.safetensors")).unwrap();
    let two = ModelFile::open(golden("schema-2-full.safetensors")).unwrap();
    assert_eq!(two.seal.as_ref().unwrap().schema, 2);
    let (of_one, of_two) = (check_full(&one), check_full(&two));
    let thresholds = json!({
        "values": [0.25, 0.5, 0.25],
        "metric": "f1_macro",
        "split": "val",
        "before": 0.75,
        "after": 0.875,
    });
    assert_eq!(
        (&of_one.thresholds, &of_two.thresholds),
        (&None, &Some(thresholds))
    );
    // All else is schema 1's, and a model without thresholds is written as that.
    let without = ModelMetadata {
        attachments: Attachments {
            thresholds: None,
            ..of_two.attachments.clone()
        },
        ..of_two
    };
    assert_eq!(without, of_one);
    let schema = |metadata| {
        encode(&two.weights, &two.training, metadata)
            .unwrap()
            .seal()
            .schema
    };
    assert_eq!((schema(&without), schema(&of_two)), (1, 2));
}

#[test]
fn schema_one_to_the_byte() {
    // The fixed places of docs/format.md, read without the crate.
    let bytes = std::fs::read(golden("schema-1-full.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!((8 + length) % 64, 0);
    let mut header = bytes[8..8 + length].to_vec();
    assert!(header.starts_with(br#"{"__metadata__":{"keepbest_header_digest":""#));
    let digest = header[43..107].to_vec();
    header[43..107].fill(b'0');
    assert_eq!(digest, blake3::hash(&header).to_hex().as_bytes());
    // The scalars of eight bytes come first, in model order.
    assert_eq!(bytes[8 + length..][..8], 1200i64.to_le_bytes());
    assert_eq!(bytes[8 + length..][8..16], 1200i64.to_le_bytes());
    assert_eq!(bytes[8 + length..][16..20], (-1f32).to_le_bytes());
}
