//! What an ONNX model says about itself, without its graph.

use crate::protobuf::{Field, Fields};

/// The head of an ONNX model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Version of the file format.
    pub ir_version: u64,
    /// Who wrote it; may be empty.
    pub producer: String,
    /// Its version; may be empty.
    pub producer_version: String,
    /// Operator sets: domain (empty for ONNX's own) and version.
    pub operator_sets: Vec<(String, u64)>,
    /// Keys and values beside the graph.
    pub metadata: Vec<(String, String)>,
    /// Bytes of the graph, weights included.
    pub graph_bytes: u64,
}

/// Operator sets and entries of metadata that are told, each; models have fewer.
const TOLD: usize = 1000;
/// Longest text that is told, in bytes.
const LONGEST_TEXT: usize = 64 << 10;

/// Reads the head of an ONNX model; `None` when the bytes are none. Beyond 1000 operator sets or entries of metadata there are none
/// told, and texts end after 64 KiB: memory does not grow with what a file says of itself.
#[must_use]
pub fn summary(file: &[u8]) -> Option<Summary> {
    let mut summary = Summary::default();
    let text = |bytes: &[u8]| {
        let told = &bytes[..bytes.len().min(LONGEST_TEXT)];
        String::from_utf8_lossy(told).into_owned()
    };
    for field in Fields::of(file) {
        match field? {
            (1, Field::Number(version)) => summary.ir_version = version,
            (2, Field::Bytes(name)) => summary.producer = text(name),
            (3, Field::Bytes(version)) => summary.producer_version = text(version),
            (7, Field::Bytes(graph)) => summary.graph_bytes = graph.len() as u64,
            (8, Field::Bytes(set)) if summary.operator_sets.len() < TOLD => {
                let mut entry = (String::new(), 0);
                for field in Fields::of(set) {
                    match field? {
                        (1, Field::Bytes(domain)) => entry.0 = text(domain),
                        (2, Field::Number(version)) => entry.1 = version,
                        _ => {}
                    }
                }
                summary.operator_sets.push(entry);
            }
            (14, Field::Bytes(pair)) if summary.metadata.len() < TOLD => {
                let mut entry = (String::new(), String::new());
                for field in Fields::of(pair) {
                    match field? {
                        (1, Field::Bytes(key)) => entry.0 = text(key),
                        (2, Field::Bytes(value)) => entry.1 = text(value),
                        _ => {}
                    }
                }
                summary.metadata.push(entry);
            }
            _ => {}
        }
    }
    (summary.ir_version > 0 && summary.graph_bytes > 0).then_some(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Graph, IR_VERSION, Model, OPSET};

    #[test]
    fn what_was_written_is_told_and_the_rest_is_none() {
        let mut model = Model::new(Graph::new("empty"));
        model.metadata.push(("classes".into(), "[\"a\"]".into()));
        let mut file = Vec::new();
        model.encode().unwrap().write_to(&mut file).unwrap();
        let found = summary(&file).unwrap();
        assert_eq!(found.ir_version, IR_VERSION as u64);
        assert_eq!(found.operator_sets, [(String::new(), OPSET as u64)]);
        assert_eq!(found.metadata, [("classes".into(), "[\"a\"]".into())]);
        assert_eq!(found.producer, "keepbest");
        for length in 0..file.len() {
            // No prefix makes it fail otherwise than by saying so.
            let _ = summary(&file[..length]);
        }
        assert!(summary(b"\x08\x0a\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_none());
    }
}
