//! Files that hold something else get an error that says what they hold.

use keepbest_formats::model_file::{ModelFile, ModelFileError as E, OpenError};
use keepbest_formats::safetensors::Layout;

use crate::support::{chain, encoded, f32s, file, read, small_model, zip_archive};

fn message(bytes: &[u8]) -> String {
    chain(&read(bytes.to_vec()).unwrap_err())
}

/// A zip archive with empty entries of the given names.
fn zip(names: &[&str]) -> Vec<u8> {
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &[][..])).collect();
    zip_archive(&entries)
}

#[test]
fn each_kind_in_words() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "nothing (0 bytes)"),
        (b"epoch,loss\n1,0.5\n".to_vec(), "text"),
        ("ÅÄÖ ".repeat(3000).into_bytes(), "text"),
        (b"short".to_vec(), "text"),
        (b"{\"a\": 1}".to_vec(), "JSON text"),
        (b"<!DOCTYPE html><html>".to_vec(), "a web page"),
        (png.to_vec(), "a PNG image"),
        (b"\xff\xd8\xff\xe0".to_vec(), "a JPEG image"),
        (b"\x89HDF\r\n\x1a\n\0".to_vec(), "HDF5"),
        (b"\x93NUMPY\x01\0".to_vec(), "a NumPy array"),
        (b"GGUF\x03\0\0\0".to_vec(), "a GGUF model"),
        (b"\x1f\x8b\x08\0".to_vec(), "gzip"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0".to_vec(), "ONNX"),
        (
            b"\x80\x04\x95\x03\0\0\0\0\0\0\0}\x94.".to_vec(),
            "a Python pickle",
        ),
        (
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
            "a PyTorch checkpoint in the form before 1.6",
        ),
        (
            zip(&["archive/data.pkl", "archive/version"]),
            "a PyTorch checkpoint (zip",
        ),
        (
            zip(&["m/data/0", "m/data.pkl", "m/constants.pkl"]),
            "a TorchScript program",
        ),
        (zip(&["w.npy", "b.npy"]), "NumPy arrays"),
        (zip(&["metadata.json", "model.weights.h5"]), "a Keras model"),
        (zip(&["readme.txt"]), "a zip archive"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(),
            "a Git LFS pointer",
        ),
        (vec![0; 1000], "bytes of a kind"),
        (b"\x7fELF\x02".to_vec(), "a program"),
    ];
    for (bytes, words) in cases {
        let message = message(&bytes);
        assert!(
            message.starts_with("it holds ") && message.contains(words),
            "expected {words:?} in {message:?}"
        );
    }
}

#[test]
fn only_an_optimizer() {
    let tensor = f32s(&[2], 1.0);
    let layout = Layout::new(
        &[
            ("optimizer.a.momentum", &tensor),
            ("optimizer.b.momentum", &tensor),
        ],
        &[],
    )
    .unwrap();
    let mut bytes = Vec::new();
    layout.write_to(&mut bytes).unwrap();
    assert_eq!(
        message(&bytes),
        "it holds only optimizer state (2 tensors such as `optimizer.a.momentum`), no weights"
    );
}

#[test]
fn no_tensors() {
    let file = file("{}", &[]);
    assert!(matches!(read(file).unwrap_err(), E::NoTensors));
}

#[test]
fn opening_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "just a text").unwrap();
    let error = ModelFile::open(&path).unwrap_err();
    assert_eq!(
        chain(&error),
        format!(
            "`{}` is not a usable model: it holds text, not a model",
            path.display()
        )
    );
    let error = ModelFile::open(folder.path().join("none")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }));
    let error = ModelFile::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }));
    std::fs::write(&path, "").unwrap();
    let error = ModelFile::open(&path).unwrap_err();
    assert!(chain(&error).ends_with("it holds nothing (0 bytes), not a model"));
}

#[test]
fn foreign_safetensors_open() {
    // No metadata, an odd name before the floats: they are unaligned and readable all the same.
    let header = r#"{"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},"__metadata__":{"format":"pt"}}"#;
    let mut data = vec![9u8];
    data.extend(1.25f32.to_le_bytes());
    data.extend((-2.0f32).to_le_bytes());
    let model = read(file(header, &data)).unwrap();
    assert_eq!(model.metadata, None);
    assert_eq!(model.seal, None);
    assert_eq!(model.other["format"], "pt");
    let w = model.weights.get("w").unwrap();
    assert_eq!(w.as_f32().unwrap().as_ref(), [1.25, -2.0]);
    assert_eq!(
        model.weights_digest(),
        keepbest_formats::weights_digest(&model.weights)
    );
}

#[test]
fn rewritten_by_another_tool() {
    // Another tool may keep the metadata and lay the file out anew: no digest covers it then.
    let (weights, training, metadata) = small_model();
    let bytes = encoded(&weights, &training, &metadata);
    let plain = keepbest_formats::safetensors::read(&bytes.into()).unwrap();
    let tensors: Vec<_> = plain.tensors.iter().collect();
    let all: Vec<_> = plain
        .metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let rewrite = |metadata: &[(&str, &str)]| {
        let mut bytes = Vec::new();
        let layout = Layout::new(&tensors, metadata).unwrap();
        layout.write_to(&mut bytes).unwrap();
        read(bytes)
    };
    // In alphabetical order `format` stands first.
    assert!(matches!(rewrite(&all).unwrap_err(), E::NotSealed { .. }));
    for key in ["keepbest", "keepbest_header_digest"] {
        let some: Vec<_> = all.iter().copied().filter(|pair| pair.0 == key).collect();
        let error = rewrite(&some).unwrap_err();
        // With the digest alone at its place, the digest itself tells.
        assert!(
            matches!(error, E::NotSealed { .. } | E::HeaderDamaged { .. }),
            "{key}: {error}"
        );
    }
    // Without both it is a foreign file.
    assert!(rewrite(&[]).unwrap().seal.is_none());
}
