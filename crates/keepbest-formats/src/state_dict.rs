//! The state dict: an ordered map from names to tensors.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::Tensor;

/// An ordered map from parameter or buffer name to tensor. Order is that of insertion, which for a
/// model is the order of its layers.
///
/// Cloning shares all tensor bytes.
///
/// ```
/// use keepbest_formats::{StateDict, Tensor};
/// let mut weights = StateDict::new();
/// weights.insert("fc.weight", Tensor::from_f32(&[1, 2], &[0.5, -0.5])?)?;
/// weights.insert("fc.bias", Tensor::from_f32(&[1], &[0.0])?)?;
/// let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["fc.weight", "fc.bias"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct StateDict {
    entries: Vec<(Arc<str>, Tensor)>,
    index: HashMap<Arc<str>, usize>,
}

/// A name was inserted twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{name}` is there already")]
pub struct DuplicateTensor {
    /// The name.
    pub name: String,
}

impl StateDict {
    /// An empty state dict.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor.
    ///
    /// # Errors
    /// When `name` is there already; the state dict is then unchanged.
    pub fn insert(
        &mut self,
        name: impl Into<Arc<str>>,
        tensor: Tensor,
    ) -> Result<(), DuplicateTensor> {
        let name = name.into();
        if self.index.contains_key(&name) {
            return Err(DuplicateTensor {
                name: name.to_string(),
            });
        }
        self.index.insert(Arc::clone(&name), self.entries.len());
        self.entries.push((name, tensor));
        Ok(())
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&at| &self.entries[at].1)
    }

    /// Whether there is a tensor called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> + DoubleEndedIterator {
        self.entries
            .iter()
            .map(|(name, tensor)| (name.as_ref(), tensor))
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.entries.iter().map(|(name, _)| name.as_ref())
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no tensor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|(_, tensor)| tensor.bytes().len() as u64)
            .sum()
    }

    /// Elements of all tensors together.
    #[must_use]
    pub fn total_elements(&self) -> u64 {
        self.entries
            .iter()
            .map(|(_, tensor)| tensor.elements() as u64)
            .sum()
    }

    /// The tensors whose names start with `prefix`, under their names without it; the prefix alone
    /// is no name and stays out.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> StateDict {
        self.entries
            .iter()
            .filter_map(|(name, tensor)| {
                let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
                Some((Arc::from(rest), tensor.clone()))
            })
            .collect_unique()
    }

    /// Splits by `prefix`: those that have it, under their names without it, and the others.
    #[must_use]
    pub fn split_prefix(self, prefix: &str) -> (StateDict, StateDict) {
        let (with, without): (Vec<_>, Vec<_>) = self
            .entries
            .into_iter()
            .partition(|(name, _)| name.len() > prefix.len() && name.starts_with(prefix));
        (
            with.into_iter()
                .map(|(name, tensor)| (Arc::from(&name[prefix.len()..]), tensor))
                .collect_unique(),
            without.into_iter().collect_unique(),
        )
    }
}

/// Collects entries that are known to have different names.
trait CollectUnique {
    fn collect_unique(self) -> StateDict;
}

impl<I: Iterator<Item = (Arc<str>, Tensor)>> CollectUnique for I {
    fn collect_unique(self) -> StateDict {
        let entries: Vec<_> = self.collect();
        let index = entries
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (Arc::clone(name), at))
            .collect();
        StateDict { entries, index }
    }
}

/// Equal when names, order, element types, shapes and bytes are.
impl PartialEq for StateDict {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl fmt::Debug for StateDict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(value: f32) -> Tensor {
        Tensor::from_f32(&[], &[value]).unwrap()
    }

    fn three() -> StateDict {
        let mut dict = StateDict::new();
        dict.insert("b", scalar(1.0)).unwrap();
        dict.insert("optimizer.b", scalar(2.0)).unwrap();
        dict.insert("a", scalar(3.0)).unwrap();
        dict
    }

    #[test]
    fn keeps_order_and_refuses_duplicates() {
        let mut dict = three();
        let before = dict.clone();
        assert_eq!(
            dict.insert("a", scalar(9.0)).unwrap_err().to_string(),
            "tensor `a` is there already"
        );
        assert_eq!(dict, before);
        assert_eq!(dict.names().collect::<Vec<_>>(), ["b", "optimizer.b", "a"]);
        assert_eq!(dict.total_bytes(), 12);
        assert_eq!(dict.total_elements(), 3);
    }

    #[test]
    fn splits_by_prefix() {
        assert_eq!(three().with_prefix("optimizer."), {
            let mut dict = StateDict::new();
            dict.insert("b", scalar(2.0)).unwrap();
            dict
        });
        let (training, weights) = three().split_prefix("optimizer.");
        assert_eq!(training.names().collect::<Vec<_>>(), ["b"]);
        assert_eq!(weights.names().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(weights.get("a"), Some(&scalar(3.0)));
        assert!(!weights.contains("optimizer.b"));
    }

    #[test]
    fn the_prefix_alone_is_an_ordinary_name() {
        let mut dict = StateDict::new();
        dict.insert("optimizer.", scalar(1.0)).unwrap();
        let (training, weights) = dict.split_prefix("optimizer.");
        assert!(training.is_empty());
        assert_eq!(weights.len(), 1);
    }
}
