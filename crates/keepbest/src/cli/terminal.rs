//! What the terminal can do: colours, width, or none of it.

use std::io::{IsTerminal, stderr, stdout};

use anstyle::{AnsiColor, Style};

/// Colours for one stream; all plain where colours are not wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    pub good: Style,
    pub bad: Style,
    pub warn: Style,
    pub hint: Style,
    pub dim: Style,
}

impl Palette {
    fn coloured() -> Self {
        let colour = |colour: AnsiColor| colour.on_default();
        Self {
            good: colour(AnsiColor::Green).bold(),
            bad: colour(AnsiColor::Red).bold(),
            warn: colour(AnsiColor::Yellow).bold(),
            hint: colour(AnsiColor::Cyan).bold(),
            dim: Style::new().dimmed(),
        }
    }
}

/// Both output streams.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Whether stderr is a terminal that can redraw a line.
    pub animated: bool,
    out: Palette,
    err: Palette,
}

impl Terminal {
    /// Looks at the streams and at NO_COLOR and TERM.
    pub fn detect() -> Self {
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
    pub fn style(&self) -> Palette {
        self.out
    }

    /// Colours for stderr.
    pub fn error_style(&self) -> Palette {
        self.err
    }

    /// Says on stderr what the user should know.
    pub fn note(&self, text: &str) {
        let warn = self.err.warn;
        say!("{warn}note:{warn:#} {text}");
    }
}
