//! Augmentation as text: `flip,shift:4`.

use std::fmt;
use std::str::FromStr;

use super::{Augmentation, Jitter};

/// A text that is no augmentation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` must be {expected}")]
#[non_exhaustive]
pub struct AugmentationError {
    /// The part of the text.
    pub part: String,
    /// In words.
    pub expected: String,
}

const PARTS: &str = "one of crop:AREA, shift:PIXELS, flip, rotate:DEGREES, jitter:X, trivial, erase:P, mixup:ALPHA, \
                     cutmix:ALPHA";

impl FromStr for Augmentation {
    type Err = AugmentationError;

    /// `none`, or parts joined by commas. A part given twice counts as the last.
    fn from_str(text: &str) -> Result<Self, AugmentationError> {
        let mut augmentation = Self::default();
        if text == "none" {
            return Ok(augmentation);
        }
        for part in text.split(',').map(str::trim) {
            augmentation
                .set(part)
                .map_err(|expected| AugmentationError {
                    part: part.to_owned(),
                    expected: expected.to_owned(),
                })?;
        }
        Ok(augmentation)
    }
}

impl Augmentation {
    fn set(&mut self, part: &str) -> Result<(), &'static str> {
        let (name, value) = match part.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (part, None),
        };
        let number = |holds: fn(f64) -> bool, expected: &'static str| {
            value
                .and_then(number)
                .filter(|number| holds(*number))
                .ok_or(expected)
        };
        match (name, value) {
            ("flip", None) => self.flip = true,
            ("trivial", None) => self.trivial = true,
            ("shift", _) => {
                self.shift = value
                    .and_then(|value| value.parse().ok())
                    .filter(|pixels| *pixels <= 4096)
                    .ok_or("shift:PIXELS with a whole number up to 4096")?;
            }
            ("crop", _) => {
                let share = |x: f64| x > 0.0 && x <= 1.0;
                self.crop = Some(number(
                    share,
                    "crop:AREA with the least share of the image to cut out, above 0 and up to 1",
                )?);
            }
            ("rotate", _) => {
                let angle = |x: f64| (0.0..=180.0).contains(&x);
                self.rotate = number(angle, "rotate:DEGREES with a number from 0 to 180")?;
            }
            ("jitter", Some(value)) => self.jitter = Jitter::read(value).ok_or(JITTER)?,
            ("jitter", None) => return Err(JITTER),
            ("erase", _) => {
                let share = |x: f64| (0.0..=1.0).contains(&x);
                self.erase = number(share, "erase:P with a probability from 0 to 1")?;
            }
            ("mixup", _) => {
                self.mixup = number(is_alpha, "mixup:ALPHA with a number from 0 to 100")?
            }
            ("cutmix", _) => {
                self.cutmix = number(is_alpha, "cutmix:ALPHA with a number from 0 to 100")?;
            }
            _ => return Err(PARTS),
        }
        Ok(())
    }
}

const JITTER: &str = "jitter:X, or jitter:B/C/S/H with brightness, contrast and saturation from 0 to 10 and hue from 0 \
                      to 0.5";

fn is_alpha(x: f64) -> bool {
    (0.0..=100.0).contains(&x)
}

fn number(text: &str) -> Option<f64> {
    // Adding 0 makes a negative zero a plain one: it is written back as it was read.
    text.parse::<f64>().ok().map(|x| x + 0.0)
}

impl Jitter {
    fn read(text: &str) -> Option<Self> {
        let values: Option<Vec<f64>> = text.split('/').map(number).collect();
        let (b, c, s, h) = match values?[..] {
            [x] => (x, x, x, 0.0),
            [b, c, s, h] => (b, c, s, h),
            _ => return None,
        };
        let strengths = [b, c, s].iter().all(|x| (0.0..=10.0).contains(x));
        (strengths && (0.0..=0.5).contains(&h)).then_some(Self {
            brightness: b,
            contrast: c,
            saturation: s,
            hue: h,
        })
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            brightness: b,
            contrast: c,
            saturation: s,
            hue: h,
        } = self;
        if b == c && c == s && *h == 0.0 {
            write!(f, "{b}")
        } else {
            write!(f, "{b}/{c}/{s}/{h}")
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let on = |x: f64| (x > 0.0).then_some(x);
        parts.extend(self.crop.map(|area| format!("crop:{area}")));
        parts.extend((self.shift > 0).then(|| format!("shift:{}", self.shift)));
        parts.extend(self.flip.then(|| "flip".to_owned()));
        parts.extend(on(self.rotate).map(|degrees| format!("rotate:{degrees}")));
        parts.extend((!self.jitter.is_none()).then(|| format!("jitter:{}", self.jitter)));
        parts.extend(self.trivial.then(|| "trivial".to_owned()));
        parts.extend(on(self.erase).map(|p| format!("erase:{p}")));
        parts.extend(on(self.mixup).map(|alpha| format!("mixup:{alpha}")));
        parts.extend(on(self.cutmix).map(|alpha| format!("cutmix:{alpha}")));
        if parts.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&parts.join(","))
    }
}

impl TryFrom<String> for Augmentation {
    type Error = AugmentationError;

    fn try_from(text: String) -> Result<Self, AugmentationError> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> Self {
        augmentation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "none",
            "flip",
            "shift:2",
            "shift:2,flip",
            "crop:0.08,shift:4,flip,rotate:15,jitter:0.2,trivial,erase:0.25,mixup:0.2,cutmix:1",
            "jitter:0.1/0/0/0.5",
        ] {
            let read: Augmentation = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Augmentation>(&json).unwrap(), read);
        }
        let none: Augmentation = "shift:0,rotate:-0,erase:0,mixup:0,jitter:0"
            .parse()
            .unwrap();
        assert!(none.is_none());
        assert_eq!(none.to_string(), "none");
    }

    #[test]
    fn the_wrong_part_is_named() {
        for (text, part) in [
            ("flip,crop:4", "crop:4"),
            ("crop:0", "crop:0"),
            ("crop", "crop"),
            ("flip:1", "flip:1"),
            ("none,flip", "none"),
            ("shift:-1", "shift:-1"),
            ("shift:9999999999", "shift:9999999999"),
            ("rotate:nan", "rotate:nan"),
            ("rotate:181", "rotate:181"),
            ("jitter:0.2/0.2", "jitter:0.2/0.2"),
            ("jitter:0/0/0/0.6", "jitter:0/0/0/0.6"),
            ("jitter:-1", "jitter:-1"),
            ("erase:1.1", "erase:1.1"),
            ("mixup:-1", "mixup:-1"),
            ("cutmix:inf", "cutmix:inf"),
            ("", ""),
            ("flip,", ""),
            ("FLIP", "FLIP"),
        ] {
            let error = text.parse::<Augmentation>().unwrap_err();
            assert_eq!(error.part, part, "{text}");
        }
    }
}
