//! The screen of a real run drawn into memory: what it says, and that no size breaks it. And what a panic leaves of a real
//! terminal.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use keepbest_train::{Event, Observer, Outcome, Settings, Wish, train};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::watch::Watch;
use super::{THREAD, TICK, Tui};

/// Takes in a run, and wishes for an evaluation early in the first epoch and for the end after the third.
struct Watched {
    watch: Watch,
    measured: Vec<u64>,
}

impl Observer for Watched {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Measured(judged) = &event {
            self.measured.push(judged.step);
        }
        self.watch.on(&event);
    }

    fn wish(&mut self) -> Option<Wish> {
        let progress = self.watch.progress?;
        match (progress.step, progress.epoch) {
            (2, _) => Some(Wish::Evaluate),
            (_, 3) => Some(Wish::StopAfterEpoch),
            _ => None,
        }
    }
}

/// A run of four classes of small pictures that is stopped by hand after three of nine epochs.
fn watched() -> Watched {
    let place = tempfile::tempdir().unwrap();
    for class in 0..4u32 {
        let folder = place.path().join(format!("images/class{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..20u32 {
            let picture = image::GrayImage::from_fn(12, 12, |x, y| {
                image::Luma([((x * (class + 1) + y * 7 + i * 13) * 11 % 256) as u8])
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let settings = format!(
        "data = {:?}\nmodel = \"lenet5\"\nimage-size = 28\nresize = \"exact\"\nepochs = 9\nbatch-size = 8\nname = \"watched\"\n\
         runs-dir = {:?}\nmonitor = [\"val/accuracy\", \"val/log_loss\"]\nthreads = 1",
        place.path().join("images"),
        place.path().join("runs")
    );
    let settings = Settings::from_toml(&settings).unwrap();
    let mut watched = Watched {
        watch: Watch::new(),
        measured: Vec::new(),
    };
    let outcome = train(&settings, "", &mut watched, &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(finished) = outcome else {
        panic!("it was interrupted");
    };
    assert_eq!(finished.epoch, 3);
    watched
}

fn screen(watch: &Watch, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, watch)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn a_run_is_seen_and_keys_are_followed() {
    let nothing = screen(&Watch::new(), 80, 24);
    assert!(nothing.contains("reading the data") && nothing.contains("nothing measured yet"));

    let Watched { watch, measured } = watched();
    // Asked for after the second step, then at the end of each of three epochs.
    let batches = measured[1];
    assert_eq!(measured, [2, batches, 2 * batches, 3 * batches]);
    let small = screen(&watch, 80, 24);
    for words in [
        "watched",
        "lenet5",
        "images: ",
        "max val/accuracy",
        "epoch 3/9",
        "┌loss",
        "┌val/accuracy",
        "best  ",
        "best:val/log_loss  ",
        "on disk and read back",
        "q: stop after this epoch   e: evaluate now   Ctrl-C: stop at once",
        "stopping early: stopped by hand after epoch 3",
    ] {
        assert!(small.contains(words), "{words:?} is not in\n{small}");
    }
    // The curves are drawn.
    assert!(
        small
            .chars()
            .any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)),
        "{small}"
    );
    let large = screen(&watch, 200, 50);
    for words in ["train/loss", "3/9", "1/9", "monitored"] {
        assert!(large.contains(words), "{words:?} is not in\n{large}");
    }
    // A run of one point, of none, and of no size at all.
    for (width, height) in [
        (1, 1),
        (3, 50),
        (200, 2),
        (20, 8),
        (40, 12),
        (79, 23),
        (81, 25),
        (132, 43),
    ] {
        screen(&watch, width, height);
        screen(&Watch::new(), width, height);
    }
}

/// Says to a test that it is to be what runs on the terminal.
const ON_A_TERMINAL: &str = "KEEPBEST_TEST_ON_A_TERMINAL";

fn is_on_a_terminal() -> bool {
    std::env::var_os(ON_A_TERMINAL).is_some()
}

/// Runs one of these tests on a pseudo-terminal (util-linux `script`): what stood there before the screen was given back for
/// the first time, and after.
fn panicking(test: &str) -> (String, String) {
    let program = std::env::current_exe().unwrap();
    let line = format!(
        "stty cols 80 rows 24; {} --exact --nocapture cli::tui::tests::{test}; stty -a | grep -o '.icanon'",
        program.display()
    );
    let output = Command::new("script")
        .env("TERM", "xterm-256color")
        .env(ON_A_TERMINAL, "")
        .args(["-qec", &line, "/dev/null"])
        .output()
        .expect("util-linux `script` is here");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let (shown, after) = seen.split_once("\x1b[?1049l").expect(&seen);
    assert!(
        shown.contains("\x1b[?1049h") && shown.contains("measured"),
        "{seen:?}"
    );
    assert!(after.starts_with("\x1b[?25h"), "{after:?}");
    assert!(after.contains("as if by mistake"), "{after:?}");
    assert!(after.contains(" icanon"), "{after:?}");
    (shown.to_owned(), after.to_owned())
}

/// A screen that has been drawn.
fn drawn(stop: &Arc<AtomicBool>) -> Tui {
    let tui = Tui::start(Arc::clone(stop)).unwrap();
    // Long, for a machine that has other work.
    sleep(20 * TICK);
    tui
}

/// Whether it becomes true soon.
fn comes(stop: &AtomicBool) -> bool {
    (0..400).any(|_| {
        sleep(Duration::from_millis(50));
        stop.load(Ordering::Relaxed)
    })
}

#[test]
fn a_panic_gives_the_screen_back_before_it_is_told() {
    if is_on_a_terminal() {
        // Nothing but the panic's hook gives it back.
        std::mem::forget(drawn(&Arc::default()));
        panic!("as if by mistake");
    }
    let (_, after) = panicking("a_panic_gives_the_screen_back_before_it_is_told");
    assert!(!after.contains("\x1b[?25l"), "{after:?}");
}

#[test]
fn nothing_is_drawn_over_the_panic_of_another_thread_and_ctrl_c_goes_on_working() {
    if is_on_a_terminal() {
        let stop = Arc::default();
        let tui = drawn(&stop);
        let panicked = std::thread::spawn(|| panic!("as if by mistake")).join();
        assert!(panicked.is_err());
        tui.shared.watch().line("drawnover".into());
        sleep(5 * TICK);
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
        println!("stops: {}", comes(&stop));
        return;
    }
    let (_, after) =
        panicking("nothing_is_drawn_over_the_panic_of_another_thread_and_ctrl_c_goes_on_working");
    assert!(after.contains("stops: true"), "{after:?}");
    assert!(
        !after.contains("drawnover") && !after.contains("\x1b[?25l"),
        "{after:?}"
    );
}

#[test]
fn a_panic_of_the_screen_ends_the_run_in_order() {
    if is_on_a_terminal() {
        let stop = Arc::default();
        let _tui = drawn(&stop);
        let screen = std::thread::Builder::new().name(THREAD.into());
        let panicked = screen.spawn(|| panic!("as if by mistake")).unwrap().join();
        assert!(panicked.is_err());
        println!("stops: {}", comes(&stop));
        return;
    }
    let (_, after) = panicking("a_panic_of_the_screen_ends_the_run_in_order");
    assert!(after.contains("stops: true"), "{after:?}");
}

#[test]
fn what_is_not_seen_is_written_out() {
    let mut watch = Watch::new();
    watch.line("note: \u{1b}[31m\u{202e}x".into());
    assert_eq!(watch.lines, ["note: \\u001b[31m\\u202ex"]);
}
