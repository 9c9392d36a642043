//! How far something is that is done image by image: a bar on a terminal, a line now and then elsewhere, and nothing of what is
//! done at once.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use keepbest_model::words::{count, thousands};
use keepbest_model::{Event, Stage, Watch};
use ratatui::crossterm::terminal::window_size;

use crate::cli::output;
use crate::cli::terminal::Terminal;

/// Without a terminal, how often a line is told.
pub(super) const PLAIN_EVERY: Duration = Duration::from_secs(30);
/// On a terminal, how long it may take unsaid.
const UNSAID: Duration = Duration::from_millis(500);

/// Tells on stderr. What is drawn is taken away when this is dropped.
pub(super) struct Gauge {
    animated: bool,
    begun: Instant,
    last_plain: Instant,
    bar: Option<ProgressBar>,
}

impl Gauge {
    pub(super) fn new(terminal: &Terminal) -> Self {
        Self {
            animated: terminal.animated,
            begun: Instant::now(),
            last_plain: Instant::now(),
            bar: None,
        }
    }

    /// So many images are done.
    pub(super) fn tell(&mut self, what: &str, done: usize, of: usize) {
        let now = Instant::now();
        let words = || {
            let (done, of) = (thousands(done as u64), thousands(of as u64));
            format!("{what}: {done} of {of}")
        };
        if !self.animated {
            if now - self.last_plain >= PLAIN_EVERY {
                self.last_plain = now;
                say!("{}", words());
            }
            return;
        }
        if self.bar.is_none() && now - self.begun >= UNSAID {
            self.bar = Some(bar(of as u64));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(words());
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Does something with models and images, and tells how far it is. It is stopped by signals alone.
pub(super) fn watched<T>(terminal: &Terminal, work: impl FnOnce(Watch<'_>) -> T) -> T {
    let current: RefCell<Option<(Stage, Gauge)>> = RefCell::new(None);
    let told = |event: Event<'_>| {
        let mut current = current.borrow_mut();
        match event {
            Event::Images { stage, done, of } => {
                if current.as_ref().is_none_or(|(known, _)| *known != stage) {
                    *current = Some((stage, Gauge::new(terminal)));
                }
                if let Some((_, gauge)) = current.as_mut() {
                    gauge.tell(&stage.to_string(), done, of);
                }
            }
            Event::Begun {
                model,
                images,
                notes,
            } => {
                *current = None;
                say!("measuring {model} on {}", count(images as u64, "image"));
                notes.iter().for_each(|note| terminal.note(note));
            }
            _ => *current = None,
        }
        true
    };
    work(Watch::new(&told))
}

/// A bar at the bottom of the terminal. What it cannot draw is not drawn.
pub(super) fn bar(length: u64) -> ProgressBar {
    let target = ProgressDrawTarget::term_like_with_hz(Box::<Canvas>::default(), 10);
    let bar = ProgressBar::with_draw_target(Some(length), target);
    // The template is ours and sound; with the default bar nothing is lost.
    if let Ok(style) = ProgressStyle::with_template("{prefix}[{wide_bar}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// The terminal as bars draw on it: each frame goes the way of all that is written to stderr, so that drawing waits for nobody.
#[derive(Debug, Default)]
struct Canvas {
    frame: Mutex<String>,
}

impl Canvas {
    fn frame(&self) -> MutexGuard<'_, String> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn code(&self, n: usize, code: char) -> io::Result<()> {
        if n > 0 {
            let _ = write!(self.frame(), "\x1b[{n}{code}");
        }
        Ok(())
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        let columns = window_size().map_or(0, |size| size.columns);
        if columns == 0 { 80 } else { columns }
    }

    fn height(&self) -> u16 {
        let rows = window_size().map_or(0, |size| size.rows);
        if rows == 0 { 24 } else { rows }
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.code(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.code(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.code(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.code(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.frame().push_str(text);
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.frame().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame());
        if !frame.is_empty() {
            output::frame(frame);
        }
        Ok(())
    }
}
