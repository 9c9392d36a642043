//! Comparing folders of files that a Python script wrote with the `expected.json` beside them. Shared
//! by the tests (on golden files) and `examples/check_folder.rs` (on files made just now).

use std::fs;
use std::path::Path;

use keepbest_formats::pth::PthFile;
use keepbest_formats::{Dtype, map_file, safetensors};
use serde_json::Value as Json;

/// The message of an error with all of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads every file of a folder as `expected.json` there says; how many.
pub(crate) fn check_pth(folder: &Path) -> usize {
    let expected = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    let files = expected["files"].as_object().unwrap();
    for (name, expected) in files {
        let path = folder.join(name);
        let read = PthFile::open(&path).and_then(|file| file.weights(None));
        if let Some(words) = expected["error"].as_str() {
            let error = chain(&read.unwrap_err());
            assert!(error.contains(words), "{name}: {error}");
            continue;
        }
        let found = read.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(found.key.as_deref(), expected["key"].as_str(), "{name}");
        assert_eq!(found.stripped, expected["stripped"], "{name}");
        let tensors = expected["tensors"].as_array().unwrap();
        let names: Vec<_> = found.weights.names().collect();
        let expected_names: Vec<_> = tensors
            .iter()
            .map(|t| t["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, expected_names, "{name}");
        for ((key, tensor), expected) in found.weights.iter().zip(tensors) {
            assert_eq!(tensor.dtype().name(), expected["dtype"], "{name} {key}");
            let shape = serde_json::to_value(tensor.shape()).unwrap();
            assert_eq!(shape, expected["shape"], "{name} {key}");
            assert_eq!(
                hex(tensor.bytes()),
                expected["hex"].as_str().unwrap(),
                "{name} {key}"
            );
        }
    }
    // What the hostile ones among them would leave behind.
    assert!(!Path::new("KEEPBEST_WAS_HERE").exists());
    files.len()
}

/// Reads every safetensors file of a folder as `python-expected.json` there says; how many files and
/// tensors.
pub(crate) fn check_safetensors(folder: &Path) -> (usize, usize) {
    let expected = fs::read_to_string(folder.join("python-expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    let files = expected["files"].as_object().unwrap();
    let mut tensors = 0;
    for (name, file) in files {
        let read = safetensors::read(&map_file(folder.join(name)).unwrap()).unwrap();
        let metadata = serde_json::to_value(&read.metadata).unwrap();
        assert_eq!(metadata, file["metadata"], "{name}");
        let entries = file["tensors"].as_object().unwrap();
        assert_eq!(read.tensors.len(), entries.len(), "{name}");
        for (key, entry) in entries {
            let tensor = read.tensors.get(key).unwrap();
            assert_eq!(tensor.dtype(), dtype(entry["dtype"].as_str().unwrap()));
            let shape = serde_json::to_value(tensor.shape()).unwrap();
            assert_eq!(shape, entry["shape"], "{key}");
            assert_eq!(hex(tensor.bytes()), entry["hex"].as_str().unwrap(), "{key}");
            tensors += 1;
        }
    }
    (files.len(), tensors)
}

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
