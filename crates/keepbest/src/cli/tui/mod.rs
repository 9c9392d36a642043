//! `train --tui`: the run on a whole screen, with keys.
//!
//! A thread of its own draws ten times a second and reads the keys, so that both go on while a long step or an evaluation does.
//! Another waits for signals: reading keys may never come back from a terminal that is gone, and is not waited for then. Pictures
//! go the way of all that is written to stderr: a terminal that takes none at the moment holds up nothing but the next picture.
//! However the program ends, the screen is given back first: when this is dropped, from the hook of a panic, and before a second
//! Ctrl-C or other signal to stop ends it at once. After a panic, of whatever thread, nothing more is drawn over what it said.

mod draw;
mod resources;
mod watch;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write, stderr, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepbest_train::{Event, Observer, Wish};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use signal_hook::consts::SIGXCPU;
use signal_hook::iterator::{Handle, Signals};

use crate::cli::failure::{Exit, Failure};
use crate::cli::{output, signals};
use resources::Meter;
use watch::Watch;

/// Between two pictures; keys are read at once.
const TICK: Duration = Duration::from_millis(100);

/// The name of the thread that draws.
const THREAD: &str = "keepbest-screen";

/// The time to wait at the end for the thread that draws, and a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The screen of a run.
pub(super) struct Tui {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    signals: Handle,
}

struct Shared {
    watch: Mutex<Watch>,
    stop: Arc<AtomicBool>,
    over: AtomicBool,
    /// Whether a thread has panicked, and the screen is given back. Held until a picture that is drawn is sent.
    panicked: Mutex<bool>,
}

impl Shared {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn panicked(&self) -> MutexGuard<'_, bool> {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ctrl-C or another signal to stop: first in order, then at once.
    fn told_to_stop(&self) {
        if self.stop.swap(true, Ordering::Relaxed) {
            give_back();
            #[expect(
                clippy::disallowed_methods,
                reason = "the second signal ends it at once"
            )]
            std::process::exit(Exit::Interrupted as i32);
        }
        let words = "stopping after this step; once more to stop at once";
        self.watch().line(words.into());
    }

    fn key(&self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.told_to_stop();
            }
            KeyCode::Char('q' | 's') => {
                let mut watch = self.watch();
                watch.stops_after_epoch = true;
                watch.line("stopping after this epoch".into());
            }
            KeyCode::Char('e') => {
                let mut watch = self.watch();
                watch.evaluates = true;
                watch.line("evaluating after this step".into());
            }
            _ => {}
        }
    }
}

impl Tui {
    /// Takes the screen. `stop` is what ends training after a step.
    ///
    /// # Errors
    /// [`Exit::Usage`] when there is no terminal to draw on or to read keys from.
    pub(super) fn start(stop: Arc<AtomicBool>) -> Result<Self, Failure> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let lacking = [
            (!stdin().is_terminal(), "stdin is none"),
            (!stderr().is_terminal(), "stderr is none"),
            (dumb, "TERM says that it cannot draw"),
        ];
        if let Some((_, why)) = lacking.into_iter().find(|(lacks, _)| *lacks) {
            return Err(
                Failure::new(Exit::Usage, format!("--tui needs a terminal: {why}"))
                    .with_hint(Some("without --tui, plain lines tell the same".to_owned())),
            );
        }
        let failed = |error: std::io::Error| Failure::of(Exit::Failed, &error);
        let mut signals = Signals::new(signals::stopping()).map_err(failed)?;
        let handle = signals.handle();
        let shared = Arc::new(Shared {
            watch: Mutex::new(Watch::new()),
            stop,
            over: AtomicBool::new(false),
            panicked: Mutex::new(false),
        });
        give_back_on_panic(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("keepbest-signals".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    for signal in signals.forever() {
                        if signal == SIGXCPU {
                            signals::quiet_cpu_limit();
                        }
                        shared.told_to_stop();
                    }
                }
            })
            .map_err(failed)?;
        let terminal = take_screen().inspect_err(|_| give_back()).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name(THREAD.into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || show(&shared, terminal)
            })
            .inspect_err(|_| give_back())
            .map_err(failed)?;
        Ok(Self {
            shared,
            thread: Some(thread),
            signals: handle,
        })
    }

    /// Gives the screen back. What was warned of stays to be read.
    pub(super) fn close(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let since = Instant::now();
            while !thread.is_finished() && since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // When it has panicked, the hook has given the screen back.
                let _ = thread.join();
            }
            give_back();
            self.signals.close();
            let watch = self.shared.watch();
            for line in watch
                .lines
                .iter()
                .filter(|line| line.starts_with("warning"))
            {
                say!("{line}");
            }
        }
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.close();
    }
}

impl Observer for Tui {
    fn on(&mut self, event: Event<'_>) {
        self.shared.watch().on(&event);
    }

    fn wish(&mut self) -> Option<Wish> {
        let watch = self.shared.watch();
        match (watch.evaluates, watch.stops_after_epoch) {
            (true, _) => Some(Wish::Evaluate),
            (_, true) => Some(Wish::StopAfterEpoch),
            _ => None,
        }
    }
}

/// What is drawn, until it is sent as a whole.
#[derive(Clone, Default)]
struct Picture(Arc<Mutex<Vec<u8>>>);

impl Picture {
    fn take(&self) -> Vec<u8> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *codes)
    }
}

impl Write for Picture {
    fn write(&mut self, codes: &[u8]) -> std::io::Result<usize> {
        let mut picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        picture.write(codes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Screen {
    terminal: Terminal<CrosstermBackend<Picture>>,
    picture: Picture,
}

fn take_screen() -> std::io::Result<Screen> {
    enable_raw_mode()?;
    let mut picture = Picture::default();
    execute!(picture, EnterAlternateScreen, cursor::Hide)?;
    output::screen(picture.take());
    let terminal = Terminal::new(CrosstermBackend::new(picture.clone()))?;
    Ok(Screen { terminal, picture })
}

/// Brings the terminal back to what it was. Twice is once.
fn give_back() {
    let mut picture = Picture::default();
    // There is nobody left to tell.
    let _ = execute!(picture, LeaveAlternateScreen, cursor::Show);
    output::screen(picture.take());
    output::taken_within(PATIENCE);
    let _ = disable_raw_mode();
}

fn give_back_on_panic(shared: Arc<Shared>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(THREAD) {
            // Nobody is left to read keys and signals: the run ends in order.
            shared.stop.store(true, Ordering::Relaxed);
        } else {
            *shared.panicked() = true;
        }
        give_back();
        before(panic);
    }));
}

/// Draws and reads keys until the run is over.
fn show(shared: &Shared, mut screen: Screen) {
    let mut meter = Meter::default();
    let mut looked: Option<Instant> = None;
    while !shared.over.load(Ordering::Relaxed) {
        if looked.is_none_or(|looked| looked.elapsed() > Duration::from_secs(1)) {
            looked = Some(Instant::now());
            let run = shared.watch().directory.clone();
            let resources = meter.look(&run);
            shared.watch().resources = resources;
        }
        let drawn = {
            let watch = shared.watch();
            let panicked = shared.panicked();
            if *panicked {
                drop((panicked, watch));
                // Ctrl-C is a signal again.
                std::thread::sleep(TICK);
                continue;
            }
            let drawn = screen.terminal.draw(|frame| draw::draw(frame, &watch));
            let drawn = drawn.is_ok();
            output::screen(screen.picture.take());
            drawn
        };
        // Without the locks: nobody else waits for the terminal.
        while !output::taken_within(TICK) {
            if shared.over.load(Ordering::Relaxed) {
                break;
            }
        }
        // A terminal that is gone sends SIGHUP; one that only fails is tried again. Of neither there is anything to read.
        if !drawn || output::is_refused() {
            std::thread::sleep(TICK);
            continue;
        }
        match event::poll(TICK) {
            Ok(true) => match event::read() {
                Ok(event::Event::Key(key)) => shared.key(key),
                Ok(_) => {}
                Err(_) => std::thread::sleep(TICK),
            },
            Ok(false) => {}
            Err(_) => std::thread::sleep(TICK),
        }
    }
}
