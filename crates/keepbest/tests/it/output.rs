//! Output that cannot be written: a pipe that nobody reads, a full disk, closed descriptors, a terminal that is gone. None of
//! it ends a run, and nothing panics.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Place, SMALL, Said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keepbest");

/// Runs a line of bash in the place; `$K` is the program.
fn bash(place: &Place, line: &str) -> Said {
    let mut bash = Command::new("bash");
    bash.args(["-c", line])
        .current_dir(place.path("."))
        .env("K", PROGRAM)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    Said::of(bash.output().unwrap())
}

/// Waits until what is told of the run has these words.
fn wait_for(place: &Place, run: &str, status: &str) {
    for _ in 0..1200 {
        if place.path(&format!("runs/{run}/journal.jsonl")).exists()
            && place.json(&format!("show {run} --json"))["status"] == status
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{run} is not {status}: {}", place.ok("list").out);
}

#[test]
fn training_goes_on_when_nothing_can_be_told() {
    let place = Place::with_data();
    let train = "$K train --data data --epochs 8 --batch-size 16 --lr 0.01 --eval-every 4";
    let whole = bash(&place, &format!("{train} --name whole"));
    assert_eq!(whole.code, 0, "{}", whole.err);
    let digest = |run: &str| place.json(&format!("show {run} --json"))["best"]["digest"].clone();
    for (name, how) in [
        ("unread", "2> >(true)"),
        ("head", "2> >(head -n 2 >/dev/null)"),
        ("full", "2>/dev/full"),
        ("closed", "<&- >&- 2>&-"),
        ("json-full", "--json 2>/dev/full"),
        ("profile", "--profile 2>/dev/full"),
    ] {
        // The reader of a pipe is given the time to go away.
        let line = format!("sleep 0.2; {train} --name {name} {how}");
        let said = bash(&place, &line);
        assert_eq!(said.code, 0, "{name}: {}", said.err);
        assert_eq!(
            place.json(&format!("show {name} --json"))["status"],
            "completed",
            "{name}"
        );
        assert_eq!(digest(name), digest("whole"), "{name}");
        place.ok(&format!("fsck {name}"));
    }
    // A result that cannot be written is an error: of the command, not of the run.
    let said = bash(&place, &format!("{train} --name result --json >/dev/full"));
    said.fails(1, &["cannot write to stdout"]);
    assert_eq!(place.json("show result --json")["status"], "completed");
    // Nobody reads the result: the exit code is that of the run.
    let line = format!("set -o pipefail; {train} --name piped | true");
    assert_eq!(bash(&place, &line).code, 0);
    assert_eq!(digest("piped"), digest("whole"));
}

/// Starts training on a terminal of its own, with `first` done by the shell before, and takes the terminal away once something
/// is saved.
fn loses_its_terminal(place: &Place, first: &str, args: &str, saved: &str) {
    let line = format!("sh -c '{first} exec {PROGRAM} train {args}'");
    let mut script = Command::new("script")
        .current_dir(place.path("."))
        .env("TERM", "xterm-256color")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("util-linux `script` is here");
    for _ in 0..1200 {
        if place.path(saved).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(place.path(saved).exists(), "nothing was saved");
    script.kill().unwrap();
    script.wait().unwrap();
}

#[test]
fn a_terminal_that_is_gone() {
    let place = Place::with_data();
    let args = |name: &str, epochs: u32| {
        format!("--data data --epochs {epochs} --batch-size 8 --lr 0.01 --name {name}")
    };
    // The system says so by SIGHUP: the run is saved, and can go on.
    for tui in ["", "--tui"] {
        let name = format!("left{tui}");
        let saved = format!("runs/{name}/best.safetensors");
        let more = format!("{} {tui}", args(&name, 5000));
        loses_its_terminal(&place, "", &more, &saved);
        wait_for(&place, &name, "interrupted");
    }
    // Under nohup it goes on, with nowhere to write.
    let saved = "runs/stays/best.safetensors";
    loses_its_terminal(&place, "trap \"\" HUP;", &args("stays", 60), saved);
    wait_for(&place, "stays", "completed");
    place.ok("verify stays");
}

#[test]
fn every_verb_ends_quietly_when_nobody_reads() {
    let place = Place::with_data();
    place.trained("run", "");
    place.trained("other", "--seed 2");
    place.ok("data sample fashion-mnist-mini --to samples --count 4");
    let verbs = [
        "--help",
        "train --help",
        "--version",
        "list",
        "list --json",
        "show run",
        "show run --json",
        "evaluate run",
        "evaluate run --json",
        "predict run samples",
        "predict run samples --json",
        "compare run other",
        "inspect run",
        "inspect runs/run/best.safetensors --json",
        "models",
        "models show simple-cnn",
        "data list",
        "data info fashion-mnist-mini",
        "verify run",
        "verify run --json",
        "explain run",
        "fsck run",
        "prune run --dry-run",
        "completions bash",
        "thresholds run --dry-run",
        "list --where nonsense",
        "no-such-verb",
    ];
    for verb in verbs {
        let usual = place.run(verb);
        let line = |how: &str| format!("set -o pipefail; $K {verb} {how}");
        // The reader is gone before anything is written.
        let said = bash(&place, &line("| true"));
        assert_eq!(said.code, usual.code, "{verb} | true: {}", said.err);
        assert!(!said.err.contains("panicked"), "{verb}: {}", said.err);
        let said = bash(&place, &line("2>&1 | true"));
        assert_eq!(said.code, usual.code, "{verb} 2>&1 | true");
        for how in ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
            let said = bash(&place, &line(how));
            assert_eq!(said.code, usual.code, "{verb} {how}");
        }
        // A full disk is an error, and said.
        let said = bash(&place, &line(">/dev/full"));
        assert!(!said.err.contains("panicked"), "{verb}: {}", said.err);
        assert!(
            said.code == 1 && said.err.contains("cannot write to stdout")
                || said.code == usual.code
                    && (usual.out.is_empty() || verb.contains("--help") || verb == "--version"),
            "{verb} >/dev/full: {} {}",
            said.code,
            said.err
        );
        let said = bash(&place, &line(">/dev/full 2>/dev/full"));
        assert!(
            [1, usual.code].contains(&said.code),
            "{verb}: {}",
            said.code
        );
    }
}

#[test]
fn files_that_may_not_grow_fail_a_save_like_any_other() {
    let place = Place::with_data();
    // 64 KiB: less than a checkpoint. SIGXFSZ would end the program.
    let train = format!("$K train {SMALL} --name run");
    let said = bash(&place, &format!("ulimit -f 64; {train}"));
    said.fails(1, &["could not be saved", "warning:"]);
    // When there is room again, it is had again.
    let said = bash(&place, "$K fsck run --repair");
    assert_eq!(said.code, 0, "{}", said.err);
}
