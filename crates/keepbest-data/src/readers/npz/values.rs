//! From the elements of an array to pixels and labels.

use super::Array;
use crate::ImageShape;

/// Images, dense, channels last.
pub(super) struct Pixels {
    pub shape: ImageShape,
    pub count: usize,
    pub values: Vec<u8>,
    /// Whether they were numbers from 0 to 1, or no and yes.
    pub scaled: bool,
}

/// What an array of labels says.
pub(super) enum Labels {
    /// Numbers of classes, and how many classes there are at least.
    Numbers(Vec<u32>, usize),
    Names(Vec<String>),
}

impl Labels {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers, _) => numbers.len(),
            Self::Names(names) => names.len(),
        }
    }
}

/// Bytes of an element by NumPy's type string, such as `<i8`; `None` for what is neither number nor text.
pub(super) fn item_size(dtype: &str) -> Option<usize> {
    Some(match dtype.get(1..)? {
        "u1" | "i1" | "b1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" | "f4" => 4,
        "u8" | "i8" | "f8" => 8,
        text => {
            let length: usize = text.get(1..)?.parse().ok()?;
            match text.as_bytes()[0] {
                b'U' => length.checked_mul(4)?,
                b'S' => length,
                _ => return None,
            }
        }
    })
}

/// Whether the shape is that of images: `[n, h, w]`, `[n, h, w, c]` or `[n, c, h, w]` with one or three channels. Gives the
/// number of images, the shape of one, and whether its channels come first.
pub(super) fn image_shape(shape: &[usize]) -> Option<(usize, ImageShape, bool)> {
    Some(match *shape {
        [count, height, width] => (count, ImageShape::new(height, width, 1), false),
        [count, height, width, channels @ (1 | 3)] => {
            (count, ImageShape::new(height, width, channels), false)
        }
        [count, channels @ (1 | 3), height, width] => {
            (count, ImageShape::new(height, width, channels), true)
        }
        _ => return None,
    })
}

pub(super) fn pixels(array: Array) -> Result<Pixels, String> {
    let (count, shape, planes) = image_shape(&array.shape).ok_or_else(|| {
        format!(
            "its shape {:?} is none of [n, h, w], [n, h, w, c] and [n, c, h, w] with 1 or 3 channels",
            array.shape
        )
    })?;
    if shape.size() == 0 && count > 0 {
        return Err(format!("its images are {shape}"));
    }
    let (bytes, scaled) = levels(array)?;
    let values = match planes {
        false => bytes,
        true => {
            let plane = shape.height * shape.width;
            let pixel = |image: &[u8], at: usize| -> Vec<u8> {
                (0..shape.channels).map(|c| image[c * plane + at]).collect()
            };
            bytes
                .chunks_exact(shape.size().max(1))
                .flat_map(|image| (0..plane).flat_map(move |at| pixel(image, at)))
                .collect()
        }
    };
    Ok(Pixels {
        shape,
        count,
        values,
        scaled,
    })
}

/// The values as bytes: whole numbers from 0 to 255 as they are, numbers from 0 to 1 as parts of 255; and whether it were the
/// latter.
fn levels(array: Array) -> Result<(Vec<u8>, bool), String> {
    match array.dtype.get(1..) {
        Some("u1") => return Ok((array.in_order(), false)),
        Some("b1") => {
            let bytes = array.in_order();
            return Ok((
                bytes
                    .into_iter()
                    .map(|yes| 255 * u8::from(yes != 0))
                    .collect(),
                true,
            ));
        }
        _ => {}
    }
    let kind = array.dtype.clone();
    let numbers = array
        .numbers()
        .ok_or_else(|| format!("images must be numbers, these are `{kind}`"))?;
    let whole = numbers.iter().all(|value| value.fract() == 0.0);
    let (low, high) = numbers
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
    let is_float = kind.get(1..2) == Some("f");
    // NaN is in no range.
    let all_in = |high: f64| numbers.iter().all(|value| (0.0..=high).contains(value));
    if is_float && all_in(1.0) {
        let level = |value: f64| (value * 255.0).round() as u8;
        return Ok((numbers.into_iter().map(level).collect(), true));
    }
    if whole && all_in(255.0) {
        return Ok((
            numbers.into_iter().map(|value| value as u8).collect(),
            false,
        ));
    }
    let wanted = if is_float {
        "numbers from 0 to 1 or whole ones from 0 to 255"
    } else {
        "numbers from 0 to 255"
    };
    let not_a_number = numbers.iter().any(|value| value.is_nan());
    let also = if not_a_number {
        ", some not a number"
    } else {
        ""
    };
    Err(format!(
        "images must be {wanted}, these are {low} to {high} (`{kind}`){also}"
    ))
}

pub(super) fn labels(array: Array) -> Result<Labels, String> {
    let kind = array.dtype.get(1..2).unwrap_or_default().to_owned();
    let columns = match array.shape[..] {
        [_] | [_, 1] => 1,
        [_, columns] if columns > 1 && kind != "U" && kind != "S" => columns,
        _ => {
            return Err(format!(
                "labels must be [n], [n, 1] or [n, classes] with one 1 in each row, these are {:?}",
                array.shape
            ));
        }
    };
    if kind == "U" || kind == "S" {
        return array.names().map(Labels::Names);
    }
    let dtype = array.dtype.clone();
    let numbers = array
        .numbers()
        .ok_or_else(|| format!("labels must be numbers or text, these are `{dtype}`"))?;
    if columns > 1 {
        let rows = numbers.chunks_exact(columns).enumerate();
        let numbers: Result<Vec<u32>, String> =
            rows.map(|(row, marks)| one_hot(row, marks)).collect();
        return Ok(Labels::Numbers(numbers?, columns));
    }
    let numbers: Result<Vec<u32>, String> = numbers
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let is_class = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
            is_class
                .then_some(value as u32)
                .ok_or_else(|| format!("label {value} at index {index} is not a class"))
        })
        .collect();
    Ok(Labels::Numbers(numbers?, 0))
}

/// The only column that is marked.
fn one_hot(row: usize, marks: &[f64]) -> Result<u32, String> {
    let mut marked = (0u32..).zip(marks).filter(|(_, mark)| **mark == 1.0);
    let first = marked.next();
    let found = usize::from(first.is_some()) + marked.count();
    match first {
        Some((class, _)) if found == 1 && marks.iter().all(|mark| [0.0, 1.0].contains(mark)) => {
            Ok(class)
        }
        _ => Err(format!(
            "its rows must have one 1 and else 0, for the class of the image; that at index {row} has {found} of {} at 1",
            marks.len()
        )),
    }
}

impl Array {
    /// The bytes with the last side going fastest.
    fn in_order(self) -> Vec<u8> {
        let size = item_size(&self.dtype).unwrap_or(1);
        if !self.columns_first || self.bytes.is_empty() {
            return self.bytes;
        }
        let mut steps = Vec::with_capacity(self.shape.len());
        let mut step = size;
        for side in &self.shape {
            steps.push(step);
            step *= side;
        }
        let mut place = vec![0; self.shape.len()];
        let mut bytes = Vec::with_capacity(self.bytes.len());
        while bytes.len() < self.bytes.len() {
            let at: usize = place
                .iter()
                .zip(&steps)
                .map(|(place, step)| place * step)
                .sum();
            bytes.extend_from_slice(&self.bytes[at..at + size]);
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                if place[axis] < self.shape[axis] {
                    break;
                }
                place[axis] = 0;
            }
        }
        bytes
    }

    /// The elements as numbers; `None` when they are none. Whole numbers beyond 2^53 are rounded, which no level and no
    /// class is.
    fn numbers(self) -> Option<Vec<f64>> {
        let (dtype, size) = (self.dtype.clone(), item_size(&self.dtype)?);
        let (big, kind) = (dtype.starts_with('>'), *dtype.as_bytes().get(1)?);
        if !matches!(kind, b'u' | b'i' | b'b' | b'f') {
            return None;
        }
        let number = |item: &[u8]| {
            let negative = kind == b'i' && item[if big { 0 } else { size - 1 }] >= 0x80;
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            for (to, from) in wide.iter_mut().zip(0..size) {
                *to = item[if big { size - 1 - from } else { from }];
            }
            match (kind, size) {
                (b'f', 4) => f64::from(f32::from_le_bytes([wide[0], wide[1], wide[2], wide[3]])),
                (b'f', _) => f64::from_le_bytes(wide),
                (b'i', _) => i64::from_le_bytes(wide) as f64,
                _ => u64::from_le_bytes(wide) as f64,
            }
        };
        let bytes = self.in_order();
        Some(bytes.chunks_exact(size).map(number).collect())
    }

    /// The elements as text.
    fn names(self) -> Result<Vec<String>, String> {
        let size = item_size(&self.dtype).unwrap_or(0);
        let (big, wide) = (
            self.dtype.starts_with('>'),
            self.dtype.get(1..2) == Some("U"),
        );
        if size == 0 {
            return Err("its labels are empty".to_owned());
        }
        let text = |item: &[u8]| -> Option<String> {
            if !wide {
                let end = item
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                return String::from_utf8(item[..end].to_vec()).ok();
            }
            let (units, _) = item.as_chunks::<4>();
            let letters = units.iter().map(|&unit| {
                char::from_u32(if big {
                    u32::from_be_bytes(unit)
                } else {
                    u32::from_le_bytes(unit)
                })
            });
            let text: Option<String> = letters.collect();
            Some(text?.trim_end_matches('\0').to_owned())
        };
        let bytes = self.in_order();
        let items = bytes.chunks_exact(size).enumerate();
        items
            .map(|(index, item)| {
                let text = text(item).filter(|text| !text.is_empty());
                text.ok_or_else(|| format!("the label at index {index} is empty or no text"))
            })
            .collect()
    }
}
