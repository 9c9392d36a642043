//! What the fuzz targets do with their bytes. The regression test of the `keepbest` crate includes this file and runs the
//! committed corpus through the same functions on stable Rust.
//!
//! Each function must return: a panic, an endless loop or memory beyond the limits is a finding. What was read must
//! also keep the promises written here as assertions.

// A test takes this file as a module of its own, where nothing of it can be reached from outside.
#![allow(unreachable_pub)]

use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use keepbest_data::readers::idx::{parse_images, parse_labels};
use keepbest_data::{ChannelRule, ImageShape, Preprocessing, ResizeRule, decode_image};
use keepbest_formats::model_file::ModelFile;
use keepbest_formats::onnx::ModelProto;
use keepbest_formats::pth::{Limits, PthFile, Value};
use keepbest_formats::{Tensor, safetensors};
use keepbest_nn::{Network, onnx as onnx_of};
use keepbest_serve::v2::{Data, read_request};
use keepbest_store::{Journal, RunState};

/// What a target does with its bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 9] = [
    ("zip", zip),
    ("pickle", pickle),
    ("legacy", legacy),
    ("safetensors", safetensors),
    ("idx", idx),
    ("image", image),
    ("journal", journal),
    ("infer", infer),
    ("onnx", onnx),
];

/// A PyTorch file in any form, as it comes: the archive is what is aimed at.
pub fn zip(data: &[u8]) {
    pth(Bytes::copy_from_slice(data));
}

/// The pickle of an archive that is otherwise in order.
pub fn pickle(data: &[u8]) {
    let storage: Vec<u8> = (0..64).collect();
    pth(archive(&[("a/data.pkl", data), ("a/data/0", &storage)]).into());
}

/// The form before PyTorch 1.6, or the tar archive before it: as it comes, and put behind the magic number.
pub fn legacy(data: &[u8]) {
    // The pickles of the magic number, the protocol version and an empty description of the system.
    const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    pth(Bytes::copy_from_slice(data));
    pth([HEAD, data].concat().into());
}

fn pth(file: Bytes) {
    let limits = Limits {
        pickle_bytes: 1 << 20,
        values: 100_000,
        tensors: 1000,
        ..Limits::default()
    };
    let length = file.len();
    let Ok(file) = PthFile::from_bytes(file, limits.clone()) else {
        return;
    };
    let _ = format!("{:?}", file.root());
    let _ = file.root().to_json(&limits);
    let dangerous = !file.dangerous().is_empty();
    let found = file.weights(None);
    assert!(!(dangerous && found.is_ok()), "weights of a dangerous file");
    let Ok(found) = found else { return };
    // Views share the file; copies have their limit.
    let copied: u64 = found.weights.total_bytes();
    assert!(found.weights.len() <= limits.tensors);
    let most = (64 << 20) + (length as u64) * (limits.copies_per_byte + 1000);
    assert!(copied <= most, "{copied} bytes from {length}");
    found.weights.iter().for_each(|(_, tensor)| whole(tensor));
    if let Value::Dict(entries) = file.root() {
        let _ = entries.named().len();
    }
    let _ = file.checkpoint(found, &[]);
}

/// A safetensors file, keepbest's or another's: as it comes, and with its length and header's digest put right.
pub fn safetensors(data: &[u8]) {
    model_file(data);
    // A mutated header seldom states its own length: state it, up to the last brace.
    if let Some(rest) = data.get(8..)
        && let Some(end) = rest.iter().rposition(|byte| *byte == b'}')
    {
        let mut file = data.to_vec();
        let mut length = end + 1;
        // The data begins at a multiple of eight; blanks fill up.
        while (8 + length) % 8 != 0 && rest.get(length) == Some(&b' ') {
            length += 1;
        }
        file[..8].copy_from_slice(&(length as u64).to_le_bytes());
        const KEY: &[u8] = b"\"keepbest_header_digest\":\"";
        let header = &mut file[8..8 + length];
        if let Some(at) = header.windows(KEY.len()).position(|window| window == KEY)
            && header.len() >= at + KEY.len() + 64
        {
            let digest = at + KEY.len()..at + KEY.len() + 64;
            header[digest.clone()].fill(b'0');
            let hex = blake3::hash(header).to_hex();
            header[digest].copy_from_slice(hex.as_bytes());
        }
        model_file(&file);
    }
}

fn model_file(data: &[u8]) {
    let file = Bytes::copy_from_slice(data);
    let verified = ModelFile::from_bytes(file.clone());
    let unverified = ModelFile::from_bytes_unverified(file.clone());
    match (verified, unverified) {
        (Ok(verified), Ok(unverified)) => {
            assert_eq!(verified.weights, unverified.weights);
            let size = verified.weights.total_bytes() + verified.training.total_bytes();
            assert!(size <= data.len() as u64);
            verified
                .weights
                .iter()
                .for_each(|(_, tensor)| whole(tensor));
        }
        (Ok(_), Err(error)) => panic!("only the verified one opens: {error}"),
        (Err(_), _) => {}
    }
    if let Ok(read) = safetensors::read(&file) {
        read.tensors.iter().for_each(|(_, tensor)| whole(tensor));
    }
}

/// IDX images and labels, gzip or not.
pub fn idx(data: &[u8]) {
    let path = Path::new("fuzz");
    if let Ok(images) = parse_images(data, path) {
        assert_eq!(images.pixels.len(), images.count * images.shape.size());
    }
    if let Ok(labels) = parse_labels(data, path) {
        assert!(labels.len() as u64 <= 1032 * data.len() as u64);
    }
}

/// An image, as `predict` takes it: decoded and made a network's input.
pub fn image(data: &[u8]) {
    // A small file can be a very large image: what is aimed at here is parsing, not filling memory.
    const MOST_PIXELS: u32 = 1 << 20;
    if dimensions(data).is_some_and(|(width, height)| width.saturating_mul(height) > MOST_PIXELS) {
        return;
    }
    let Ok(image) = decode_image(data, Path::new("fuzz")) else {
        return;
    };
    let shape = image.shape();
    assert_eq!(image.pixels().len(), shape.size());
    let mut preprocessing = Preprocessing::new(ImageShape::new(28, 28, 1));
    preprocessing.resize = ResizeRule::Exact;
    preprocessing.channels = if shape.channels == 1 {
        ChannelRule::None
    } else {
        ChannelRule::ToGrey
    };
    let mut input = vec![f32::NAN; 28 * 28];
    if preprocessing.apply(&image, &mut input).is_ok() {
        assert!(input.iter().all(|value| (0.0..=1.0).contains(value)));
    }
}

/// Width and height that the file states.
fn dimensions(data: &[u8]) -> Option<(u32, u32)> {
    let reader = ::image::ImageReader::new(Cursor::new(data)).with_guessed_format();
    reader.ok()?.into_dimensions().ok()
}

/// A journal: as it comes, and with the checksums of its lines put right.
pub fn journal(data: &[u8]) {
    fold(data);
    const OPEN: &[u8] = b",\"check\":\"";
    let mut sealed = Vec::with_capacity(data.len());
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let end = line.windows(OPEN.len()).rposition(|window| window == OPEN);
        let Some(end) = end.filter(|_| line.ends_with(b"\n")) else {
            sealed.extend_from_slice(line);
            continue;
        };
        let check = blake3::hash(&line[..end]).to_hex();
        sealed.extend_from_slice(&line[..end]);
        sealed.extend_from_slice(OPEN);
        sealed.extend_from_slice(&check.as_bytes()[..16]);
        sealed.extend_from_slice(b"\"}\n");
    }
    fold(&sealed);
}

fn fold(data: &[u8]) {
    let Ok(journal) = Journal::parse(Path::new("fuzz"), data) else {
        return;
    };
    let torn = journal.torn.as_ref().map_or(0, |torn| torn.bytes);
    assert_eq!(journal.len + torn, data.len() as u64);
    let numbers = journal.entries.iter().map(|entry| entry.seq);
    assert!(numbers.eq(1..=journal.entries.len() as u64));
    let _ = RunState::from_entries(&journal.entries);
}

/// An ONNX model: read, and made a network of where it can be.
pub fn onnx(data: &[u8]) {
    let Ok(model) = ModelProto::parse(&Bytes::copy_from_slice(data), None) else {
        return;
    };
    for (_, tensor) in &model.graph.initializers {
        whole(tensor);
    }
    let options = onnx_of::ImportOptions {
        input_size: Some([8, 8]),
        most_bytes: 1 << 24,
        ..Default::default()
    };
    if let Ok(made) = onnx_of::import(&model, &options) {
        let network = Network::new(&made.spec).expect("the spec has been checked");
        network
            .layout()
            .check(&made.weights)
            .expect("and the weights");
    }
}

/// A tensor has the bytes that its shape asks for.
fn whole(tensor: &Tensor) {
    let expected = tensor.dtype().byte_len(tensor.shape());
    assert_eq!(expected, Some(tensor.bytes().len()));
}

/// A zip archive of stored entries, as PyTorch reads it.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = file.len() as u32;
        // Version, flags, method, time and date; then the sizes; then the lengths of name and extra field.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(content).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(*content);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = file.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn crc32(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A request to infer: two bytes that say how long its JSON is, then the JSON and the bytes of tensors.
pub fn infer(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    for length in [None, Some(usize::from(u16::from_le_bytes(*length)))] {
        let Ok(request) = read_request(&body, length) else {
            continue;
        };
        for input in request.inputs {
            // A tensor has as many elements as its shape says.
            let elements = match &input.data {
                Data::Fp32(values) => values.len(),
                Data::Uint8(values) => values.len(),
                Data::Bytes(values) => values.len(),
            };
            assert_eq!(elements, input.shape.iter().product::<usize>());
            assert!(elements <= body.len());
        }
    }
}
