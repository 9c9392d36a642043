//! The nearest known word to a mistyped one.

/// The candidate nearest to `word`, when it is near enough to be meant.
///
/// Distance is the number of slips, ASCII case and `_` against `-` ignored. At most a third of the word may differ. The
/// first of equally near candidates wins.
///
/// ```
/// let known = ["epochs", "batch-size", "lr"];
/// assert_eq!(keepbest_core::suggest::nearest("epcohs", known), Some("epochs"));
/// assert_eq!(keepbest_core::suggest::nearest("batch_size", known), Some("batch-size"));
/// assert_eq!(keepbest_core::suggest::nearest("zebra", known), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    let length = word.chars().count();
    let allowed = (length / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let folded = fold(candidate);
        let mut distance = slips(&word, &folded);
        // A word typed in part ("resnet" for "resnet18") is as good as one letter off.
        if length >= 3 && folded.starts_with(&word) {
            distance = distance.min(1);
        }
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.replace('_', "-").to_ascii_lowercase()
}

/// The slips that lead from one word to another: letters inserted, left out, replaced, and neighbours swapped
/// (Damerau-Levenshtein in its restricted form).
pub(crate) fn slips(a: &str, b: &str) -> usize {
    strsim::osa_distance(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        let count = |a: &str, b: &str| slips(&fold(a), &fold(b));
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("flaw", "lawn"), 2);
        assert_eq!(count("ab", "ba"), 1);
        assert_eq!(count("LR", "lr"), 0);
    }

    #[test]
    fn a_prefix_is_near() {
        assert_eq!(nearest("resnet", ["lenet5", "resnet18"]), Some("resnet18"));
        assert_eq!(
            nearest("simplecnn", ["simple-cnn", "lenet5"]),
            Some("simple-cnn")
        );
        assert_eq!(nearest("", ["lr"]), None);
    }

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(nearest("bat", ["cat", "hat"]), Some("cat"));
    }
}
