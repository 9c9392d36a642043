//! Protocol buffers, read: the fields of a message one after the other, of bytes that are borrowed.

/// One field of a message, as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Integer, enumeration or truth value.
    Number(u64),
    /// Four bytes, little-endian: a float.
    Fixed32([u8; 4]),
    /// Eight bytes, little-endian: a double.
    Fixed64([u8; 8]),
    /// Text, bytes, a message, or numbers one after the other.
    Bytes(&'a [u8]),
}

/// The fields of a message, each with its number; `None` for what is no field, after which there are no more.
///
/// ```
/// use keepbest_formats::protobuf::{Field, Fields};
/// let mut fields = Fields::of(b"\x08\x96\x01\x12\x02ok");
/// assert_eq!(fields.next(), Some(Some((1, Field::Number(150)))));
/// assert_eq!(fields.next(), Some(Some((2, Field::Bytes(b"ok")))));
/// assert_eq!(fields.next(), None);
/// assert_eq!(Fields::of(b"\x12\x7f").next(), Some(None));
/// ```
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message that `bytes` are.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = varint(&mut self.rest)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut self.rest)?),
            1 => Field::Fixed64(self.array()?),
            2 => {
                let length = varint(&mut self.rest)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(self.array()?),
            _ => return None,
        };
        Some((key >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes one number of up to ten bytes of seven bits off the front.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Calls `each` with the numbers of a repeated field: one as it stands, or many packed. `None` where the bytes are cut short, the
/// field is of another kind, or `each` says so.
pub fn each_number(field: Field<'_>, mut each: impl FnMut(u64) -> Option<()>) -> Option<()> {
    match field {
        Field::Number(value) => each(value),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                each(varint(&mut packed)?)?;
            }
            Some(())
        }
        Field::Fixed32(_) | Field::Fixed64(_) => None,
    }
}

/// Calls `each` with the floats of a repeated field, as [`each_number`].
pub fn each_float(field: Field<'_>, mut each: impl FnMut([u8; 4]) -> Option<()>) -> Option<()> {
    match field {
        Field::Fixed32(value) => each(value),
        Field::Bytes(packed) => match packed.as_chunks() {
            (values, []) => values.iter().try_for_each(|&value| each(value)),
            _ => None,
        },
        Field::Number(_) | Field::Fixed64(_) => None,
    }
}

/// Calls `each` with the doubles of a repeated field, as [`each_number`].
pub fn each_double(field: Field<'_>, mut each: impl FnMut([u8; 8]) -> Option<()>) -> Option<()> {
    match field {
        Field::Fixed64(value) => each(value),
        Field::Bytes(packed) => match packed.as_chunks() {
            (values, []) => values.iter().try_for_each(|&value| each(value)),
            _ => None,
        },
        Field::Number(_) | Field::Fixed32(_) => None,
    }
}
