//! Sizes, times and long names as people read them.

use std::time::Duration;

use keepbest_core::text::{self, visible};

/// `512 B`, `1.7 MB`: powers of 1000.
pub(super) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" {
                format!("{number} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// `0.4s`, `42s`, `3m 05s`, `2h 07m`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The text as it is shown, cut to `width` characters, the end marked.
pub(super) fn shorten(text: &str, width: usize) -> String {
    text::shorten(text, width, "..")
}

/// The end of a path or of a name with dots, as it is shown: what tells it from its neighbours. The cut is marked.
pub(super) fn tail(text: &str, width: usize) -> String {
    let text = visible(text);
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let end = text.chars().skip(length + 2 - width.max(2));
    "..".chars().chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            [12, 1500, 999_999, 1_700_000_000].map(bytes),
            ["12 B", "1.5 kB", "1.0 MB", "1.7 GB"]
        );
    }

    #[test]
    fn times() {
        let told = [350, 42_000, 185_000, 7_620_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(told, ["0.3s", "42s", "3m 05s", "2h 07m"]);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(tail("trouser", 7), "trouser");
        assert_eq!(tail("photos/cat/0012.png", 13), "..at/0012.png");
        assert_eq!(tail("\u{1b}x", 5), "..1bx");
        assert_eq!(shorten("trouser", 7), "trouser");
        assert_eq!(shorten("ankle boot", 7), "ankle..");
    }
}
