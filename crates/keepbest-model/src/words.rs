//! Numbers, lists of names and errors as people read them.

use std::path::Path;

use keepbest_core::text::shell_word;

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 image`, `5,400 images`; a noun in `s` becomes `classes`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", thousands(number))
}

/// A metric: four decimals, or as many digits as show it.
pub fn value(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".into(),
        size if !(0.0001..100_000.0).contains(&size) => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

/// The first few of some names, and how many more there are.
pub(crate) fn few(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names.iter().take(SHOWN);
    let mut text = shown
        .map(|name| within(name))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// A name without the end of it where it is longer than any that is read: names come from files.
fn within(name: &str) -> String {
    const MOST: usize = 200;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}..", &name[..end]),
        None => name.to_owned(),
    }
}

/// What may help where a model of a run is missing or damaged.
pub(crate) fn mend_words(run: &Path) -> String {
    format!(
        "`keepbest fsck {} --repair` brings back what another file of the run still holds",
        shell_word(run)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(count(1, "image"), "1 image");
        assert_eq!(count(5400, "image"), "5,400 images");
        assert_eq!(count(2, "class"), "2 classes");
        assert_eq!(
            [0.91234, 0.0, -3.0, f64::NAN, 0.00001].map(value),
            ["0.9123", "0", "-3.0000", "NaN", "1.00e-5"]
        );
    }
}
