//! The nearest known word to a mistyped one.

/// The candidate nearest to `word`, when it is near enough to be meant.
///
/// Distance is Damerau-Levenshtein in its restricted form (insert, delete, replace, swap neighbours), ASCII case and
/// `_` against `-` ignored. At most a third of the word may differ. The first of equally near candidates wins.
///
/// ```
/// let known = ["epochs", "batch-size", "lr"];
/// assert_eq!(keepbest_model::nearest("epcohs", known), Some("epochs"));
/// assert_eq!(keepbest_model::nearest("batch_size", known), Some("batch-size"));
/// assert_eq!(keepbest_model::nearest("zebra", known), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    let allowed = (word.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let folded = fold(candidate);
        let mut distance = distance(&word, &folded);
        // A word typed in part ("resnet" for "resnet18") is as good as one letter off.
        if word.len() >= 3 && folded.starts_with(&word[..]) {
            distance = distance.min(1);
        }
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars()
        .map(|c| {
            if c == '_' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        let count = |a: &str, b: &str| distance(&fold(a), &fold(b));
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("kitten", "sitting"), 3);
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
