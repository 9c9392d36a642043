//! What the parts of a data set are called: folders, or the cells of a table's column.

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// What a name alone says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Known(Part),
    /// Validation, or the test beside a validation set.
    Eval,
}

/// The parts that names stand for, whatever their case and marks: `Train`, `validation_set`, `hold-out`.
///
/// `eval` is the validation set unless another name is that already, as in train, dev and eval. `holdout` is held out: a
/// test set, by which nothing is chosen.
pub(crate) fn parts<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Option<Part>> {
    let meanings: Vec<Option<Meaning>> = names.map(meaning).collect();
    let has_val = meanings.contains(&Some(Meaning::Known(Part::Val)));
    let part = |meaning: Meaning| match meaning {
        Meaning::Known(part) => part,
        Meaning::Eval if has_val => Part::Test,
        Meaning::Eval => Part::Val,
    };
    let parts = meanings.into_iter().map(|meaning| meaning.map(part));
    parts.collect()
}

fn meaning(name: &str) -> Option<Meaning> {
    let letters: String = name
        .chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' ' | '.'))
        .flat_map(char::to_lowercase)
        .collect();
    let bare = ["set", "data", "split", "images"]
        .iter()
        .find_map(|suffix| letters.strip_suffix(suffix))
        .unwrap_or(&letters);
    Some(match bare {
        "train" | "training" => Meaning::Known(Part::Train),
        "val" | "valid" | "validation" | "validate" | "validating" | "dev" | "devel"
        | "development" => Meaning::Known(Part::Val),
        "test" | "testing" | "holdout" | "heldout" => Meaning::Known(Part::Test),
        "eval" | "evaluation" | "evaluate" => Meaning::Eval,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_any_case_and_with_any_marks() {
        let one = |name: &str| parts(std::iter::once(name))[0];
        for name in ["train", "Train", "TRAINING", "train_set", "Training-Data"] {
            assert_eq!(one(name), Some(Part::Train), "{name}");
        }
        for name in ["Validation", "VAL", "validate", "Dev", "dev set", "eval"] {
            assert_eq!(one(name), Some(Part::Val), "{name}");
        }
        for name in ["Test", "testing", "HoldOut", "hold-out", "test_images"] {
            assert_eq!(one(name), Some(Part::Test), "{name}");
        }
        for name in ["trains", "cat", "", "data", "valve", "set"] {
            assert_eq!(one(name), None, "{name}");
        }
    }

    #[test]
    fn eval_beside_a_validation_set_is_the_test() {
        let of = |names: &[&str]| parts(names.iter().copied());
        let (train, val, test) = (Some(Part::Train), Some(Part::Val), Some(Part::Test));
        assert_eq!(of(&["train", "dev", "eval"]), [train, val, test]);
        assert_eq!(of(&["train", "eval", "holdout"]), [train, val, test]);
        assert_eq!(of(&["train", "eval", "test"]), [train, val, test]);
    }
}
