//! Stratified splits: index lists that are a pure function of (labels, fraction, seed).

use crate::rng::{CounterRng, Stream};
use crate::{SplitError, Subset};

/// The two parts of a split: sorted index lists.
pub type Parts = (Vec<usize>, Vec<usize>);

/// The three parts of a split: sorted index lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreeParts {
    /// To train on.
    pub train: Vec<usize>,
    /// To select by.
    pub val: Vec<usize>,
    /// To test the best on, once.
    pub test: Vec<usize>,
}

/// Splits `labels` into (train, val) so that every class gives its share of `fraction` to val.
///
/// The size of val is `fraction * labels.len()` rounded half away from zero, at least 1. It is shared among the classes
/// by largest remainders (Hamilton's method; equal remainders: the lower class first), and every class keeps at least
/// one image in train. Which images of a class go is decided by `seed`. Both lists are sorted.
///
/// # Errors
/// When `fraction` is not between 0 and 1, when there are no labels, or when a class has a single image: it cannot be in
/// both parts.
///
/// ```
/// let labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
/// let (train, val) = keepbest_data::split::stratified(&labels, 0.5, 42)?;
/// assert_eq!(val.iter().filter(|&&i| labels[i] == 0).count(), 2);
/// assert_eq!(val.iter().filter(|&&i| labels[i] == 1).count(), 3);
/// assert_eq!(train.len(), 5);
/// # Ok::<(), keepbest_data::SplitError>(())
/// ```
pub fn stratified(labels: &[u32], fraction: f64, seed: u64) -> Result<Parts, SplitError> {
    take_out(labels, fraction, seed, Stream::ValSplit, 1)
}

/// Splits `labels` into (train, val, test): test is taken out first, then val as in [`stratified`]; `val_fraction` and
/// `test_fraction` are of all images. A class with two images gives none to test.
///
/// # Errors
/// As [`stratified`]; also when the two fractions add up to 1 or more.
pub fn stratified_three(
    labels: &[u32],
    val_fraction: f64,
    test_fraction: f64,
    seed: u64,
) -> Result<ThreeParts, SplitError> {
    let together = val_fraction + test_fraction;
    if together >= 1.0 {
        return Err(SplitError::Fraction { fraction: together });
    }
    let (rest, test) = take_out(labels, test_fraction, seed, Stream::TestSplit, 2)?;
    let rest_labels: Vec<u32> = rest.iter().map(|&index| labels[index]).collect();
    let (train, val) = stratified(&rest_labels, val_fraction / (1.0 - test_fraction), seed)?;
    let original = |part: Vec<usize>| part.into_iter().map(|index| rest[index]).collect();
    Ok(ThreeParts {
        train: original(train),
        val: original(val),
        test,
    })
}

/// Takes a stratified part out of `labels`, leaving at least `keep` images of every class.
fn take_out(
    labels: &[u32],
    fraction: f64,
    seed: u64,
    stream: Stream,
    keep: usize,
) -> Result<Parts, SplitError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(SplitError::Fraction { fraction });
    }
    if labels.is_empty() {
        return Err(SplitError::Empty);
    }
    let members = by_class(labels);
    if let Some((&class, images)) = members.iter().find(|(_, images)| images.len() < 2) {
        return Err(SplitError::ClassTooSmall {
            class,
            name: None,
            images: images.len(),
            needed: 2,
        });
    }
    let sizes: Vec<usize> = members.values().map(Vec::len).collect();
    let quotas = largest_remainder(&sizes, fraction, keep);

    let mut taken = vec![false; labels.len()];
    for ((&class, images), quota) in members.iter().zip(quotas) {
        let mut order = images.clone();
        CounterRng::new(seed, stream, &[u64::from(class)]).shuffle(&mut order);
        for &index in &order[..quota] {
            taken[index] = true;
        }
    }
    Ok((0..labels.len()).partition(|&index| !taken[index]))
}

fn by_class(labels: &[u32]) -> std::collections::BTreeMap<u32, Vec<usize>> {
    let mut members = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (index, &label) in labels.iter().enumerate() {
        members.entry(label).or_default().push(index);
    }
    members
}

/// The number to take of each class: `fraction` of it rounded down, then one more for those with the largest remainders
/// until the total is reached; never so many that fewer than `keep` stay.
fn largest_remainder(sizes: &[usize], fraction: f64, keep: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let wanted = ((total as f64 * fraction).round() as usize).max(1);
    let room = |class: usize| sizes[class].saturating_sub(keep);
    let shares: Vec<f64> = sizes.iter().map(|&size| size as f64 * fraction).collect();
    let mut quotas: Vec<usize> = shares
        .iter()
        .enumerate()
        .map(|(c, share)| (share.floor() as usize).min(room(c)))
        .collect();

    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|&a, &b| {
        (shares[b] - shares[b].floor())
            .total_cmp(&(shares[a] - shares[a].floor()))
            .then(a.cmp(&b))
    });
    let mut missing = wanted.saturating_sub(quotas.iter().sum());
    // More than one round only where small classes could not give their share.
    while missing > 0 {
        let before = missing;
        for &class in &by_remainder {
            if missing > 0 && quotas[class] < room(class) {
                quotas[class] += 1;
                missing -= 1;
            }
        }
        if missing == before {
            break;
        }
    }
    quotas
}

/// What the classes of splits lack, in words: `parts` are their names and images.
pub(crate) fn class_notes(classes: &[String], parts: &[(&str, Option<&Subset>)]) -> Vec<String> {
    let mut notes = Vec::new();
    if let [only] = classes {
        notes.push(format!(
            "all images are of one class, `{only}`: there is nothing to tell apart"
        ));
    }
    // A class that cannot be learned is told once.
    let mut told = vec![false; classes.len()];
    for (split, images) in parts {
        let Some(images) = images else { continue };
        let mut found = vec![false; classes.len()];
        for label in images.labels() {
            found[label as usize] = true;
        }
        let missing: Vec<&str> = (0..classes.len())
            .filter(|&class| !found[class] && !told[class])
            .map(|class| classes[class].as_str())
            .collect();
        if missing.is_empty() {
            continue;
        }
        let what = if *split == "train" {
            told = found.iter().map(|found| !found).collect();
            "it cannot be learned"
        } else {
            "its metrics there say nothing"
        };
        notes.push(format!(
            "{split} has no images of {}: {what}",
            named_classes(&missing)
        ));
    }
    notes
}

/// Classes in words: ``class `a` ``, or ``5 classes (`a`, `b`, `c`, ...)``.
fn named_classes(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    if let [only] = names {
        return format!("class `{only}`");
    }
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{} classes ({}{more})", names.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_decide_and_ties_go_to_the_lower_class() {
        assert_eq!(largest_remainder(&[10, 10, 10], 0.1, 1), [1, 1, 1]);
        assert_eq!(largest_remainder(&[5, 5, 5, 5], 0.1, 1), [1, 1, 0, 0]);
        assert_eq!(largest_remainder(&[7, 13], 0.1, 1), [1, 1]);
        assert_eq!(largest_remainder(&[600; 10], 0.1, 1), [60; 10]);
    }

    #[test]
    fn every_class_keeps_images() {
        assert_eq!(largest_remainder(&[2, 2, 100], 0.9, 1), [1, 1, 92]);
        assert_eq!(largest_remainder(&[2, 2], 0.9, 1), [1, 1]);
        assert_eq!(largest_remainder(&[2, 2], 0.5, 2), [0, 0]);
    }

    #[test]
    fn a_class_with_one_image_is_an_error_that_names_it() {
        let error = stratified(&[0, 0, 1, 2, 2], 0.2, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "class 1 has 1 image: a split needs at least 2"
        );
        let error = error.named(&["cat".to_owned(), "dog".to_owned()]);
        assert_eq!(
            error.to_string(),
            "class `dog` has 1 image: a split needs at least 2"
        );
    }

    #[test]
    fn fractions_outside_are_errors() {
        for fraction in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(
                    stratified(&[0, 0], fraction, 0),
                    Err(SplitError::Fraction { .. })
                ),
                "{fraction}"
            );
        }
        assert_eq!(stratified(&[], 0.5, 0), Err(SplitError::Empty));
        assert_eq!(
            stratified_three(&[0, 0, 0, 0], 0.5, 0.75, 0),
            Err(SplitError::Fraction { fraction: 1.25 })
        );
        assert!(matches!(
            stratified_three(&[0, 0, 0, 0], f64::NAN, 0.5, 0),
            Err(SplitError::Fraction { .. })
        ));
    }

    #[test]
    fn the_split_of_a_seed_never_changes() {
        let labels: Vec<u32> = (0..40).map(|i| i % 4).collect();
        let (_, val) = stratified(&labels, 0.2, 7).unwrap();
        assert_eq!(val, [0, 1, 3, 6, 20, 25, 31, 38]);
        assert_ne!(stratified(&labels, 0.2, 8).unwrap().1, val);
    }
}
