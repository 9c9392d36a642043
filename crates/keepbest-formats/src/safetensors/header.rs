//! The header: JSON to checked tensor entries.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{METADATA_KEY, METADATA_LIMIT, SIDES_LIMIT, SafetensorsError, TENSOR_LIMIT};
use crate::Dtype;

/// A header that holds for a file with a known length of data.
#[derive(Debug)]
pub(super) struct Header {
    /// Entries in the order of the header.
    pub tensors: Vec<(String, Entry)>,
    pub metadata: BTreeMap<String, String>,
}

/// A tensor's place; `begin..end` is as long as `shape` and `dtype` say, and (once the whole header is
/// checked) in bounds.
#[derive(Debug)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub begin: usize,
    pub end: usize,
}

/// An entry as it stands in the JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Sides: one more than the limit at most are kept.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sides")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sides = Vec::new();
                while let Some(side) = list.next_element()? {
                    if sides.len() <= SIDES_LIMIT {
                        sides.push(side);
                    }
                }
                Ok(Shape(sides))
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

/// All keys in order, duplicates included: deciding about those is not the parser's job.
#[derive(Default)]
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: Vec<Vec<(String, String)>>,
    /// The key whose value is being read, so that a parse error can name it.
    current: Option<String>,
    /// Why it was read no further.
    refused: Option<SafetensorsError>,
}

impl Header {
    pub(super) fn parse(header: &[u8], data_len: u64) -> Result<Self, SafetensorsError> {
        if header.first() != Some(&b'{') {
            return Err(SafetensorsError::HeaderStart);
        }
        let text =
            std::str::from_utf8(header).map_err(|error| SafetensorsError::HeaderNotUtf8 {
                at: error.valid_up_to(),
            })?;
        let raw = RawHeader::parse(text)?;
        let metadata = unique_metadata(raw.metadata)?;
        let mut seen = HashSet::new();
        for (name, _) in &raw.tensors {
            if !seen.insert(name.as_str()) {
                return Err(SafetensorsError::DuplicateKey { key: name.clone() });
            }
        }
        drop(seen);
        let mut tensors = Vec::with_capacity(raw.tensors.len());
        for (name, entry) in raw.tensors {
            let entry = entry.check(&name, data_len)?;
            tensors.push((name, entry));
        }
        check_cover(&tensors, data_len)?;
        Ok(Self { tensors, metadata })
    }
}

impl RawHeader {
    fn parse(text: &str) -> Result<Self, SafetensorsError> {
        let mut raw = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let result = (&mut raw).deserialize(&mut json).and_then(|()| json.end());
        match result {
            Ok(()) => Ok(raw),
            Err(source) => Err(raw.refused.unwrap_or(SafetensorsError::HeaderMalformed {
                tensor: raw.current,
                source,
            })),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut RawHeader {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut RawHeader {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.current = Some(key.clone());
            if key == METADATA_KEY {
                let Pairs(pairs) = map.next_value()?;
                if pairs.len() > METADATA_LIMIT {
                    return Err(self.refuse("texts of metadata", METADATA_LIMIT, None));
                }
                self.metadata.push(pairs);
            } else {
                let entry: RawEntry = map.next_value()?;
                if entry.shape.0.len() > SIDES_LIMIT {
                    return Err(self.refuse("sides", SIDES_LIMIT, Some(key)));
                }
                if self.tensors.len() == TENSOR_LIMIT {
                    return Err(self.refuse("tensors", TENSOR_LIMIT, None));
                }
                self.tensors.push((key, entry));
            }
            self.current = None;
        }
        Ok(())
    }
}

impl RawHeader {
    fn refuse<E: serde::de::Error>(
        &mut self,
        what: &'static str,
        limit: usize,
        tensor: Option<String>,
    ) -> E {
        self.refused = Some(SafetensorsError::TooMany {
            what,
            limit,
            tensor,
        });
        E::custom("a limit is passed")
    }
}

/// A JSON object of strings with its duplicates.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    // One more than the limit tells that there are more.
                    if pairs.len() <= METADATA_LIMIT {
                        pairs.push(pair);
                    }
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

fn unique_metadata(
    blocks: Vec<Vec<(String, String)>>,
) -> Result<BTreeMap<String, String>, SafetensorsError> {
    if blocks.len() > 1 {
        return Err(SafetensorsError::DuplicateKey {
            key: METADATA_KEY.into(),
        });
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in blocks.into_iter().flatten() {
        if metadata.contains_key(&key) {
            return Err(SafetensorsError::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

impl RawEntry {
    fn check(self, name: &str, data_len: u64) -> Result<Entry, SafetensorsError> {
        let tensor = || name.to_owned();
        let Some(dtype) = Dtype::from_safetensors(&self.dtype) else {
            return Err(SafetensorsError::UnknownDtype {
                tensor: tensor(),
                dtype: self.dtype,
            });
        };
        let sides: Option<Vec<usize>> = self
            .shape
            .0
            .iter()
            .map(|&side| usize::try_from(side).ok())
            .collect();
        let Some((shape, expected)) = sides.and_then(|shape| {
            let bytes = dtype.byte_len(&shape)?;
            Some((shape, bytes as u64))
        }) else {
            return Err(SafetensorsError::ShapeOverflow {
                tensor: tensor(),
                shape: self.shape.0,
            });
        };
        let (begin, end) = self.data_offsets;
        let Some(found) = end.checked_sub(begin) else {
            return Err(SafetensorsError::RangeReversed {
                tensor: tensor(),
                begin,
                end,
            });
        };
        if found != expected {
            return Err(SafetensorsError::RangeLength {
                tensor: tensor(),
                expected,
                found,
            });
        }
        match (usize::try_from(begin), usize::try_from(end)) {
            (Ok(begin), Ok(end)) => Ok(Entry {
                dtype,
                shape,
                begin,
                end,
            }),
            _ => Err(SafetensorsError::DataTruncated {
                tensor: tensor(),
                end,
                found: data_len,
            }),
        }
    }
}

/// Ranges must be in bounds and cover the data exactly, each byte once. They are looked at in the
/// order of the data, so that what is named is where the trouble begins.
fn check_cover(tensors: &[(String, Entry)], data_len: u64) -> Result<(), SafetensorsError> {
    let mut order: Vec<&(String, Entry)> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut covered = 0;
    let mut previous = "";
    for (name, entry) in order {
        if entry.end as u64 > data_len {
            return Err(SafetensorsError::DataTruncated {
                tensor: name.clone(),
                end: entry.end as u64,
                found: data_len,
            });
        }
        if entry.begin < covered {
            return Err(SafetensorsError::Overlap {
                tensor: name.clone(),
                begin: entry.begin as u64,
                other: previous.to_owned(),
                end: covered as u64,
            });
        }
        if entry.begin > covered {
            return Err(SafetensorsError::Hole {
                tensor: name.clone(),
                begin: covered as u64,
                end: entry.begin as u64,
            });
        }
        covered = entry.end;
        previous = name;
    }
    if covered as u64 != data_len {
        return Err(SafetensorsError::TrailingBytes {
            expected: covered as u64,
            found: data_len,
        });
    }
    Ok(())
}
