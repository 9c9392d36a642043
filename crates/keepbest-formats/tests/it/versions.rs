//! The metadata's schema is strict: what this build does not know is refused by name.
//!
//! The files are sealed here by the rule of docs/format.md, so this proves that rule too.

use keepbest_formats::model_file::{Kind, ModelFileError as E};
use keepbest_formats::safetensors::{self, Layout};
use serde_json::{Value, json};

use crate::support::{chain, read, small_file};

const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const START: &str = r#"{"__metadata__":{"keepbest_header_digest":""#;

/// A small model whose metadata went through `change`, sealed again.
fn resealed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let plain = safetensors::read(&small_file().into()).unwrap();
    let mut metadata: Value = serde_json::from_str(&plain.metadata["keepbest"]).unwrap();
    change(&mut metadata);
    sealed(&metadata.to_string())
}

fn sealed(metadata: &str) -> Vec<u8> {
    let plain = safetensors::read(&small_file().into()).unwrap();
    let tensors: Vec<_> = plain.tensors.iter().collect();
    let mut file = Vec::new();
    let pairs = [("keepbest_header_digest", BLANK), ("keepbest", metadata)];
    Layout::new(&tensors, &pairs)
        .unwrap()
        .write_to(&mut file)
        .unwrap();
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    assert!(file[8..].starts_with(START.as_bytes()));
    let digest = blake3::hash(&file[8..end]).to_hex();
    let at = 8 + START.len();
    file[at..at + 64].copy_from_slice(digest.as_bytes());
    file
}

fn error(change: impl FnOnce(&mut Value)) -> E {
    read(resealed(change)).unwrap_err()
}

#[test]
fn resealing_nothing_changes_nothing() {
    let file = read(resealed(|_| ())).unwrap();
    assert_eq!(file.metadata.unwrap().kind, Kind::Full);
    assert_eq!(file.seal.unwrap().schema, 1);
}

#[test]
fn keys_stand_in_the_documented_order() {
    let plain = safetensors::read(&small_file().into()).unwrap();
    let metadata: Value = serde_json::from_str(&plain.metadata["keepbest"]).unwrap();
    let keys: Vec<_> = metadata.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "schema",
            "producer",
            "kind",
            "weights_digest",
            "step",
            "epoch",
            "model",
            "classes",
            "preprocessing",
            "training",
            "evaluation",
            "history",
            "provenance",
            "tensors"
        ]
    );
}

#[test]
fn newer_schema() {
    let error = error(|metadata| {
        metadata["schema"] = json!(3);
        metadata["producer"] = json!("keepbest 0.9.0");
        metadata["of_schema_three"] = json!([]);
        metadata.as_object_mut().unwrap().remove("kind");
    });
    assert!(matches!(
        &error,
        E::UnknownSchema {
            schema: 3,
            newest: 2,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "its metadata has schema 3 and this keepbest reads up to 2: it takes keepbest 0.9.0 or newer"
    );
}

#[test]
fn schema_zero_never_existed() {
    assert!(matches!(
        error(|metadata| metadata["schema"] = json!(0)),
        E::UnknownSchema { schema: 0, .. }
    ));
}

#[test]
fn unknown_key() {
    let error = error(|metadata| {
        metadata["producer"] = json!("keepbest 0.2.0");
        metadata["colour"] = json!("blue");
    });
    assert_eq!(
        error.to_string(),
        "its metadata has the key `colour`, which schema 1 does not have: it takes keepbest 0.2.0 or newer"
    );
}

/// Thresholds that a reader of schema 1 would not know of are no part of it.
#[test]
fn thresholds_take_schema_two() {
    let error = error(|metadata| metadata["thresholds"] = json!({"values": [0.5, 0.5]}));
    assert!(
        matches!(&error, E::UnknownKey { key, schema: 1, .. } if key == "thresholds"),
        "{error}"
    );
    let file = resealed(|metadata| {
        metadata["schema"] = json!(2);
        metadata["thresholds"] = json!({"values": [0.5, 0.5]});
    });
    let file = read(file).unwrap();
    assert_eq!(
        file.metadata.unwrap().attachments.thresholds.unwrap()["values"],
        json!([0.5, 0.5])
    );
    assert_eq!(file.seal.unwrap().schema, 2);
}

#[test]
fn duplicate_key() {
    let plain = safetensors::read(&small_file().into()).unwrap();
    let twice = plain.metadata["keepbest"].replacen("{", "{\"step\":1,", 1);
    assert!(matches!(
        read(sealed(&twice)).unwrap_err(),
        E::DuplicateKey { key } if key == "step"
    ));
    let name = "\"tensors\":{";
    let entry = format!("{name}\"conv.weight\":\"{BLANK}\",");
    let twice = plain.metadata["keepbest"].replacen(name, &entry, 1);
    assert!(matches!(
        read(sealed(&twice)).unwrap_err(),
        E::Metadata(source) if source.to_string().contains("conv.weight")
    ));
}

#[test]
fn missing_key() {
    for key in [
        "schema",
        "producer",
        "kind",
        "weights_digest",
        "step",
        "epoch",
        "tensors",
    ] {
        let error = error(|metadata| {
            metadata.as_object_mut().unwrap().remove(key);
        });
        assert!(chain(&error).contains(key), "{}", chain(&error));
    }
    for key in [
        "model",
        "classes",
        "preprocessing",
        "training",
        "evaluation",
        "history",
    ] {
        read(resealed(|metadata| {
            metadata.as_object_mut().unwrap().remove(key);
        }))
        .unwrap();
    }
}

#[test]
fn value_of_a_wrong_type() {
    let values = [
        ("schema", json!("1")),
        ("kind", json!("half")),
        ("step", json!(-1)),
        ("epoch", json!(1.5)),
        ("classes", json!([1])),
        ("weights_digest", json!("abc")),
        ("tensors", json!([])),
    ];
    for (key, value) in values {
        let error = error(|metadata| metadata[key] = value);
        assert!(matches!(error, E::Metadata(_)), "{key}: {error}");
    }
    assert!(matches!(read(sealed("[]")).unwrap_err(), E::Metadata(_)));
    assert!(matches!(read(sealed("{")).unwrap_err(), E::Metadata(_)));
}

#[test]
fn digests_must_be_there_and_right() {
    assert!(matches!(
        error(|metadata| metadata["tensors"]["conv.weight"] = json!(BLANK)),
        E::TensorDamaged { tensor, .. } if tensor == "conv.weight"
    ));
    assert!(matches!(
        error(|metadata| metadata["weights_digest"] = json!(BLANK)),
        E::WeightsDigest { .. }
    ));
    assert!(matches!(
        error(|metadata| {
            metadata["tensors"].as_object_mut().unwrap().remove("fc.bias");
        }),
        E::TensorUnlisted { tensor } if tensor == "fc.bias"
    ));
    assert!(matches!(
        error(|metadata| metadata["tensors"]["ghost"] = json!(BLANK)),
        E::TensorMissing { tensor } if tensor == "ghost"
    ));
}

#[test]
fn params_only_with_more() {
    let error = error(|metadata| metadata["kind"] = json!("params"));
    assert_eq!(
        error.to_string(),
        "it says it is params-only but holds a model spec"
    );
}
