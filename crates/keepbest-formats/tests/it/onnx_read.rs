//! ONNX models as hostile input: read, or refused with an error.

use bytes::Bytes;
use keepbest_formats::onnx::{ModelProto, ReadError, read_tensor};
use keepbest_formats::protobuf::Message;
use keepbest_formats::{Dtype, Tensor};
use proptest::prelude::*;

/// A model whose graph has one initialiser.
fn model(tensor: impl FnOnce(&mut Message)) -> Bytes {
    let mut model = Message::default();
    model.int(1, 8);
    model.message(7, |graph| graph.message(5, tensor));
    model.into_pieces().concat().into()
}

fn read(tensor: impl FnOnce(&mut Message)) -> Result<Tensor, ReadError> {
    let model = ModelProto::parse(&model(tensor), None)?;
    Ok(model.graph.initializers[0].1.clone())
}

#[test]
fn data_in_every_field_is_read() {
    let half = read(|t| {
        t.int(1, 2);
        t.int(2, 10);
        t.int(5, 0x3c00);
        t.int(5, 0xc000);
    });
    assert_eq!(
        half.unwrap().to_f32().unwrap().as_f32().unwrap()[..],
        [1.0, -2.0]
    );
    let bytes = read(|t| {
        t.int(1, 2);
        t.int(2, 3);
        t.int(5, -1);
        t.int(5, 7);
    });
    let bytes = bytes.unwrap();
    assert_eq!(
        (bytes.dtype(), &bytes.bytes()[..]),
        (Dtype::I8, &[255, 7][..])
    );
    let halves = read(|t| {
        t.int(1, 3);
        t.int(2, 22);
        t.bytes(9, &Bytes::from_static(&[0x81, 0x0f]));
    });
    assert_eq!(
        halves.unwrap().to_i64().unwrap().as_i64().unwrap()[..],
        [1, -8, -1]
    );
    let raw = read(|t| {
        t.int(2, 1);
        t.bytes(9, &Bytes::from_static(&[0, 0, 128, 63]));
    });
    assert_eq!(raw.unwrap().as_f32().unwrap()[..], [1.0]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let huge = read(|t| {
        t.int(1, i64::MAX);
        t.int(1, 16);
        t.int(2, 1);
    });
    assert!(matches!(huge, Err(ReadError::Tensor { .. })));
    let negative = read(|t| {
        t.int(1, -4);
        t.int(2, 1);
    });
    assert!(matches!(negative, Err(ReadError::Side { side: -4, .. })));
    let short = read(|t| {
        t.int(1, 1 << 40);
        t.int(2, 1);
        t.float(4, 1.0);
    });
    assert!(matches!(short, Err(ReadError::Tensor { .. })));
    let outside = read(|t| {
        t.int(1, 1);
        t.int(2, 3);
        t.int(5, 300);
    });
    assert!(matches!(outside, Err(ReadError::Range { value: 300, .. })));
    let text = read(|t| t.int(2, 8));
    assert!(matches!(
        text,
        Err(ReadError::ElementType { number: 8, .. })
    ));
    let empty = ModelProto::parse(&Bytes::from_static(b"\x08\x08"), None);
    assert!(matches!(empty, Err(ReadError::NoGraph)));
}

#[test]
fn data_beside_the_model_is_read_and_none_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(dir.path().join("secret"), [1; 64]).unwrap();
    std::fs::write(folder.join("data"), [0, 0, 0, 0, 0, 0, 128, 63]).unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    let open = |location: &str, offset: &str, length: &str| {
        let file = model(|t| {
            t.int(1, 1);
            t.int(2, 1);
            for (key, value) in [
                ("location", location),
                ("offset", offset),
                ("length", length),
            ] {
                t.message(13, |entry| {
                    entry.text(1, key);
                    entry.text(2, value);
                });
            }
            t.int(14, 1);
        });
        let path = folder.join("model.onnx");
        std::fs::write(&path, file).unwrap();
        ModelProto::open(&path).map(|model| model.graph.initializers[0].1.clone())
    };
    assert_eq!(open("data", "4", "4").unwrap().as_f32().unwrap()[..], [1.0]);
    let absolute = dir.path().join("secret").display().to_string();
    for location in ["../secret", "link", absolute.as_str(), "", "missing", ".."] {
        let error = open(location, "0", "4");
        assert!(
            matches!(error, Err(ReadError::External { .. })),
            "{location}"
        );
    }
    for (offset, length) in [("8", "4"), ("0", "9"), ("18446744073709551615", "4")] {
        assert!(matches!(
            open("data", offset, length),
            Err(ReadError::External { .. })
        ));
    }
    // Of bytes alone there is nothing beside.
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    assert!(ModelProto::parse(&bytes.into(), None).is_err());
    assert!(read_tensor(folder.join("data")).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(start in 0usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), cut in any::<prop::sample::Index>()) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/onnx");
        let name = ["blocks", "moves", "made"][start];
        let mut file = std::fs::read(format!("{corpus}/{name}.onnx")).unwrap();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(file.len() - cut.index(file.len() / 4));
        if let Ok(model) = ModelProto::parse(&file.into(), None) {
            for (_, tensor) in &model.graph.initializers {
                prop_assert_eq!(tensor.dtype().byte_len(tensor.shape()), Some(tensor.bytes().len()));
            }
        }
    }
}
