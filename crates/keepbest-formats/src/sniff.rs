//! Telling by its first bytes what a file holds.

use std::fmt;

/// What a file seems to hold, in words by [`Display`](fmt::Display).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Nothing.
    Empty,
    /// Safetensors, as far as the first bytes tell.
    Safetensors,
    /// A zip archive of `torch.save`, since PyTorch 1.6.
    PytorchZip,
    /// A zip archive of `torch.jit.save`.
    TorchScript,
    /// A file of `torch.save` before PyTorch 1.6 (or with the old format asked for).
    PytorchLegacy,
    /// A tar archive; PyTorch before 0.1.10 wrote such.
    Tar,
    /// A pickle of something else.
    Pickle,
    /// A Keras 3 archive.
    Keras,
    /// Arrays of NumPy (`.npz`).
    Npz,
    /// Another zip archive.
    Zip,
    /// HDF5, the form of Keras 2 models.
    Hdf5,
    /// Protocol buffers with the fields of an ONNX model.
    Onnx,
    /// An array of NumPy (`.npy`).
    Npy,
    /// A GGUF model.
    Gguf,
    /// A TensorFlow Lite model.
    Tflite,
    /// A PNG image.
    Png,
    /// A JPEG image.
    Jpeg,
    /// A GIF image.
    Gif,
    /// Data compressed with gzip.
    Gzip,
    /// Data compressed with zstd.
    Zstd,
    /// A program or library.
    Executable,
    /// A PDF document.
    Pdf,
    /// A web page.
    Html,
    /// The pointer that Git LFS leaves in place of a file.
    GitLfsPointer,
    /// JSON.
    Json,
    /// Some text.
    Text,
    /// Bytes that say nothing.
    Unknown,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Empty => "nothing (0 bytes)",
            FileKind::Safetensors => "safetensors",
            FileKind::PytorchZip => "a PyTorch checkpoint (zip with pickle, as of torch.save)",
            FileKind::TorchScript => "a TorchScript program (zip, as of torch.jit.save)",
            FileKind::PytorchLegacy => "a PyTorch checkpoint in the form before 1.6 (pickle)",
            FileKind::Tar => "a tar archive",
            FileKind::Pickle => "a Python pickle",
            FileKind::Keras => "a Keras model (zip)",
            FileKind::Npz => "NumPy arrays (npz)",
            FileKind::Zip => "a zip archive",
            FileKind::Hdf5 => "HDF5 (such as a Keras model)",
            FileKind::Onnx => "what looks like an ONNX model (protocol buffers)",
            FileKind::Npy => "a NumPy array (npy)",
            FileKind::Gguf => "a GGUF model",
            FileKind::Tflite => "a TensorFlow Lite model",
            FileKind::Png => "a PNG image",
            FileKind::Jpeg => "a JPEG image",
            FileKind::Gif => "a GIF image",
            FileKind::Gzip => "data compressed with gzip",
            FileKind::Zstd => "data compressed with zstd",
            FileKind::Executable => "a program or library",
            FileKind::Pdf => "a PDF document",
            FileKind::Html => "a web page",
            FileKind::GitLfsPointer => "a Git LFS pointer (the real file was not fetched)",
            FileKind::Json => "JSON text",
            FileKind::Text => "text",
            FileKind::Unknown => "bytes of a kind that keepbest does not know",
        })
    }
}

/// Tells what a file holds. Pass all of it (a mapping costs nothing): zip archives are told apart by
/// their directory, which is at the end.
#[must_use]
pub fn sniff(file: &[u8]) -> FileKind {
    if file.is_empty() {
        return FileKind::Empty;
    }
    if is_safetensors(file) {
        return FileKind::Safetensors;
    }
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return sniff_zip(file);
    }
    if is_pytorch_legacy(file) {
        return FileKind::PytorchLegacy;
    }
    let by_magic: [(&[u8], FileKind); 14] = [
        (b"\x89HDF\r\n\x1a\n", FileKind::Hdf5),
        (b"\x93NUMPY", FileKind::Npy),
        (b"GGUF", FileKind::Gguf),
        (b"\x89PNG\r\n\x1a\n", FileKind::Png),
        (b"\xff\xd8\xff", FileKind::Jpeg),
        (b"GIF8", FileKind::Gif),
        (b"\x1f\x8b", FileKind::Gzip),
        (b"\x28\xb5\x2f\xfd", FileKind::Zstd),
        (b"\x7fELF", FileKind::Executable),
        (b"MZ", FileKind::Executable),
        (b"\xcf\xfa\xed\xfe", FileKind::Executable),
        (b"\xca\xfe\xba\xbe", FileKind::Executable),
        (b"%PDF-", FileKind::Pdf),
        (
            b"version https://git-lfs.github.com/spec/",
            FileKind::GitLfsPointer,
        ),
    ];
    if let Some((_, kind)) = by_magic.iter().find(|(magic, _)| file.starts_with(magic)) {
        return *kind;
    }
    if file.get(4..8) == Some(b"TFL3") {
        return FileKind::Tflite;
    }
    if file.get(257..262) == Some(b"ustar") {
        return FileKind::Tar;
    }
    if is_pickle(file) {
        return FileKind::Pickle;
    }
    if is_onnx(file) {
        return FileKind::Onnx;
    }
    sniff_text(file)
}

/// A plausible length, then the `{` that the format demands. The length need not fit the file: a
/// truncated model is still a model, and to be called truncated.
fn is_safetensors(file: &[u8]) -> bool {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    // Eight printable characters and a brace are text; as a length they are over the limit.
    rest.first() == Some(&b'{') && (2..=crate::safetensors::HEADER_LIMIT).contains(&length)
}

fn sniff_zip(file: &[u8]) -> FileKind {
    // A truncated archive has no directory: then the name of its first entry has to do.
    let names = crate::zip::names(file).unwrap_or_else(|_| first_local_name(file));
    let ends = |suffix: &str| names.iter().any(|name| name.ends_with(suffix));
    if ends("/constants.pkl") || ends("/code/__torch__.py") {
        FileKind::TorchScript
    } else if ends("/data.pkl") {
        FileKind::PytorchZip
    } else if names.iter().any(|name| name == "model.weights.h5") {
        FileKind::Keras
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        FileKind::Npz
    } else {
        FileKind::Zip
    }
}

/// The name in the local header at the beginning of a zip archive.
fn first_local_name(file: &[u8]) -> Vec<String> {
    let length = file
        .get(26..28)
        .map_or(0, |at| usize::from(u16::from_le_bytes([at[0], at[1]])));
    file.get(30..30 + length)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .into_iter()
        .collect()
}

/// A pickle of PyTorch's magic number 0x1950a86a20f9469cfc6c, in any protocol.
fn is_pytorch_legacy(file: &[u8]) -> bool {
    // From protocol 2 on: PROTO, perhaps FRAME, then LONG1 of ten bytes.
    const BINARY: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    match file {
        [0x80, 2..=5, 0x95, _, _, _, _, _, _, _, _, rest @ ..] | [0x80, 2..=5, rest @ ..] => {
            rest.starts_with(BINARY)
        }
        _ => file.starts_with(b"L119547037146038801333356L\n"),
    }
}

/// Protocol 2 to 5 begin with PROTO. Protocol 0 and 1 have no mark: taken for a pickle is what begins as a dict, a list or an
/// `OrderedDict` does in them, and ends with STOP.
fn is_pickle(file: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 7] = [
        b"(dp0\n",
        b"(dp1\n",
        b"(lp0\n",
        b"(lp1\n",
        b"}q\x00",
        b"]q\x00",
        b"ccollections\nOrderedDict\n",
    ];
    match file {
        [0x80, 2..=5, rest @ ..] => rest.contains(&b'.'),
        file => file.ends_with(b".") && BEGINNINGS.iter().any(|begin| file.starts_with(begin)),
    }
}

/// An ONNX model is a protobuf message whose first field is nearly always `ir_version` (1, varint,
/// below 128), followed by one of the other fields of `ModelProto`, which have numbers up to 25.
fn is_onnx(file: &[u8]) -> bool {
    let [0x08, version, key, ..] = file else {
        return false;
    };
    // producer_name, producer_version, domain, graph, opset_import, metadata_props (all of them
    // length-delimited) or model_version (varint).
    (1..=64).contains(version) && matches!(key, 0x12 | 0x1a | 0x22 | 0x28 | 0x3a | 0x42 | 0x72)
}

/// Text, if the first 4 KiB are UTF-8 (up to a character cut off at the end) without control codes.
fn sniff_text(file: &[u8]) -> FileKind {
    let start = &file[..file.len().min(4096)];
    let whole = match std::str::from_utf8(start) {
        Ok(_) => start,
        Err(error) if error.error_len().is_none() => &start[..error.valid_up_to()],
        Err(_) => return FileKind::Unknown,
    };
    let text = String::from_utf8_lossy(whole);
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c'))
    {
        return FileKind::Unknown;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower: String = text.chars().take(16).collect::<String>().to_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        FileKind::Html
    } else if text.starts_with(['{', '[']) {
        FileKind::Json
    } else {
        FileKind::Text
    }
}
