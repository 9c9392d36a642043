//! What the parts of a data set are called: folders, arrays, files, or the cells of a table's column.

use std::collections::{HashMap, HashSet};

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// The names that need no explanation.
pub(crate) const USUAL: [&str; 5] = ["train", "val", "valid", "validation", "test"];

/// What a name alone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Meaning {
    Known(Part),
    /// Validation, or the test beside a validation set.
    Eval,
    /// Validation beside a private test, as in Kaggle's competitions; else the test.
    PublicTest,
}

/// The parts that names stand for, whatever their case and marks: `Train`, `validation_set`, `hold-out`.
///
/// `eval` is the validation set unless another name is that already, as in train, dev and eval. `holdout` is held out: a
/// test set, by which nothing is chosen. Numbers do not count (`train2017`, `1_train`), nor does a word that several names
/// have in common (`seg_train` beside `seg_test`). `tr`, `va` and `te` are short for parts where all names are.
pub(crate) fn parts<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Option<Part>> {
    let names: Vec<&str> = names.collect();
    let alone = names.iter().map(|name| meaning(name));
    let mut meanings: Vec<Option<Meaning>> = alone.collect();
    let within: Vec<Option<(Meaning, Vec<String>)>> =
        names.iter().map(|name| meaning_within(name)).collect();
    // Of every word beside the part's, what the names with it stand for.
    let mut shared: HashMap<&[String], HashSet<Meaning>> = HashMap::new();
    for (meaning, beside) in within.iter().flatten() {
        shared.entry(beside).or_default().insert(*meaning);
    }
    for (found, within) in meanings.iter_mut().zip(&within) {
        if let (None, Some((meaning, beside))) = (&found, within)
            && (beside.is_empty() || shared[beside.as_slice()].len() > 1)
        {
            *found = Some(*meaning);
        }
    }
    let short: Option<Vec<Part>> = names.iter().map(|name| short(name)).collect();
    if let Some(short) = short
        && short.iter().collect::<HashSet<_>>().len() > 1
    {
        return short.into_iter().map(Some).collect();
    }
    let private = names.iter().any(|name| letters(name) == "privatetest");
    let has_val = meanings.contains(&Some(Meaning::Known(Part::Val)));
    let part = |meaning: Meaning| match meaning {
        Meaning::Known(part) => part,
        Meaning::Eval if has_val => Part::Test,
        Meaning::PublicTest if has_val || !private => Part::Test,
        Meaning::Eval | Meaning::PublicTest => Part::Val,
    };
    let parts = meanings.into_iter().map(|meaning| meaning.map(part));
    parts.collect()
}

/// Whether a name is that of a part of a cross-validation: `fold0`, `split_3`.
pub(crate) fn is_fold(name: &str) -> bool {
    let words = words(name);
    let is_number = |word: &String| word.chars().all(|letter| letter.is_ascii_digit());
    let (numbers, others): (Vec<_>, Vec<_>) = words.iter().partition(|word| is_number(word));
    let known = ["fold", "kfold", "split", "cv", "part", "partition", "shard"];
    numbers.len() == 1 && others.len() == 1 && known.contains(&others[0].as_str())
}

/// A name in lower case and without marks.
fn letters(name: &str) -> String {
    let letters = name
        .chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' ' | '.'));
    letters.flat_map(char::to_lowercase).collect()
}

/// The words of a name in lower case: parted by marks, before capital letters, and where a number begins or ends.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let begins = !letter.is_alphanumeric()
            || letter.is_uppercase() && before.is_lowercase()
            || letter.is_numeric() != before.is_numeric();
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What the only word of a name says that says something, and the words beside it but for numbers.
fn meaning_within(name: &str) -> Option<(Meaning, Vec<String>)> {
    let mut found = None;
    let mut beside = Vec::new();
    for word in words(name) {
        match meaning(&word) {
            Some(_) if found.is_some() => return None,
            Some(meaning) => found = Some(meaning),
            None if word.chars().all(char::is_numeric) => {}
            None => beside.push(word),
        }
    }
    Some((found?, beside))
}

fn short(name: &str) -> Option<Part> {
    match letters(name).as_str() {
        "tr" | "trn" => Some(Part::Train),
        "va" | "vl" => Some(Part::Val),
        "te" | "ts" | "tst" => Some(Part::Test),
        _ => None,
    }
}

fn meaning(name: &str) -> Option<Meaning> {
    let letters = letters(name);
    let bare = ["set", "data", "split", "images"]
        .iter()
        .find_map(|suffix| letters.strip_suffix(suffix))
        .unwrap_or(&letters);
    Some(match bare {
        "train" | "training" => Meaning::Known(Part::Train),
        "val" | "valid" | "validation" | "validate" | "validating" | "dev" | "devel"
        | "development" => Meaning::Known(Part::Val),
        "test" | "testing" | "holdout" | "heldout" | "privatetest" => Meaning::Known(Part::Test),
        "eval" | "evaluation" | "evaluate" => Meaning::Eval,
        "publictest" => Meaning::PublicTest,
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

    #[test]
    fn numbers_and_words_in_common_do_not_count() {
        let of = |names: &[&str]| parts(names.iter().copied());
        let (train, val, test) = (Some(Part::Train), Some(Part::Val), Some(Part::Test));
        assert_eq!(of(&["train2017", "val2017"]), [train, val]);
        assert_eq!(of(&["1_train", "2_val", "3-Test"]), [train, val, test]);
        assert_eq!(
            of(&["seg_train", "seg_test", "seg_pred"]),
            [train, test, None]
        );
        assert_eq!(of(&["imagesTrain", "imagesVal"]), [train, val]);
        assert_eq!(of(&["tr", "va", "te"]), [train, val, test]);
        assert_eq!(
            of(&["Training", "PublicTest", "PrivateTest"]),
            [train, val, test]
        );
        assert_eq!(of(&["train", "publictest"]), [train, test]);
        // Things that are called so are none.
        assert_eq!(of(&["train_station", "test_tube"]), [None, None]);
        assert_eq!(of(&["seg_train", "cat"]), [None, None]);
        assert_eq!(of(&["tr", "ta", "te"]), [None, None, None]);
        assert_eq!(of(&["tr"]), [None]);
    }

    #[test]
    fn folds_have_a_number() {
        for name in ["fold0", "Fold_3", "split-1", "cv 2"] {
            assert!(is_fold(name), "{name}");
        }
        for name in ["fold", "cat3", "3", "manifold1", "fold_a_1"] {
            assert!(!is_fold(name), "{name}");
        }
    }
}
