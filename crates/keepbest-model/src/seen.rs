//! Which images a model has seen, through all the models it comes from; and how many of others' test images are among them.

use std::collections::HashSet;
use std::fmt;

use keepbest_data::{Identity, ImageCount, ImageSet};
use serde::{Deserialize, Serialize};

/// The images that a model, and every model it comes from, was trained on and was chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seen {
    /// Trained on.
    pub train: ImageSet,
    /// Chosen by.
    pub val: ImageSet,
    /// Whether it comes from a model that does not record its images: then there may have been more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

/// The number of images of a split that were seen: by a run in training and in choosing, or by a model that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeenBefore {
    /// The split.
    pub split: String,
    /// The number of images that it has.
    pub images: u64,
    /// The number of them that were trained on.
    pub trained: u64,
    /// The number of others that were chosen by.
    pub chosen: u64,
    /// Whether every image was looked up; otherwise the counts are estimates.
    pub exact: bool,
}

impl Seen {
    /// What models have seen together, such as those that one is the mean of; `None` of a model that does not record it.
    #[must_use]
    pub fn together<'a>(models: impl IntoIterator<Item = Option<&'a Self>>) -> Self {
        models
            .into_iter()
            .fold(Self::default(), |seen, own| match own {
                Some(own) => Self {
                    train: seen.train.with(&own.train),
                    val: seen.val.with(&own.val),
                    unknown: seen.unknown || own.unknown,
                },
                None => Self {
                    unknown: true,
                    ..seen
                },
            })
    }

    /// With what a run trains on and chooses by.
    #[must_use]
    pub fn and(&self, identity: &Identity) -> Self {
        let of = |split: &str| {
            let digests = identity.digests.get(split).into_iter().flatten();
            ImageSet::of(digests.copied())
        };
        Self {
            train: self.train.with(&of("train")),
            val: self.val.with(&of("val")),
            unknown: self.unknown,
        }
    }

    /// The number of images of val and test that these models have seen, or are trained on by the run that begins, or, of test, choose there.
    #[must_use]
    pub fn in_run(&self, identity: &Identity) -> Vec<SeenBefore> {
        let of = |split: &str| -> HashSet<u64> {
            let digests = identity.digests.get(split).into_iter().flatten();
            digests.copied().collect()
        };
        let (train, val) = (of("train"), of("val"));
        let found = ["val", "test"].into_iter().filter_map(|split| {
            let digests = identity.digests.get(split)?;
            let digests = digests.iter().copied();
            let images = digests.len() as u64;
            let (trained, others): (Vec<u64>, Vec<u64>) =
                digests.partition(|digest| train.contains(digest));
            let is_chosen = |digest: &u64| {
                split == "test" && val.contains(digest) && self.train.has(*digest) != Some(true)
            };
            let (chosen, others): (Vec<u64>, Vec<u64>) = others.into_iter().partition(is_chosen);
            let mut found = self.among(split, &others);
            found.images = images;
            found.trained += trained.len() as u64;
            found.chosen += chosen.len() as u64;
            if split == "val" {
                // To be chosen by is what val is for.
                found.chosen = 0;
            }
            found.any().then_some(found)
        });
        found.collect()
    }

    /// The number of images with these digests that are among them.
    #[must_use]
    pub fn among(&self, split: &str, digests: &[u64]) -> SeenBefore {
        let trained = self.train.count(digests);
        let others = digests
            .iter()
            .copied()
            .filter(|digest| self.train.has(*digest) != Some(true));
        let chosen: ImageCount = self.val.count(&others.collect::<Vec<_>>());
        SeenBefore {
            split: split.to_owned(),
            images: digests.len() as u64,
            trained: trained.images,
            chosen: chosen.images,
            exact: trained.exact && chosen.exact,
        }
    }
}

impl SeenBefore {
    /// Whether any was.
    #[must_use]
    pub fn any(&self) -> bool {
        self.trained > 0 || self.chosen > 0
    }
}

/// What the model was: `trained on 86 of 100 test images and chosen by 3 more`.
impl fmt::Display for SeenBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.exact { "" } else { "about " };
        let split = match self.split.as_str() {
            "all" => String::new(),
            split => format!("{split} "),
        };
        let plural = if self.images == 1 { "" } else { "s" };
        let of = format!("of {} {split}image{plural}", self.images);
        match (self.trained, self.chosen) {
            (trained, 0) => write!(f, "trained on {about}{trained} {of}"),
            (0, chosen) => write!(f, "chosen by {about}{chosen} {of}"),
            (trained, chosen) => write!(
                f,
                "trained on {about}{trained} {of} and chosen by {about}{chosen} more"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_was_trained_on_and_chosen_by_counts_once() {
        let digest = |n: u64| n << 40;
        let seen = Seen {
            train: ImageSet::of((0..10).map(digest)),
            val: ImageSet::of((8..12).map(digest)),
            unknown: false,
        };
        let digests: Vec<u64> = (5..20).map(digest).collect();
        let found = seen.among("test", &digests);
        assert_eq!((found.images, found.trained, found.chosen), (15, 5, 2));
        assert_eq!(
            found.to_string(),
            "trained on 5 of 15 test images and chosen by 2 more"
        );
        let one = seen.among("val", &[digest(11)]);
        assert_eq!(one.to_string(), "chosen by 1 of 1 val image");
        assert!(!seen.among("test", &[digest(99)]).any());
    }
}
