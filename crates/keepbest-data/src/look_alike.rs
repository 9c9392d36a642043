//! Names that look the same and are not: a letter and its mark as one character of Unicode, or as two.
//!
//! macOS and programs that pass through it write `e` and an accent apart (form NFD) where others write `é` (NFC).

/// What to do about names that differ in this way alone.
pub(crate) const ADVICE: &str = "names that look alike are written in two forms of Unicode, with letters and their marks apart (as macOS \
     does) and as one; bring them to one form, folders such as by `convmv -r -f utf8 -t utf8 --nfc --notest FOLDER`";

/// Whether two names differ in nothing but that letters stand with their marks in one of them and apart in the other, as far as it
/// can be told without tables of all letters: which letter and mark stand for which is not looked at.
pub(crate) fn look_alike(one: &str, other: &str) -> bool {
    let (one_letters, other_letters) = (letters(one), letters(other));
    one != other
        && one_letters.len() == other_letters.len()
        && one_letters
            .iter()
            .zip(&other_letters)
            .all(|(one, other)| one == other || is_composed(one, other) || is_composed(other, one))
}

/// The letters with the marks that follow each.
fn letters(name: &str) -> Vec<&str> {
    let begins: Vec<usize> = name
        .char_indices()
        .filter(|(at, letter)| *at == 0 || !is_mark(*letter))
        .map(|(at, _)| at)
        .collect();
    let ends = begins.iter().skip(1).copied().chain([name.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|(&begin, end)| &name[begin..end])
        .collect()
}

/// A combining mark of European writing or of Japanese, or a vowel or final of a Korean syllable.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{3099}' | '\u{309a}' | '\u{1160}'..='\u{11ff}')
}

/// Whether the first is a letter with marks apart, and the second a single one that may stand for it.
fn is_composed(apart: &str, single: &str) -> bool {
    let mut single = single.chars();
    apart.chars().count() > 1
        && single
            .next()
            .is_some_and(|letter| letter.is_alphabetic() && !letter.is_ascii())
        && single.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_two_forms() {
        for (apart, composed) in [
            ("cafe\u{301}", "caf\u{e9}"),
            ("A\u{30a}sa", "\u{c5}sa"),
            ("\u{304b}\u{3099}", "\u{304c}"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("e\u{323}\u{302}", "\u{1ec7}"),
        ] {
            assert!(look_alike(apart, composed), "{composed}");
            assert!(look_alike(composed, apart), "{composed}");
        }
        for (one, other) in [
            ("cafe", "caf\u{e9}"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("caf\u{e8}", "caf\u{e9}"),
            ("cafe\u{301}s", "caf\u{e9}"),
            ("cat", "dog"),
        ] {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }
}
