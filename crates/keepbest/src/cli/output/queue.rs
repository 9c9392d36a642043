//! What is on its way to stderr. A thread of its own writes it, so that whoever speaks never waits for whoever reads: a pipe may
//! be open and not read, a terminal stopped (Ctrl-S), a connection stalled, and training goes on.
//!
//! Of what is not read so much is kept: then the oldest lines go, and their number is told in their place. Of frames of a bar
//! that follow each other the latest alone is kept.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// The most that is kept, in bytes.
const MOST: usize = 256 << 10;

/// What is written at once: what POSIX keeps in one piece in a pipe, so that lines of several programs stay apart.
const AT_ONCE: usize = 4096;

/// Between two tries to write where nothing can be taken at the moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Something to write.
pub(super) enum Piece {
    /// A line of words with its end.
    Line(Vec<u8>),
    /// A bar drawn anew from the line's begin on, or taken away: the next one stands for it.
    Frame(Vec<u8>),
    /// A part of a screen, which nothing else stands for. Whoever draws screens waits for each.
    Screen(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Line(bytes) | Self::Frame(bytes) | Self::Screen(bytes) => bytes,
        }
    }
}

/// Pieces in their order, and the thread that writes them, which begins with the first.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Piece>,
    /// Bytes of what waits.
    bytes: usize,
    /// Lines that made room for later ones, not yet told.
    left_out: u64,
    /// Whether a piece is being written.
    busy: bool,
    /// When a part was last written, or began to wait.
    moved: Option<Instant>,
    /// Whether the last piece could not be written.
    failed: bool,
    /// Whether there is a thread, once it is known.
    has_thread: Option<bool>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.left_out == 0 && !self.busy
    }

    fn push(&mut self, piece: Piece) {
        if self.is_idle() {
            self.moved = Some(Instant::now());
        }
        if matches!(
            (&piece, self.waiting.back()),
            (Piece::Frame(_), Some(Piece::Frame(_)))
        ) {
            let before = self.waiting.pop_back();
            self.bytes -= before.map_or(0, |piece| piece.bytes().len());
        }
        self.bytes += piece.bytes().len();
        self.waiting.push_back(piece);
        while self.bytes > MOST {
            let newest = self.waiting.len() - 1;
            let mut older = self.waiting.iter().take(newest);
            let Some(line) = older.position(|piece| matches!(piece, Piece::Line(_))) else {
                break;
            };
            let line = self.waiting.remove(line);
            self.bytes -= line.map_or(0, |line| line.bytes().len());
            self.left_out += 1;
        }
    }

    fn pop(&mut self) -> Option<Piece> {
        let lines = match std::mem::take(&mut self.left_out) {
            0 => {
                let piece = self.waiting.pop_front()?;
                self.bytes -= piece.bytes().len();
                return Some(piece);
            }
            1 => "a line is".to_owned(),
            more => format!("{more} lines are"),
        };
        let note = format!("note: {lines} left out here: nobody read them\n");
        Some(Piece::Line(note.into_bytes()))
    }
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                left_out: 0,
                busy: false,
                moved: None,
                failed: false,
                has_thread: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a piece, and waits for nobody. Where no thread can be started, it is written at once instead.
    pub(super) fn put(&'static self, piece: Piece) {
        let mut state = self.lock();
        let has_thread = *state.has_thread.get_or_insert_with(|| {
            let thread = std::thread::Builder::new().name("keepbest-stderr".into());
            thread.spawn(|| self.write_all()).is_ok()
        });
        if has_thread {
            state.push(piece);
            self.changed.notify_all();
        } else {
            drop(state);
            write(piece.bytes(), || ());
        }
    }

    fn write_all(&self) {
        let mut state = self.lock();
        loop {
            let Some(piece) = state.pop() else {
                state.busy = false;
                self.changed.notify_all();
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy = true;
            drop(state);
            let moved = || self.lock().moved = Some(Instant::now());
            let written = write(piece.bytes(), moved);
            state = self.lock();
            state.failed = !written;
        }
    }

    /// Waits until all is written, or nothing has been for so long, counted from `since` at the earliest. Tells whether it is.
    pub(super) fn wait(&self, since: Option<Instant>, patience: Duration) -> bool {
        let mut state = self.lock();
        loop {
            if state.is_idle() {
                return true;
            }
            let quiet = state.moved.max(since).map_or(patience, |it| it.elapsed());
            let Some(left) = patience.checked_sub(quiet).filter(|left| !left.is_zero()) else {
                return false;
            };
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the last piece could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }
}

/// Writes to stderr, and tells of each part; what cannot be written is lost. Not by `std::io::stderr`, whose lock would be held by
/// whoever waits for a reader.
fn write(mut bytes: &[u8], mut moved: impl FnMut()) -> bool {
    while !bytes.is_empty() {
        let part = &bytes[..bytes.len().min(AT_ONCE)];
        match rustix::io::write(std::io::stderr(), part) {
            Ok(written) => {
                bytes = &bytes[written..];
                moved();
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> State {
        let queue = Queue::new();
        queue.state.into_inner().unwrap()
    }

    #[test]
    fn of_frames_the_latest_is_kept_and_lines_stay_apart() {
        let mut state = empty();
        for (at, frame) in ["a", "b", "c"].into_iter().enumerate() {
            state.push(Piece::Frame(frame.into()));
            if at == 1 {
                state.push(Piece::Line("line\n".into()));
            }
        }
        let left: Vec<Vec<u8>> = std::iter::from_fn(|| state.pop())
            .map(|piece| piece.bytes().to_vec())
            .collect();
        assert_eq!(left, [&b"b"[..], b"line\n", b"c"]);
        assert_eq!((state.bytes, state.is_idle()), (0, true));
    }

    #[test]
    fn what_is_not_read_is_bounded_and_told() {
        let mut state = empty();
        let lines = 3 * MOST / 100;
        for number in 0..lines {
            state.push(Piece::Line(format!("{number:099}\n").into_bytes()));
            assert!(state.bytes <= MOST);
        }
        let note = state.pop().unwrap();
        let kept: Vec<Piece> = std::iter::from_fn(|| state.pop()).collect();
        let words = format!("note: {} lines are left out here", lines - kept.len());
        assert!(note.bytes().starts_with(words.as_bytes()));
        // The latest are kept, such as what went wrong at the end.
        let last = kept.last().unwrap().bytes();
        assert_eq!(last, format!("{:099}\n", lines - 1).as_bytes());
        assert!(kept.len() > MOST / 200);
    }
}
