//! The program on a terminal: a bar, colours, NO_COLOR; and plain text everywhere else.

use std::process::Command;

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
