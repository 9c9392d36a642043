//! Which tensors of a file a model can take.

use std::collections::HashSet;

use serde::Serialize;

use crate::{Dtype, StateDict, Tensor};

/// A tensor that a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: Dtype,
    /// Its sides.
    pub shape: &'a [usize],
    /// Whether a file may be without it, as with counters that nothing is computed from.
    pub optional: bool,
}

impl<'a> Wanted<'a> {
    /// A tensor that must be there.
    #[must_use]
    pub fn new(name: &'a str, dtype: Dtype, shape: &'a [usize]) -> Self {
        Self {
            name,
            dtype,
            shape,
            optional: false,
        }
    }
}

/// A tensor of another shape or element type than the model's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misshaped {
    /// Its name.
    pub name: String,
    /// Element type and shape of the model's, such as `F32 [64, 3, 3, 3]`.
    pub expected: String,
    /// Element type and shape in the file.
    pub found: String,
}

/// The tensors of a file beside those of a model: each is in exactly one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Tensors of both, in the order of the model.
    pub matched: Vec<String>,
    /// Tensors of the model that the file lacks, in the order of the model; optional ones are left out.
    pub missing: Vec<String>,
    /// Tensors of the file that the model does not have, in the order of the file.
    pub unexpected: Vec<String>,
    /// Tensors of both that differ in shape, in the order of the model.
    pub misshaped: Vec<Misshaped>,
    /// Tensors of both that differ in element type alone, in the order of the model.
    pub mistyped: Vec<Misshaped>,
}

impl Comparison {
    /// Whether file and model have the same tensors: what is asked for unless a part is enough.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshaped.is_empty()
            && self.mistyped.is_empty()
    }

    /// The tensors that match, in the order of the model. Bytes are shared.
    #[must_use]
    pub fn matched_of(&self, weights: &StateDict) -> StateDict {
        let mut matched = StateDict::new();
        for name in &self.matched {
            if let Some(tensor) = weights.get(name) {
                // A name that a model has twice is taken once.
                let _ = matched.insert(name.as_str(), tensor.clone());
            }
        }
        matched
    }
}

/// Compares the tensors of a file with those of a model, by name.
#[must_use]
pub fn compare(weights: &StateDict, wanted: &[Wanted<'_>]) -> Comparison {
    let mut comparison = Comparison::default();
    let describe = |dtype: Dtype, shape: &[usize]| format!("{dtype} {shape:?}");
    let same = |tensor: &Tensor, wanted: &Wanted<'_>| {
        tensor.dtype() == wanted.dtype && tensor.shape() == wanted.shape
    };
    for wanted in wanted {
        match weights.get(wanted.name) {
            Some(tensor) if same(tensor, wanted) => comparison.matched.push(wanted.name.into()),
            Some(tensor) => {
                let differing = match tensor.shape() == wanted.shape {
                    true => &mut comparison.mistyped,
                    false => &mut comparison.misshaped,
                };
                differing.push(Misshaped {
                    name: wanted.name.into(),
                    expected: describe(wanted.dtype, wanted.shape),
                    found: describe(tensor.dtype(), tensor.shape()),
                });
            }
            None if wanted.optional => {}
            None => comparison.missing.push(wanted.name.into()),
        }
    }
    let known: HashSet<&str> = wanted.iter().map(|wanted| wanted.name).collect();
    let unexpected = weights.names().filter(|name| !known.contains(name));
    comparison.unexpected = unexpected.map(str::to_owned).collect();
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tensor_in_one_list() {
        let mut weights = StateDict::new();
        for (name, shape) in [("other", &[1][..]), ("b", &[2, 1]), ("a", &[2]), ("n", &[])] {
            let values = vec![0.0; shape.iter().product()];
            weights
                .insert(name, Tensor::from_f32(shape, &values).unwrap())
                .unwrap();
        }
        let counter = |name| Wanted {
            optional: true,
            ..Wanted::new(name, Dtype::I64, &[])
        };
        let wanted = [
            Wanted::new("a", Dtype::F32, &[2]),
            Wanted::new("b", Dtype::F32, &[1, 2]),
            Wanted::new("c", Dtype::F32, &[]),
            counter("n"),
            counter("m"),
        ];
        let comparison = compare(&weights, &wanted);
        let misshaped = |name: &str, expected: &str, found: &str| Misshaped {
            name: name.into(),
            expected: expected.into(),
            found: found.into(),
        };
        let expected = Comparison {
            matched: vec!["a".into()],
            missing: vec!["c".into()],
            unexpected: vec!["other".into()],
            misshaped: vec![misshaped("b", "F32 [1, 2]", "F32 [2, 1]")],
            mistyped: vec![misshaped("n", "I64 []", "F32 []")],
        };
        assert_eq!(comparison, expected);
        assert!(!comparison.is_exact());
        assert_eq!(
            comparison.matched_of(&weights).names().collect::<Vec<_>>(),
            ["a"]
        );
        assert!(compare(&StateDict::new(), &[counter("n")]).is_exact());
    }
}
