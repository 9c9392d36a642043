//! The program on a terminal: a bar, colours, NO_COLOR; and plain text everywhere else.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};

use crate::support::{Place, SMALL};

/// Runs the program on a pseudo-terminal of 80 columns (util-linux `script`) and gives everything it wrote there.
fn on_a_terminal(place: &Place, args: &str, env: &[(&str, &str)]) -> Option<String> {
    let mut script = Command::new("script");
    script
        .current_dir(place.path("."))
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(env.iter().copied())
        .args([
            "-qec",
            &format!("stty cols 80; {} {args}", env!("CARGO_BIN_EXE_keepbest")),
            "/dev/null",
        ]);
    let output = script.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_bar_and_colours_on_a_terminal_alone() {
    let place = Place::with_data();
    let seen = on_a_terminal(&place, &format!("train {SMALL} --epochs 6"), &[])
        .expect("util-linux `script` is here");
    assert!(seen.contains("epoch 1/6 ["), "{seen:?}");
    assert!(seen.contains(" images/s"), "{seen:?}");
    assert!(seen.contains(" left"), "{seen:?}");
    assert!(seen.contains("\x1b[1m\x1b[32mbest\x1b[0m"), "{seen:?}");

    let plain = on_a_terminal(&place, &format!("train {SMALL}"), &[("NO_COLOR", "1")]).unwrap();
    assert!(
        !plain.contains("\x1b[1m") && !plain.contains("\x1b[3"),
        "{plain:?}"
    );

    let dumb = on_a_terminal(&place, &format!("train {SMALL}"), &[("TERM", "dumb")]).unwrap();
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
}

/// What is done once a word is on the screen.
type Deed<'a> = (&'a str, &'a dyn Fn(&mut ChildStdin));

fn press(keys: &'static [u8]) -> impl Fn(&mut ChildStdin) {
    move |typed| {
        typed.write_all(keys).unwrap();
        typed.flush().unwrap();
    }
}

/// Runs `train --tui` on a pseudo-terminal of a size, with one deed after the other. Gives the exit code and everything that was
/// written there. The process id stands in the file `pid`.
fn watched(
    place: &Place,
    size: (u16, u16),
    args: &str,
    deeds: &[Deed<'_>],
) -> (Option<i32>, String) {
    let (columns, rows) = size;
    let program = env!("CARGO_BIN_EXE_keepbest");
    // What the terminal is set to after the program has ended stands in the last line.
    let line = format!(
        "stty cols {columns} rows {rows}; sh -c 'echo $$ > pid; exec {program} train --tui {args}'; code=$?; \
         stty -a | grep -o '.icanon'; exit $code"
    );
    let mut script = Command::new("script")
        .current_dir(place.path("."))
        .env("TERM", "xterm-256color")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux `script` is here");
    let (mut typed, mut out) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    let mut deeds = deeds.iter().peekable();
    loop {
        let read = out.read(&mut chunk).unwrap();
        if read == 0 {
            break;
        }
        seen.extend_from_slice(&chunk[..read]);
        while let Some((_, deed)) =
            deeds.next_if(|(word, _)| String::from_utf8_lossy(&seen).contains(word))
        {
            deed(&mut typed);
        }
    }
    assert!(
        deeds.next().is_none(),
        "{:?}",
        String::from_utf8_lossy(&seen)
    );
    let code = script.wait().unwrap().code();
    // Held open until now: the end of input would be typed, too.
    drop(typed);
    (code, String::from_utf8_lossy(&seen).into_owned())
}

/// The screen is taken: before that, Ctrl-C would be the shell's.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const HIDE_CURSOR: &str = "\x1b[?25l";

/// What was written after the screen was given back, to a terminal that shows its cursor and edits lines again.
fn given_back(seen: &str) -> &str {
    let (shown, after) = seen.rsplit_once(LEAVE).unwrap();
    assert!(shown.contains(ENTER), "{seen:?}");
    assert!(
        after.contains(SHOW_CURSOR) && !after.contains(HIDE_CURSOR),
        "{after:?}"
    );
    assert!(after.contains(" icanon"), "{after:?}");
    after
}

#[test]
fn the_whole_screen_is_taken_and_given_back() {
    let place = Place::with_data();
    let run = |name: &str| format!("{SMALL} --epochs 400 --name {name}");
    for (name, size) in [("usual", (80, 24)), ("narrow", (30, 8)), ("tiny", (4, 2))] {
        // q: the run ends after the epoch under way, tested and all.
        let (code, seen) = watched(&place, size, &run(name), &[(ENTER, &press(b"eq"))]);
        assert_eq!(code, Some(0), "{seen:?}");
        let after = given_back(&seen);
        assert!(after.contains("stopped by hand after epoch"), "{after:?}");
        let ended = place.json(&format!("show {name} --json"));
        assert_eq!(ended["status"], "stopped early");
        // Keys and all, it comes out the same again.
        place.ok(&format!("reproduce {name} --quiet"));
    }
    // Ctrl-C, typed once it trains: the run is interrupted and can go on.
    let typed: &[Deed<'_>] = &[("parameters", &press(b"\x03"))];
    let (code, seen) = watched(&place, (80, 24), &run("cut"), typed);
    assert_eq!(code, Some(130), "{seen:?}");
    let after = given_back(&seen);
    assert!(
        after.contains("go on with: keepbest train --resume"),
        "{after:?}"
    );
    assert_eq!(place.json("show cut --json")["status"], "interrupted");
    assert!(place.path("runs/cut/last.safetensors").is_file());
    // An error: told on a screen that is given back.
    let (code, seen) = watched(&place, (80, 24), "--data nowhere", &[]);
    assert_ne!(code, Some(0), "{seen:?}");
    let after = given_back(&seen);
    assert!(after.contains("error"), "{after:?}");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once_and_leaves_the_best() {
    let place = Place::with_data();
    // Each step takes far longer than it takes to read two keys, and so does saving where it stands.
    let slow = "--data data --model resnet18 --image-size 64 --resize exact --batch-size 60 --epochs 50 --eval-every 1 --name cut";
    let deeds: &[Deed<'_>] = &[("back", &press(b"\x03\x03"))];
    let (code, seen) = watched(&place, (80, 24), slow, deeds);
    assert_eq!(code, Some(130), "{seen:?}");
    let after = given_back(&seen);
    // It was not waited for the step, nor for a save.
    assert!(!after.contains("go on with"), "{after:?}");
    assert_eq!(place.json("show cut --json")["status"], "killed");
    place.ok("fsck cut --repair");
    place.ok("verify cut");
}

#[test]
fn settings_that_would_never_come_are_refused_and_the_screen_is_given_back() {
    let place = Place::with_data();
    place.trained("run", "");
    let best = std::fs::read(place.path("runs/run/best.safetensors")).unwrap();
    // Who opened it would wait for ever.
    let toml = place.path("runs/run/run.toml");
    std::fs::remove_file(&toml).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&toml)
            .status()
            .unwrap()
            .success()
    );
    let (code, seen) = watched(&place, (80, 24), "--resume run", &[]);
    assert_eq!(code, Some(1), "{seen:?}");
    let after = given_back(&seen);
    assert!(
        after.contains("it is a FIFO, not a regular file"),
        "{after:?}"
    );
    let left = std::fs::read(place.path("runs/run/best.safetensors")).unwrap();
    assert!(left == best);
}

#[test]
fn without_a_terminal_the_screen_is_refused() {
    let place = Place::with_data();
    let said = place.run(&format!("train {SMALL} --tui --name run"));
    said.fails(2, &["--tui needs a terminal", "hint"]);
    assert!(!said.err.contains('\x1b') && !place.path("runs").exists());
    place.run("train --tui --quiet").fails(2, &["--quiet"]);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let place = Place::with_data();
    let status = Command::new("bash")
        .args([
            "-o",
            "pipefail",
            "-c",
            &format!("{} models --json | true", env!("CARGO_BIN_EXE_keepbest")),
        ])
        .current_dir(place.path("."))
        .status()
        .unwrap();
    assert!(status.success());
}
