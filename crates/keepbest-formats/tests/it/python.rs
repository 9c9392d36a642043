//! Files that the Python library `safetensors` wrote (`tests/golden/make_safetensors.py`) are read
//! exactly.

use std::fs;

use keepbest_formats::model_file::{ModelFile, ModelFileError, OpenError};
use keepbest_formats::{Dtype, map_file, safetensors};
use serde_json::Value;

use crate::support::golden;

/// Element types as PyTorch and NumPy call them.
fn dtype(name: &str) -> Dtype {
    match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "complex64" => Dtype::C64,
        other => panic!("{other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_file_and_every_byte() {
    let expected = fs::read_to_string(golden("python-expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let mut tensors = 0;
    for (name, file) in expected["files"].as_object().unwrap() {
        let read = safetensors::read(&map_file(golden(name)).unwrap()).unwrap();
        let metadata = serde_json::to_value(&read.metadata).unwrap();
        assert_eq!(metadata, file["metadata"], "{name}");
        let entries = file["tensors"].as_object().unwrap();
        assert_eq!(read.tensors.len(), entries.len(), "{name}");
        for (key, entry) in entries {
            let tensor = read.tensors.get(key).unwrap();
            assert_eq!(tensor.dtype(), dtype(entry["dtype"].as_str().unwrap()));
            assert_eq!(
                serde_json::to_value(tensor.shape()).unwrap(),
                entry["shape"]
            );
            assert_eq!(hex(tensor.bytes()), entry["hex"].as_str().unwrap(), "{key}");
            tensors += 1;
        }
    }
    assert_eq!(tensors, 47);
}

#[test]
fn a_network_opens_as_a_foreign_model() {
    let model = ModelFile::open(golden("python-network.safetensors")).unwrap();
    assert!(model.metadata.is_none() && model.seal.is_none());
    assert_eq!(model.weights.len(), 9);
    assert_eq!(model.other["format"], "pt");
}

#[test]
fn nothing_is_no_model() {
    assert!(matches!(
        ModelFile::open(golden("python-nothing.safetensors")).unwrap_err(),
        OpenError::Model {
            source: ModelFileError::NoTensors,
            ..
        }
    ));
}
