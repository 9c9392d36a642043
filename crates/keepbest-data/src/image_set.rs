//! A set of images that can be asked whether an image is in it, small enough to be kept with a model.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Which images there are, by 32 bits of the digest of each ([`Dataset::digest`](crate::Dataset::digest)): about four bytes an
/// image as text, and never more than [`MOST`](ImageSet::MOST) images.
///
/// A part of more images is kept, chosen by the digest itself: every second, every fourth, ... An image outside of that part says nothing,
/// so that counts become estimates. An image that is not in the set is taken for one that is with a probability of at most 2<sup>-18</sup>
/// as long as all are kept. Images cannot be made from it; who has the very pixels of an image can ask whether it is in the set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct ImageSet {
    /// Digits of the highest 32 bits of a digest, from the lowest, that are 0 where an image is kept.
    thinned: u32,
    /// The highest 32 bits of digests, ascending.
    kept: Vec<u32>,
}

/// The form that is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// One image in so many is kept; a power of 2.
    one_in: u32,
    /// Differences of the numbers divided by that, ascending from 0, each as LEB128, in base64.
    images: String,
}

/// Text that is no set of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a set of images: {reason}")]
#[non_exhaustive]
pub struct ImageSetError {
    /// The fault, in words.
    pub reason: &'static str,
}

/// The number of some images that are in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageCount {
    /// The number of them, or an estimate of it.
    pub images: u64,
    /// Whether every image was looked up.
    pub exact: bool,
}

impl ImageSet {
    /// The most images that are kept: 16,384, which is 64 KiB of text.
    pub const MOST: usize = 1 << 14;

    /// The set of the images with these digests.
    pub fn of(digests: impl IntoIterator<Item = u64>) -> Self {
        let kept = digests.into_iter().map(high).collect();
        Self { thinned: 0, kept }.tidy()
    }

    /// The images that are in one of the two.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let thinned = self.thinned.max(other.thinned);
        let kept = self.kept.iter().chain(&other.kept).copied().collect();
        Self { thinned, kept }.tidy()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether the image with this digest is in the set; `None` when it is not among those that are kept.
    pub fn has(&self, digest: u64) -> Option<bool> {
        let number = high(digest);
        self.keeps(number)
            .then(|| self.kept.binary_search(&number).is_ok())
    }

    /// The number of images with these digests that are in the set.
    pub fn count(&self, digests: &[u64]) -> ImageCount {
        let found = digests
            .iter()
            .filter(|digest| self.has(**digest) == Some(true));
        let estimate = (found.count() as u64) << self.thinned;
        ImageCount {
            images: estimate.min(digests.len() as u64),
            exact: self.thinned == 0,
        }
    }

    fn keeps(&self, number: u32) -> bool {
        number.trailing_zeros() >= self.thinned
    }

    /// In order, each once, and not too many.
    fn tidy(mut self) -> Self {
        self.kept.sort_unstable();
        self.kept.dedup();
        loop {
            let thinned = self.thinned;
            self.kept
                .retain(|number| number.trailing_zeros() >= thinned);
            if self.kept.len() <= Self::MOST || thinned == MOST_THINNED {
                self.kept.truncate(Self::MOST);
                return self;
            }
            self.thinned += 1;
        }
    }
}

/// One in 65,536: a billion images.
const MOST_THINNED: u32 = 16;

fn high(digest: u64) -> u32 {
    (digest >> 32) as u32
}

impl From<ImageSet> for Text {
    fn from(set: ImageSet) -> Self {
        let mut bytes = Vec::new();
        let mut before = 0;
        for number in &set.kept {
            let number = number >> set.thinned;
            let mut left = number - before;
            before = number;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        Self {
            one_in: 1 << set.thinned,
            images: BASE64.encode(&bytes),
        }
    }
}

impl TryFrom<Text> for ImageSet {
    type Error = ImageSetError;

    fn try_from(text: Text) -> Result<Self, ImageSetError> {
        let bad = |reason| ImageSetError { reason };
        if !text.one_in.is_power_of_two() || text.one_in.trailing_zeros() > MOST_THINNED {
            return Err(bad("one_in is no power of 2 up to 65536"));
        }
        let thinned = text.one_in.trailing_zeros();
        let bytes = BASE64
            .decode(&text.images)
            .map_err(|_| bad("images is no base64"))?;
        let (mut kept, mut before, mut left, mut shift) = (Vec::new(), 0u64, 0u64, 0);
        for byte in &bytes {
            left |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 != 0 {
                shift += 7;
                if shift > 28 {
                    return Err(bad("a number is too long"));
                }
                continue;
            }
            if left == 0 && !kept.is_empty() {
                return Err(bad("an image is there twice"));
            }
            before += left;
            let number =
                u32::try_from(before << thinned).map_err(|_| bad("a number is too large"))?;
            kept.push(number);
            if kept.len() > Self::MOST {
                return Err(bad("there are more than 16384 images"));
            }
            (left, shift) = (0, 0);
        }
        if shift > 0 {
            return Err(bad("it ends in the middle of a number"));
        }
        Ok(Self { thinned, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(from: u64, count: u64) -> Vec<u64> {
        let digest = |n: u64| *blake3::hash(&n.to_le_bytes()).as_bytes();
        (from..from + count)
            .map(|n| u64::from_le_bytes(digest(n)[..8].try_into().unwrap()))
            .collect()
    }

    fn text(set: &ImageSet) -> String {
        serde_json::to_string(set).unwrap()
    }

    #[test]
    fn few_images_are_counted_exactly() {
        let set = ImageSet::of(digests(0, 1000));
        let exact = |images| ImageCount {
            images,
            exact: true,
        };
        assert_eq!(set.count(&digests(900, 300)), exact(100));
        assert_eq!(set.count(&digests(5000, 3000)), exact(0));
        let more = set.with(&ImageSet::of(digests(990, 500)));
        assert_eq!(more.count(&digests(0, 3000)), exact(1490));
        assert_eq!(ImageSet::of([]).count(&digests(0, 9)), exact(0));
        assert_eq!(set.has(digests(7, 1)[0]), Some(true));
    }

    #[test]
    fn many_are_estimated_within_a_bounded_size() {
        let set = ImageSet::of(digests(0, 100_000));
        let text = text(&set);
        assert!(text.len() < 67_000, "{}", text.len());
        let found = set.count(&digests(95_000, 10_000));
        assert!(!found.exact);
        assert!((4_300..5_700).contains(&found.images), "{found:?}");
        // Two of other sizes come together at the coarser.
        let small = ImageSet::of(digests(200_000, 3000));
        assert_eq!(small.with(&set), set.with(&small));
        assert!(set.with(&small).kept.len() <= ImageSet::MOST);
    }

    #[test]
    fn text_comes_back() {
        for count in [0, 1, 2, 700, 40_000] {
            let set = ImageSet::of(digests(0, count));
            assert_eq!(serde_json::from_str::<ImageSet>(&text(&set)).unwrap(), set);
        }
        let edge = ImageSet::of([0, u64::MAX, 1 << 32]);
        assert_eq!(
            serde_json::from_str::<ImageSet>(&text(&edge)).unwrap(),
            edge
        );
    }

    #[test]
    fn other_text_is_refused() {
        for (one_in, bytes, words) in [
            (3, &[1][..], "power of 2"),
            (1 << 20, &[1], "power of 2"),
            (1, &[0x80], "middle"),
            (1, &[1, 0], "twice"),
            (1, &[0xff, 0xff, 0xff, 0xff, 0x7f], "too large"),
            (1, &[0x80, 0x80, 0x80, 0x80, 0x80, 1], "too long"),
            (2, &[0xff, 0xff, 0xff, 0xff, 0x0f], "too large"),
            (1, &[1; 16_385], "more than"),
        ] {
            let images = BASE64.encode(bytes);
            let json = format!("{{\"one_in\":{one_in},\"images\":\"{images}\"}}");
            let error = serde_json::from_str::<ImageSet>(&json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(serde_json::from_str::<ImageSet>(r#"{"one_in":1,"images":"x"}"#).is_err());
    }

    /// One text for each sequence of bytes: padding, unused bits and length are as they must be.
    #[test]
    fn the_text_is_that_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = texts.map(|text| BASE64.encode(text));
        assert_eq!(
            encoded,
            [
                "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"
            ]
        );
        for text in [
            "Z", "Zg", "Zg=", "Zh==", "Zg==Zg==", "Zm9v\n", "=", "====", "Zm=v", "Zm9é",
        ] {
            assert!(BASE64.decode(text).is_err(), "{text}");
        }
    }
}
