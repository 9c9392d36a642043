//! Errors of safetensors files.

use crate::TensorError;

/// Why a file is not a well-formed safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// Fewer than the 8 bytes of the header's length.
    #[error("the file ends after {found} bytes, before its header's length")]
    TooShort {
        /// Bytes in the file.
        found: u64,
    },
    /// The header claims to be longer than any accepted.
    #[error("the header claims {length} bytes, more than the limit of {limit}")]
    HeaderTooLong {
        /// Length claimed.
        length: u64,
        /// [`HEADER_LIMIT`](super::HEADER_LIMIT).
        limit: u64,
    },
    /// The header reaches past the end of the file.
    #[error("truncated: the header reaches to byte {expected}, the file has {found}")]
    HeaderTruncated {
        /// Bytes that length and header take.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The header does not start with `{`.
    #[error("the header does not start with `{{`")]
    HeaderStart,
    /// The header is not UTF-8.
    #[error("the header is not UTF-8 from byte {at} on")]
    HeaderNotUtf8 {
        /// Offset in the header.
        at: usize,
    },
    /// The header is not JSON of the right form.
    #[error("the header is malformed{}", in_tensor(.tensor))]
    HeaderMalformed {
        /// Entry that was being read.
        tensor: Option<String>,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
    /// A key stands twice in the header or in its metadata.
    #[error("the header has the key `{key}` twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// More of something in the header than any accepted.
    #[error("{}there are more than {limit} {what}, the limit", tensor.as_ref().map_or(String::new(), |name| format!("tensor `{name}`: ")))]
    TooMany {
        /// What there is too much of: tensors, sides, texts of metadata.
        what: &'static str,
        /// The most accepted.
        limit: usize,
        /// The tensor, if it is about one.
        tensor: Option<String>,
    },
    /// An element type that this build does not know.
    #[error("tensor `{tensor}` has the unknown element type `{dtype}`")]
    UnknownDtype {
        /// Name.
        tensor: String,
        /// Element type as the file spells it.
        dtype: String,
    },
    /// A shape whose product overflows.
    #[error("tensor `{tensor}` has a shape that overflows: {shape:?}")]
    ShapeOverflow {
        /// Name.
        tensor: String,
        /// Shape as the file gives it.
        shape: Vec<u64>,
    },
    /// A range that ends before it begins.
    #[error("tensor `{tensor}` has a range that ends ({end}) before it begins ({begin})")]
    RangeReversed {
        /// Name.
        tensor: String,
        /// First byte.
        begin: u64,
        /// Byte after the last.
        end: u64,
    },
    /// A range whose length is not what shape and element type take.
    #[error("tensor `{tensor}` takes {expected} bytes by its shape, its range has {found}")]
    RangeLength {
        /// Name.
        tensor: String,
        /// Bytes by shape and element type.
        expected: u64,
        /// Bytes in the range.
        found: u64,
    },
    /// A range that reaches past the end of the file.
    #[error("truncated: tensor `{tensor}` reaches to byte {end} of the data, which has {found}")]
    DataTruncated {
        /// Name.
        tensor: String,
        /// Byte after the tensor's last.
        end: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// A range that begins inside another tensor.
    #[error(
        "tensor `{tensor}` begins at byte {begin} of the data, inside `{other}` which ends at {end}"
    )]
    Overlap {
        /// Name.
        tensor: String,
        /// Its first byte.
        begin: u64,
        /// The tensor before it.
        other: String,
        /// Byte after the other's last.
        end: u64,
    },
    /// Bytes between tensors that belong to none.
    #[error("bytes {begin} to {end} of the data, before tensor `{tensor}`, belong to no tensor")]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// First byte of the hole.
        begin: u64,
        /// Byte after its last.
        end: u64,
    },
    /// Bytes after the last tensor.
    #[error(
        "the file goes on after its last tensor: {expected} bytes of data expected, {found} found"
    )]
    TrailingBytes {
        /// Bytes of data that the tensors take.
        expected: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// A tensor that cannot exist on this machine.
    #[error("tensor `{tensor}` cannot be represented")]
    Tensor {
        /// Name.
        tensor: String,
        /// Why.
        source: TensorError,
    },
}

fn in_tensor(tensor: &Option<String>) -> String {
    match tensor {
        Some(name) => format!(" at `{name}`"),
        None => String::new(),
    }
}
