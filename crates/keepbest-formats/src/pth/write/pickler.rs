//! Values to a pickle of protocol 2, with the few opcodes and names that PyTorch's restricted
//! unpickler takes.
//!
//! References: `pickletools.py` of CPython; `torch/_weights_only_unpickler.py` and `torch/_tensor.py`
//! of PyTorch.

use std::collections::HashSet;

use bytes::Bytes;

use super::{DEEPEST, WriteError};
use crate::Tensor;
use crate::pth::dtypes::{Form, form};
use crate::pth::{Key, Tree};

mod op {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const STOP: u8 = b'.';
    pub(super) const MARK: u8 = b'(';
    pub(super) const NONE: u8 = b'N';
    pub(super) const TRUE: u8 = 0x88;
    pub(super) const FALSE: u8 = 0x89;
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const BININT: u8 = b'J';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const BINGET: u8 = b'h';
}

/// What is written once and referred to afterwards.
#[derive(PartialEq)]
enum Known {
    Global(&'static str, &'static str),
    Text(&'static str),
}

pub(super) struct Pickler {
    out: Vec<u8>,
    /// All that is known, each at the position of its memo number. There are some thirty names in all.
    memo: Vec<Known>,
    storages: Vec<Bytes>,
}

impl Pickler {
    /// The pickle of `value`, and the storages that it refers to by their positions.
    pub(super) fn pickle(value: &Tree) -> Result<(Vec<u8>, Vec<Bytes>), WriteError> {
        let mut pickler = Self {
            out: vec![op::PROTO, 2],
            memo: Vec::new(),
            storages: Vec::new(),
        };
        pickler.value(value, 0)?;
        pickler.out.push(op::STOP);
        Ok((pickler.out, pickler.storages))
    }

    fn value(&mut self, value: &Tree, depth: usize) -> Result<(), WriteError> {
        if depth > DEEPEST {
            return Err(WriteError::TooDeep { limit: DEEPEST });
        }
        match value {
            Tree::None => self.out.push(op::NONE),
            Tree::Bool(value) => self.out.push(if *value { op::TRUE } else { op::FALSE }),
            Tree::Int(value) => self.int(*value),
            Tree::Float(value) => {
                self.out.push(op::BINFLOAT);
                self.out.extend(value.to_be_bytes());
            }
            Tree::Str(text) => self.text(text)?,
            Tree::List(elements) => {
                self.out.push(op::EMPTY_LIST);
                if !elements.is_empty() {
                    self.out.push(op::MARK);
                    self.all(elements, depth)?;
                    self.out.push(op::APPENDS);
                }
            }
            Tree::Tuple(elements) if elements.is_empty() => self.out.push(op::EMPTY_TUPLE),
            Tree::Tuple(elements) => {
                self.out.push(op::MARK);
                self.all(elements, depth)?;
                self.out.push(op::TUPLE);
            }
            Tree::Dict(entries) => {
                self.out.push(op::EMPTY_DICT);
                self.entries(entries, depth)?;
            }
            Tree::OrderedDict(entries) => {
                self.ordered_dict();
                self.entries(entries, depth)?;
            }
            Tree::Tensor(tensor) => self.tensor(tensor),
        }
        Ok(())
    }

    fn all(&mut self, elements: &[Tree], depth: usize) -> Result<(), WriteError> {
        elements
            .iter()
            .try_for_each(|element| self.value(element, depth + 1))
    }

    fn entries(&mut self, entries: &[(Key, Tree)], depth: usize) -> Result<(), WriteError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut keys = HashSet::with_capacity(entries.len());
        self.out.push(op::MARK);
        for (key, value) in entries {
            if !keys.insert(key) {
                return Err(WriteError::DuplicateKey {
                    key: key.to_string(),
                });
            }
            match key {
                Key::Int(number) => self.int((*number).into()),
                Key::Str(text) => self.text(text)?,
            }
            self.value(value, depth + 1)?;
        }
        self.out.push(op::SETITEMS);
        Ok(())
    }

    fn int(&mut self, value: i128) {
        if let Ok(small) = u8::try_from(value) {
            self.out.extend([op::BININT1, small]);
        } else if let Ok(medium) = u16::try_from(value) {
            self.out.push(op::BININT2);
            self.out.extend(medium.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.out.push(op::BININT);
            self.out.extend(int.to_le_bytes());
        } else {
            // Two's complement without the bytes that only repeat the sign.
            let bytes = value.to_le_bytes();
            let sign = if value < 0 { 0xff } else { 0 };
            let mut length = bytes.len();
            while length > 1 && bytes[length - 1] == sign && (bytes[length - 2] ^ sign) & 0x80 == 0
            {
                length -= 1;
            }
            self.out.extend([op::LONG1, length as u8]);
            self.out.extend(&bytes[..length]);
        }
    }

    fn text(&mut self, text: &str) -> Result<(), WriteError> {
        if u32::try_from(text.len()).is_err() {
            return Err(WriteError::TextTooLong { bytes: text.len() });
        }
        self.short_text(text);
        Ok(())
    }

    /// Text of less than 4 GiB.
    fn short_text(&mut self, text: &str) {
        self.out.push(op::BINUNICODE);
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    /// Writes what is known: in full the first time, by its number afterwards.
    fn known(&mut self, known: Known) {
        if let Some(number) = self.memo.iter().position(|other| *other == known) {
            self.out.extend([op::BINGET, number as u8]);
            return;
        }
        match known {
            Known::Global(module, name) => {
                self.out.push(op::GLOBAL);
                for part in [module, name] {
                    self.out.extend(part.as_bytes());
                    self.out.push(b'\n');
                }
            }
            Known::Text(text) => self.short_text(text),
        }
        self.out.extend([op::BINPUT, self.memo.len() as u8]);
        self.memo.push(known);
    }

    fn ordered_dict(&mut self) {
        self.known(Known::Global("collections", "OrderedDict"));
        self.out.extend([op::EMPTY_TUPLE, op::REDUCE]);
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, or `v3` with the dtype
    /// as one more argument for element types that have no storage class of their own.
    fn tensor(&mut self, tensor: &Tensor) {
        let form = form(tensor.dtype());
        let rebuild = match form {
            Form::Storage(_) => "_rebuild_tensor_v2",
            Form::Dtype(_) => "_rebuild_tensor_v3",
        };
        self.known(Known::Global("torch._utils", rebuild));
        self.out.push(op::MARK);
        self.storage(tensor, form);
        self.int(0);
        self.sides(tensor.shape());
        self.sides(&strides(tensor.shape()));
        self.out.push(op::FALSE);
        self.ordered_dict();
        if let Form::Dtype(name) = form {
            self.known(Known::Global("torch", name));
        }
        self.out.extend([op::TUPLE, op::REDUCE]);
    }

    /// The persistent id `("storage", class, key, location, elements)`.
    fn storage(&mut self, tensor: &Tensor, form: Form) {
        self.out.push(op::MARK);
        self.known(Known::Text("storage"));
        let elements = match form {
            Form::Storage(class) => {
                self.known(Known::Global("torch", class));
                tensor.elements()
            }
            Form::Dtype(_) => {
                self.known(Known::Global("torch.storage", "UntypedStorage"));
                tensor.bytes().len()
            }
        };
        self.short_text(&self.storages.len().to_string());
        self.known(Known::Text("cpu"));
        self.int(elements as i128);
        self.out.extend([op::TUPLE, op::BINPERSID]);
        self.storages.push(tensor.bytes().clone());
    }

    fn sides(&mut self, sides: &[usize]) {
        if sides.is_empty() {
            self.out.push(op::EMPTY_TUPLE);
            return;
        }
        self.out.push(op::MARK);
        for &side in sides {
            self.int(side as i128);
        }
        self.out.push(op::TUPLE);
    }
}

/// Row-major strides as PyTorch has them: an empty side counts as one.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for side in (1..shape.len()).rev() {
        // Only a shape with an empty side can overflow, and then no stride is ever used.
        strides[side - 1] = strides[side].wrapping_mul(shape[side].max(1));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pickled(value: &Tree) -> Vec<u8> {
        let bytes = Pickler::pickle(value).unwrap().0;
        bytes[2..bytes.len() - 1].to_vec()
    }

    #[test]
    fn integers_as_python_pickles_them() {
        // pickle.dumps(value, 2) of CPython.
        for (value, bytes) in [
            (0, b"K\x00".as_slice()),
            (255, b"K\xff"),
            (256, b"M\x00\x01"),
            (65536, b"J\x00\x00\x01\x00"),
            (-1, b"J\xff\xff\xff\xff"),
            (1 << 31, b"\x8a\x05\x00\x00\x00\x80\x00"),
            (-(1 << 31) - 1, b"\x8a\x05\xff\xff\xff\x7f\xff"),
            (i64::MIN.into(), b"\x8a\x08\0\0\0\0\0\0\0\x80"),
            (
                u64::MAX.into(),
                b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0",
            ),
        ] {
            assert_eq!(pickled(&Tree::Int(value)), bytes, "{value}");
        }
    }

    #[test]
    fn strides_of_shapes() {
        assert_eq!(strides(&[]), [0usize; 0]);
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides(&[2, 0, 4]), [4, 4, 1]);
    }

    #[test]
    fn nesting_has_an_end() {
        let mut value = Tree::None;
        for _ in 0..200 {
            value = Tree::List(vec![value]);
        }
        assert_eq!(
            Pickler::pickle(&value).unwrap_err(),
            WriteError::TooDeep { limit: DEEPEST }
        );
    }
}
