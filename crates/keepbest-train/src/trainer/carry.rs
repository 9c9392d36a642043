//! Starting from another model's weights.

use keepbest_formats::StateDict;
use serde::Serialize;

/// What was taken over from another model, by tensor name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Carried {
    /// Taken over.
    pub matched: Vec<String>,
    /// Started anew: missing in the other model, of another shape there, or the scores of other classes.
    pub reinitialised: Vec<String>,
    /// In the other model only.
    pub unused: Vec<String>,
}

/// The state dict `fresh` with every tensor that `from` has by the same name, type and shape taken from there, but for those
/// that start `anew` whatever there is.
pub(super) fn carry(
    fresh: &StateDict,
    from: &StateDict,
    anew: impl Fn(&str) -> bool,
) -> (StateDict, Carried) {
    let mut carried = Carried::default();
    let mut weights = StateDict::new();
    for (name, tensor) in fresh.iter() {
        let other = from
            .get(name)
            .filter(|other| other.shape() == tensor.shape() && other.dtype() == tensor.dtype())
            .filter(|_| !anew(name));
        let list = if other.is_some() {
            &mut carried.matched
        } else {
            &mut carried.reinitialised
        };
        list.push(name.into());
        let tensor = other.unwrap_or(tensor).clone();
        weights
            .insert(name, tensor)
            .expect("names of a state dict are unique");
    }
    carried.unused = from
        .names()
        .filter(|name| !fresh.contains(name))
        .map(Into::into)
        .collect();
    (weights, carried)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepbest_formats::Tensor;

    #[test]
    fn what_fits_is_taken_and_the_rest_is_named() {
        let dict = |tensors: &[(&str, &[usize], f32)]| {
            let mut dict = StateDict::new();
            for (name, shape, value) in tensors {
                let values = vec![*value; shape.iter().product()];
                dict.insert(*name, Tensor::from_f32(shape, &values).unwrap())
                    .unwrap();
            }
            dict
        };
        let fresh = dict(&[
            ("conv", &[2, 1], 0.0),
            ("fc", &[3], 0.0),
            ("new", &[1], 0.0),
            ("other", &[2], 0.0),
        ]);
        let from = dict(&[
            ("conv", &[2, 1], 1.0),
            ("fc", &[4], 1.0),
            ("old", &[1], 1.0),
            ("other", &[2], 1.0),
        ]);
        let (weights, carried) = carry(&fresh, &from, |name| name == "other");
        assert_eq!(carried.matched, ["conv"]);
        assert_eq!(carried.reinitialised, ["fc", "new", "other"]);
        assert_eq!(carried.unused, ["old"]);
        assert_eq!(
            weights.get("conv").unwrap().as_f32().unwrap()[..],
            [1.0, 1.0]
        );
        assert_eq!(weights.get("fc").unwrap().as_f32().unwrap()[..], [0.0; 3]);
        assert_eq!(
            weights.get("other").unwrap().as_f32().unwrap()[..],
            [0.0; 2]
        );
        assert_eq!(
            weights.names().collect::<Vec<_>>(),
            ["conv", "fc", "new", "other"]
        );
    }
}
