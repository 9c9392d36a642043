//! What the terminal can do: colours, width, or none of it.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{IsTerminal, stderr, stdout};
use std::sync::LazyLock;

use anstyle::{AnsiColor, Style};
use keepbest_core::text::visible;

/// Stands before the sign of a colour in a line that is to be written. No name from elsewhere can hold it: it is another in every
/// process.
static MARK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "\u{fdd0}{:016x}",
        RandomState::new().build_hasher().finish()
    )
});

/// A colour in a line, `{paint}` to begin and `{paint:#}` to end it: a mark that [`rendered`] turns into the terminal's codes.
/// Nothing where colours are not wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Paint(Option<Colour>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Good,
    Bad,
    Warn,
    Hint,
    Dim,
}

impl Colour {
    const ALL: [(char, Self); 5] = [
        ('g', Self::Good),
        ('b', Self::Bad),
        ('w', Self::Warn),
        ('h', Self::Hint),
        ('d', Self::Dim),
    ];

    fn style(self) -> Style {
        let bold = |colour: AnsiColor| colour.on_default().bold();
        match self {
            Self::Good => bold(AnsiColor::Green),
            Self::Bad => bold(AnsiColor::Red),
            Self::Warn => bold(AnsiColor::Yellow),
            Self::Hint => bold(AnsiColor::Cyan),
            Self::Dim => Style::new().dimmed(),
        }
    }
}

/// The sign after a mark that ends a colour.
const END: char = '.';

impl fmt::Display for Paint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(colour) = self.0 else { return Ok(()) };
        let known = Colour::ALL.iter().find(|(_, own)| *own == colour);
        let sign = match f.alternate() {
            true => END,
            false => known.map_or(END, |(sign, _)| *sign),
        };
        write!(f, "{}{sign}", *MARK)
    }
}

/// A line as it is written: what is not seen is written out, whoever it comes from, and only [`Paint`]'s marks are colours.
pub(super) fn rendered(line: &str) -> String {
    let mut parts = line.split(MARK.as_str());
    let mut text = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let mut rest = part.chars();
        let sign = rest.next();
        match Colour::ALL.iter().find(|(own, _)| Some(*own) == sign) {
            Some((_, colour)) => text += &colour.style().to_string(),
            None => text += &anstyle::Reset.to_string(),
        }
        text += &visible(rest.as_str());
    }
    text
}

/// Colours for one stream; all plain where colours are not wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Palette {
    pub good: Paint,
    pub bad: Paint,
    pub warn: Paint,
    pub hint: Paint,
    pub dim: Paint,
}

impl Palette {
    fn coloured() -> Self {
        let paint = |colour: Colour| Paint(Some(colour));
        Self {
            good: paint(Colour::Good),
            bad: paint(Colour::Bad),
            warn: paint(Colour::Warn),
            hint: paint(Colour::Hint),
            dim: paint(Colour::Dim),
        }
    }
}

/// Both output streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    /// Whether stderr is a terminal that can redraw a line.
    pub animated: bool,
    out: Palette,
    err: Palette,
}

impl Terminal {
    /// Looks at the streams and at NO_COLOR and TERM.
    pub(super) fn detect() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let coloured = !set("NO_COLOR") && !dumb;
        let palette = |on: bool| {
            if on {
                Palette::coloured()
            } else {
                Palette::default()
            }
        };
        Self {
            animated: stderr().is_terminal() && !dumb,
            out: palette(coloured && stdout().is_terminal()),
            err: palette(coloured && stderr().is_terminal()),
        }
    }

    /// Colours for stdout.
    pub(super) fn style(&self) -> Palette {
        self.out
    }

    /// Colours for stderr.
    pub(super) fn error_style(&self) -> Palette {
        self.err
    }

    /// Says on stderr what the user should know.
    pub(super) fn note(&self, text: &str) {
        let warn = self.err.warn;
        say!("{warn}note:{warn:#} {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_ours_are_codes() {
        let Palette { bad, .. } = Palette::coloured();
        assert_eq!(
            rendered(&format!("{bad}error:{bad:#} \u{1b}[32m\u{fdd0}b\n")),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m \\u001b[32m\u{fdd0}b\\n"
        );
        let Palette { bad, .. } = Palette::default();
        assert_eq!(rendered(&format!("{bad}error:{bad:#} x")), "error: x");
    }
}
