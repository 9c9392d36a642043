//! A tensor's `data` in JSON: numbers or strings, flat or in nested arrays.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// The elements in their order, whatever arrays they are in. Four bytes a number, so that a body takes little more than itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Flat {
    /// Numbers, as `f32`.
    pub numbers: Vec<f32>,
    /// Strings.
    pub strings: Vec<String>,
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self::default();
        deserializer.deserialize_seq(Elements(&mut flat))?;
        match flat.numbers.is_empty() || flat.strings.is_empty() {
            true => Ok(flat),
            false => Err(D::Error::custom(
                "a tensor holds numbers or strings, not both",
            )),
        }
    }
}

/// The elements of an array, put behind those that are there.
struct Elements<'a>(&'a mut Flat);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

/// An element, or an array of them.
struct Element<'a>(&'a mut Flat);

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a string or an array of them")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.numbers.push(value as f32);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.numbers.push(value as f32);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.numbers.push(value as f32);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.strings.push(value.to_owned());
        Ok(())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<(), E> {
        self.0.strings.push(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<(), A::Error> {
        Elements(self.0).visit_seq(elements)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

    use super::*;

    #[test]
    fn nested_arrays_are_flat() {
        let read = |text: &str| serde_json::from_str::<Flat>(text);
        let numbers = |text: &str| read(text).unwrap().numbers;
        assert_eq!(numbers("[1, 2.5, -3]"), [1.0, 2.5, -3.0]);
        assert_eq!(numbers("[[1, 2], [[3]], []]"), [1.0, 2.0, 3.0]);
        assert_eq!(read(r#"["a", ["b"]]"#).unwrap().strings, ["a", "b"]);
        for wrong in ["1", "{}", "[null]", "[true]", "[{}]", r#"[1, "a"]"#, "[1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(read(&deep).is_err());
    }
}
