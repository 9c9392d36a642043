//! Files that the Python library `safetensors` wrote (`tests/golden/make_safetensors.py`) are read
//! exactly.

use keepbest_formats::model_file::{ModelFile, ModelFileError, OpenError};

use crate::folder::check_safetensors;
use crate::support::golden;

#[test]
fn every_file_and_every_byte() {
    assert_eq!(check_safetensors(&golden("")), (6, 47));
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
