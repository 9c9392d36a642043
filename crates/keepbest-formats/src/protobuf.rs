//! Protocol buffers: written with fields in order and large bytes shared, read field by field of borrowed bytes.
//!
//! Reference: the encoding at <https://protobuf.dev/programming-guides/encoding/>.

mod read;

use bytes::Bytes;

pub use read::{Field, Fields, each_double, each_float, each_number};

/// A message being written. Large byte fields stay where they are: a message is a list of pieces.
#[derive(Debug, Default)]
pub struct Message {
    pieces: Vec<Bytes>,
    tail: Vec<u8>,
    length: u64,
}

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// From here on a byte field is shared, not copied.
const LARGE: usize = 1024;

impl Message {
    /// Integer, enumeration or truth value. Negative numbers take ten bytes, as the format has it.
    pub fn int(&mut self, field: u64, value: i64) {
        self.varint(field << 3 | VARINT);
        self.varint(value as u64);
    }

    /// 32-bit float.
    pub fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | FIXED_32);
        self.raw(&value.to_le_bytes());
    }

    /// 64-bit float.
    pub fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | FIXED_64);
        self.raw(&value.to_le_bytes());
    }

    /// Text or a few bytes.
    pub fn text(&mut self, field: u64, text: &str) {
        self.varint(field << 3 | BYTES);
        self.varint(text.len() as u64);
        self.raw(text.as_bytes());
    }

    /// Bytes that may be many.
    pub fn bytes(&mut self, field: u64, bytes: &Bytes) {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.shared(bytes.clone());
    }

    /// A message in this one.
    pub fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.varint(field << 3 | BYTES);
        self.varint(inner.length);
        for piece in inner.into_pieces() {
            self.shared(piece);
        }
    }

    /// All pieces in order.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }

    fn varint(&mut self, mut value: u64) {
        let mut encoded = [0; 10];
        let mut length = 0;
        loop {
            let more = value >> 7;
            encoded[length] = (value & 0x7f) as u8 | if more > 0 { 0x80 } else { 0 };
            length += 1;
            value = more;
            if value == 0 {
                break;
            }
        }
        self.raw(&encoded[..length]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        self.length += bytes.len() as u64;
    }

    fn shared(&mut self, bytes: Bytes) {
        if bytes.len() < LARGE {
            self.raw(&bytes);
        } else {
            self.flush();
            self.length += bytes.len() as u64;
            self.pieces.push(bytes);
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_at_a_time() {
        let mut message = Message::default();
        message.varint(300);
        assert_eq!(message.into_pieces().concat(), [0xac, 2]);
    }

    #[test]
    fn the_encodings_of_the_specification() {
        let mut message = Message::default();
        message.int(1, 150);
        message.text(2, "testing");
        message.message(3, |inner| inner.int(1, 150));
        message.int(4, -2);
        message.float(5, 1.0);
        message.double(6, 1.0);
        let bytes = message.into_pieces().concat();
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01\x20\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x2d\0\0\x80\x3f\x31\0\0\0\0\0\0\xf0\x3f";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn large_fields_are_shared() {
        let large = Bytes::from(vec![7u8; 5000]);
        let mut message = Message::default();
        message.message(1, |outer| outer.message(2, |inner| inner.bytes(9, &large)));
        message.int(3, 0);
        let pieces = message.into_pieces();
        assert!(pieces.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
        let bytes = pieces.concat();
        assert_eq!(bytes[..9], *b"\x0a\x8e\x27\x12\x8b\x27\x4a\x88\x27");
        assert_eq!(bytes.len(), 9 + 5000 + 2);
    }
}
