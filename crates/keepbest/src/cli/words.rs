//! Numbers and lists as people read them.

use std::time::Duration;

use keepbest_core::text::{self, visible};

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

/// `1 image`, `5,400 images`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// `512 B`, `1.7 MB`: powers of 1000.
pub fn bytes(number: u64) -> String {
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
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
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

/// The text as it is shown, cut to `width` characters, the end marked.
pub fn shorten(text: &str, width: usize) -> String {
    text::shorten(text, width, "..")
}

/// The end of a path or of a name with dots, as it is shown: what tells it from its neighbours. The cut is marked.
pub fn tail(text: &str, width: usize) -> String {
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
    fn numbers() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(count(1, "image"), "1 image");
        assert_eq!(count(5400, "image"), "5,400 images");
        assert_eq!(
            [12, 1500, 999_999, 1_700_000_000].map(bytes),
            ["12 B", "1.5 kB", "1.0 MB", "1.7 GB"]
        );
        assert_eq!(
            [0.91234, 0.0, -3.0, f64::NAN, 0.00001].map(value),
            ["0.9123", "0", "-3.0000", "NaN", "1.00e-5"]
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
