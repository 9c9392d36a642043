//! All that the program writes: data on stdout, words on stderr.
//!
//! Nothing else in the program writes there (a lint denies it), because output that fails must not end what it tells of: a
//! run whose terminal is gone, whose pipe nobody reads or whose log is on a full disk goes on, saves and journals.
//!
//! Words are written by a thread of their own and wait for nobody: see [`queue`]. Data is waited for, as is usual: a result that
//! is not read yet is not lost. Training writes none before it is over, and then a signal ends the wait.
//!
//! And nothing that is not seen is written, but for JSON's line breaks and colours of ours: names of files, classes, tensors and
//! runs come from elsewhere, and may hold what a terminal takes as a command. In JSON they are exact, by its own escapes.

mod queue;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keepbest_core::text::visible_lines;
use serde::Serialize;

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::rendered;
use queue::{Piece, Queue};

/// What is on its way to stderr.
static STDERR: Queue = Queue::new();

/// The time to wait for words that nobody reads, before data that comes after them and at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Words on stderr, a line of them: as `eprintln!`, which panics where this goes on.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::output::words(format_args!($($words)*)) };
}

/// Writes a line of words to stderr, one line whatever is in them; what [`say!`] stands for. Words that cannot be written are lost.
pub(super) fn words(words: fmt::Arguments<'_>) {
    let line = rendered(&in_bounds(words.to_string()));
    STDERR.put(Piece::Line(format!("{line}\n").into_bytes()));
}

/// Draws a bar on stderr, or takes it away.
pub(super) fn frame(codes: String) {
    STDERR.put(Piece::Frame(codes.into_bytes()));
}

/// Sends part of a screen to stderr.
pub(super) fn screen(codes: Vec<u8>) {
    STDERR.put(Piece::Screen(codes));
}

/// Waits until stderr has taken all that was written, but for no longer than this if it takes nothing. Tells whether it has.
pub(super) fn taken_within(patience: Duration) -> bool {
    STDERR.wait(Some(Instant::now()), patience)
}

/// Whether stderr refused what was last written, as a terminal that is gone does.
pub(super) fn is_refused() -> bool {
    STDERR.has_failed()
}

/// Waits for the words so far, as long as they get anywhere: both streams may be one terminal, and what comes next goes another way.
pub(super) fn settle() {
    STDERR.wait(None, PATIENCE);
}

/// Waits for the last words before the program ends, but not for ever.
pub(super) fn end() {
    taken_within(PATIENCE);
}

/// A line without the middle of it where it is longer than any that is read: names come from files, and may be of any length.
fn in_bounds(line: String) -> String {
    const MOST: usize = 8_000;
    let length = line.chars().count();
    if length <= MOST {
        return line;
    }
    let head: String = line.chars().take(MOST / 2).collect();
    let tail: String = line.chars().skip(length - MOST / 2).collect();
    format!("{head} [{} characters more] {tail}", length - MOST)
}

/// Whether the reader of stdout has gone away (`keepbest list | head -1`).
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads stdout any more. What is written then is lost, quietly; who has much more to write may stop.
pub(super) fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Writes bytes to stdout as they are. A reader that has gone away is no error: what was begun is done, and its exit code
/// stays what it is.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    if is_unread() {
        return Ok(());
    }
    settle();
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, "cannot write to stdout")
        }),
        Ok(()) => Ok(()),
    }
}

/// Writes one line, whatever is in it.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    bytes(format!("{}\n", rendered(text.as_ref())).as_bytes())
}

/// Writes text of several lines.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    bytes(format!("{}\n", visible_lines(text)).as_bytes())
}

/// Writes lines.
pub(super) fn lines(lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(line)
}

/// Writes a value as JSON for people and programs.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::of(Exit::Failed, &error))?;
    self::text(&text)
}

/// Writes a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::of(Exit::Failed, &error))?;
    line(text)
}
