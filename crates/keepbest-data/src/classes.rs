//! Images under a model's classes: by name, whichever of them there are and in whatever order.

use std::fmt;
use std::sync::Arc;

use crate::{DataBundle, DataError, Dataset, Image, ImageShape};

/// Images whose labels are those of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct Matched {
    /// The same images; where all classes are the model's in its order, the same sets.
    pub bundle: DataBundle,
    /// The model's classes that have no images.
    pub missing: Vec<String>,
    /// Classes that the model does not know, with how many images were left out for it.
    pub left_out: Vec<(String, usize)>,
}

/// Images of classes that a model does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
#[non_exhaustive]
pub struct UnknownClasses {
    /// The classes, with how many images each has.
    pub unknown: Vec<(String, usize)>,
    /// The number of the images' classes that the model knows.
    pub known: usize,
    /// The model's classes.
    pub expected: Vec<String>,
}

impl UnknownClasses {
    fn words(&self) -> String {
        let (classes, images) = (
            self.unknown.len(),
            self.unknown.iter().map(|(_, n)| n).sum(),
        );
        let names = Names(self.unknown.iter().map(|(name, _)| name.as_str()).collect());
        let expected = Names(self.expected.iter().map(String::as_str).collect());
        if self.known == 0 {
            return format!(
                "none of the images' classes ({names}) is one of the model's ({expected})"
            );
        }
        let plural =
            |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        format!(
            "{} of the images {} not the model's: {names}, with {}",
            plural(classes, "class", "classes"),
            if classes == 1 { "is" } else { "are" },
            plural(images, "image", "images"),
        )
    }
}

/// Names in quotes, the first few of them.
struct Names<'a>(Vec<&'a str>);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (place, name) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name:?}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl DataBundle {
    /// The same images labelled by `classes`, found by their names. Images of other classes are left out if `leave_out`, as long as
    /// any are left.
    ///
    /// # Errors
    /// [`UnknownClasses`].
    pub fn labelled_by(
        &self,
        classes: &[String],
        leave_out: bool,
    ) -> Result<Matched, UnknownClasses> {
        let own = self.classes();
        let place = |name: &String| classes.iter().position(|class| class == name);
        let labels: Arc<[Option<u32>]> = own
            .iter()
            .map(|name| place(name).map(|label| label as u32))
            .collect();
        let mut counts = vec![0usize; own.len()];
        for set in self.sets() {
            for index in 0..set.len() {
                counts[set.label(index) as usize] += 1;
            }
        }
        // A class is unknown to the model where it has images.
        let counted = || own.iter().zip(&counts).zip(labels.iter());
        let left_out: Vec<(String, usize)> = counted()
            .filter(|((_, count), label)| label.is_none() && **count > 0)
            .map(|((name, count), _)| (name.clone(), *count))
            .collect();
        let known = counted()
            .filter(|((_, count), label)| label.is_some() && **count > 0)
            .count();
        if !left_out.is_empty() && (!leave_out || known == 0) {
            return Err(UnknownClasses {
                unknown: left_out,
                known,
                expected: classes.to_vec(),
            });
        }
        let has_images =
            |class: &String| counted().any(|((name, count), _)| name == class && *count > 0);
        let missing = classes.iter().filter(|class| !has_images(class));
        let missing = missing.cloned().collect();
        let bundle = if own == classes {
            self.clone()
        } else {
            let classes: Arc<[String]> = classes.into();
            let relabelled = |set: &Arc<dyn Dataset>| -> Arc<dyn Dataset> {
                Arc::new(Relabelled::new(
                    set.clone(),
                    classes.clone(),
                    labels.clone(),
                ))
            };
            // A split of which nothing is left is none.
            let some = |set: &Arc<dyn Dataset>| Some(relabelled(set)).filter(|set| !set.is_empty());
            DataBundle {
                train: relabelled(&self.train),
                val: self.val.as_ref().and_then(some),
                test: self.test.as_ref().and_then(some),
                ..self.clone()
            }
        };
        Ok(Matched {
            bundle,
            missing,
            left_out,
        })
    }

    fn sets(&self) -> impl Iterator<Item = &Arc<dyn Dataset>> {
        [Some(&self.train), self.val.as_ref(), self.test.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// Some of a set's images, with labels of another list of classes.
struct Relabelled {
    inner: Arc<dyn Dataset>,
    classes: Arc<[String]>,
    /// The new label of each old one.
    labels: Arc<[Option<u32>]>,
    /// The images that have one.
    indices: Vec<usize>,
}

impl Relabelled {
    fn new(inner: Arc<dyn Dataset>, classes: Arc<[String]>, labels: Arc<[Option<u32>]>) -> Self {
        let has = |index: &usize| labels[inner.label(*index) as usize].is_some();
        let indices = (0..inner.len()).filter(has).collect();
        Self {
            inner,
            classes,
            labels,
            indices,
        }
    }

    fn inner_index(&self, index: usize) -> Result<usize, DataError> {
        self.indices
            .get(index)
            .copied()
            .ok_or_else(|| DataError::NoSuchImage {
                origin: "images of a model's classes".to_owned(),
                index,
                len: self.indices.len(),
            })
    }
}

impl Dataset for Relabelled {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        let own = self.inner.label(self.indices[index]);
        self.labels[own as usize].expect("images without a label are left out")
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        self.inner.image(self.inner_index(index)?)
    }

    fn shape(&self) -> Option<ImageShape> {
        self.inner.shape()
    }

    fn image_shape(&self, index: usize) -> Option<ImageShape> {
        self.inner.image_shape(*self.indices.get(index)?)
    }

    fn digest(&self, index: usize) -> Result<u64, DataError> {
        self.inner.digest(self.inner_index(index)?)
    }

    fn source(&self, index: usize) -> String {
        self.inner.source(self.indices[index])
    }

    fn in_memory(&self) -> bool {
        self.inner.in_memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDataset;

    /// One image a label, its pixel ten times the label.
    fn bundle(classes: &[&str], labels: &[u32]) -> DataBundle {
        let pixels: Vec<u8> = labels.iter().map(|label| *label as u8 * 10).collect();
        let shape = ImageShape::new(1, 1, 1);
        let names = classes.iter().map(|name| (*name).to_owned()).collect();
        let set = MemoryDataset::new("m", shape, pixels, labels.to_vec(), names).unwrap();
        DataBundle::new("m", Arc::new(set), None, None)
    }

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_are_found_by_name() {
        let found = bundle(&["c", "a"], &[0, 1, 0])
            .labelled_by(&names(&["a", "b", "c"]), false)
            .unwrap();
        let set = &found.bundle.train;
        let labels: Vec<u32> = (0..set.len()).map(|index| set.label(index)).collect();
        assert_eq!(labels, [2, 0, 2]);
        assert_eq!(set.classes(), names(&["a", "b", "c"]));
        assert_eq!(found.missing, names(&["b"]));
        assert_eq!(set.image(1).unwrap().pixels(), [10]);
    }

    #[test]
    fn unknown_classes_are_named_or_left_out() {
        let data = bundle(&["a", "zebra", "empty"], &[0, 1, 1, 0]);
        let classes = names(&["a", "b"]);
        let error = data.labelled_by(&classes, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 class of the images is not the model's: \"zebra\", with 2 images"
        );
        let found = data.labelled_by(&classes, true).unwrap();
        assert_eq!(found.left_out, [("zebra".to_owned(), 2)]);
        assert_eq!(found.bundle.train.len(), 2);
        assert_eq!(found.bundle.train.image(1).unwrap().pixels(), [0]);
        assert!(found.bundle.train.image(2).is_err());
        // With nothing left there is nothing to measure.
        let error = bundle(&["x"], &[0])
            .labelled_by(&classes, true)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "none of the images' classes (\"x\") is one of the model's (\"a\", \"b\")"
        );
    }
}
