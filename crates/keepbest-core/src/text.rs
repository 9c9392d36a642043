//! Names from elsewhere, made fit to be shown: names of files, classes, tensors and runs may hold anything, also what a terminal
//! takes as a command.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// The text as one line that shows everything in it: control characters (C0, C1, DEL, so line breaks and the lone escape, too),
/// marks that turn the direction of writing, and characters that are not seen at all are written as JSON writes them.
///
/// What is fit to be shown stays as it is, and what was made so does not change again.
///
/// ```
/// use keepbest_core::text::visible;
///
/// assert_eq!(visible("\u{1b}[31mred\n"), "\\u001b[31mred\\n");
/// assert_eq!(visible("größer 猫 \u{1f469}\u{200d}\u{1f52c}"), "größer 猫 \u{1f469}\u{200d}\u{1f52c}");
/// ```
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    shown(text, is_hidden)
}

/// The same for text of several lines: line breaks stay.
///
/// JSON that was written by a serialiser, which leaves such characters as they are above U+001F, is the same JSON afterwards.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| c != '\n' && is_hidden(c))
}

/// Whether every character of the text is one that is seen.
#[must_use]
pub fn is_visible(text: &str) -> bool {
    !text.chars().any(is_hidden)
}

fn shown(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !hidden(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(safe, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(safe)
}

/// Characters that a terminal acts on, that change how others are shown, or that nobody sees. The joiners U+200C and U+200D are
/// none: Persian, Hindi and emoji are spelt with them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with the characters that mean something to XML and HTML written as entities.
#[must_use]
pub fn escape_xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A path as one word of a shell's command line: quoted where a character of it means something to the shell, in the form
/// `$'...'` of bash, zsh and ksh where one is not seen or is not UTF-8.
///
/// ```
/// use keepbest_core::text::shell_word;
///
/// assert_eq!(shell_word("runs/cnn-1"), "runs/cnn-1");
/// assert_eq!(shell_word("my runs/it's"), r"'my runs/it'\''s'");
/// assert_eq!(shell_word("\u{1b}"), r"$'\x1b'");
/// ```
#[must_use]
pub fn shell_word(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c) || (!c.is_ascii() && !is_hidden(c))
    };
    match path.to_str() {
        // A word that begins like this is expanded, or is no path to the program.
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if is_visible(text) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut word = "$'".to_owned();
            for byte in path.as_os_str().as_encoded_bytes() {
                match byte {
                    b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => word.push(char::from(*byte)),
                    // Writing to a string cannot fail.
                    byte => {
                        let _ = write!(word, "\\x{byte:02x}");
                    }
                }
            }
            word.push('\'');
            word
        }
    }
}

/// The text as it is shown, cut to `width` characters of which the last are `mark`.
#[must_use]
pub fn shorten(text: &str, width: usize, mark: &str) -> String {
    let text = visible(text);
    if text.chars().count() <= width {
        return text.into();
    }
    let room = width.saturating_sub(mark.chars().count());
    let cut: String = text.chars().take(room).collect();
    format!("{}{mark}", cut.trim_end())
}

/// The text broken at blanks into lines of up to `width` characters; a word that is longer stays whole.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// An error and its causes in one line. What was told is not told again: libraries differ in whether an error repeats its source.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut words = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !words[words.len() - 1].contains(told.trim()) {
            words.push(told);
        }
        source = cause.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_written_out() {
        for (raw, told) in [
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("a\u{7f}b", "a\\u007fb"),
            ("\u{9b}31m", "\\u009b31m"),
            ("gnp\u{202e}.exe", "gnp\\u202e.exe"),
            ("\u{2066}x\u{2069}", "\\u2066x\\u2069"),
            ("cat\u{200b}", "cat\\u200b"),
            ("a\tb\r\nc\0", "a\\tb\\r\\nc\\u0000"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(raw), told);
            assert_eq!(visible(told), told);
            assert!(!is_visible(raw) && is_visible(told));
        }
        assert_eq!(visible_lines("one\ntwo\u{1b}\n"), "one\ntwo\\u001b\n");
    }

    #[test]
    fn json_stays_the_same_json() {
        let names = [
            "\u{1b}[31m\n",
            "\u{7f}\u{9b}\u{202e}",
            "\u{e0041}\u{feff}\"\\",
        ];
        let written = serde_json::to_string_pretty(&names).unwrap();
        let told = visible_lines(&written);
        assert!(told.chars().all(|c| c == '\n' || !is_hidden(c)), "{told}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&told).unwrap(), names);
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a;rm -rf $HOME"), "'a;rm -rf $HOME'");
        assert_eq!(shell_word("größe/猫"), "größe/猫");
        assert_eq!(shell_word("~"), "'~'");
        assert_eq!(shell_word("it's\n\\"), r"$'it\'s\x0a\\'");
    }
}
