//! Output that nobody takes: a pipe that is open and not read, a terminal that is stopped. Training goes on, one signal saves, and
//! results wait for their reader.

use std::io::{PipeReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, Said};

const TRAIN: &str = "train --data data --batch-size 16 --lr 0.01";

/// A pipe with no room in it. As long as its end for reading is held, whoever writes to it waits.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filling = writer.try_clone().unwrap();
    // What is taken out is filled up again, until nobody can read.
    std::thread::spawn(move || while filling.write(&[b'.'; 512]).is_ok() {});
    std::thread::sleep(Duration::from_millis(300));
    (reader, writer.into())
}

/// Waits until something is so, which takes far less than this.
fn wait_until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(300), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(mut child: Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("it does not come to an end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status();
    assert!(sent.unwrap().success());
}

fn status(place: &Place, run: &str) -> Value {
    // It may not have begun.
    let said = place.run(&format!("show {run} --json"));
    let shown: Value = serde_json::from_str(&said.out).unwrap_or_default();
    shown["status"].clone()
}

fn digest(place: &Place, run: &str) -> Value {
    place.json(&format!("show {run} --json"))["best"]["digest"].clone()
}

#[test]
fn training_does_not_wait_for_who_reads_its_words() {
    let place = Place::with_data();
    place.ok(&format!("{TRAIN} --epochs 12 --name whole --quiet"));
    let (reader, stderr) = full_pipe();
    let mut command = place.command(&format!("{TRAIN} --epochs 12 --name unread"));
    command.stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().unwrap();
    drop(command);
    assert_eq!(ended(child), 0);
    drop(reader);
    assert_eq!(status(&place, "unread"), "completed");
    assert_eq!(digest(&place, "unread"), digest(&place, "whole"));
    place.ok("fsck unread");
}

#[test]
fn one_signal_saves_though_nobody_reads() {
    let place = Place::with_data();
    let (reader, stderr) = full_pipe();
    let mut command = place.command(&format!("{TRAIN} --epochs 100000 --name cut"));
    command.stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().unwrap();
    drop(command);
    let last = place.path("runs/cut/last.safetensors");
    wait_until("it saves", || last.exists());
    signal(&child, "-TERM");
    assert_eq!(ended(child), 130);
    drop(reader);
    assert_eq!(status(&place, "cut"), "interrupted");
    place.ok("fsck cut");
}

#[test]
fn a_result_waits_for_its_reader_and_a_signal_ends_the_wait() {
    let place = Place::with_data();
    for name in ["read", "left"] {
        let (mut reader, stdout) = full_pipe();
        let mut command = place.command(&format!("{TRAIN} --epochs 2 --name {name} --json"));
        command.stdout(stdout).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(command);
        // All that there is to save is saved.
        wait_until("it is over", || status(&place, name) == "completed");
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none(), "the result is lost");
        if name == "left" {
            signal(&child, "-TERM");
            assert_eq!(ended(child), 130);
            continue;
        }
        let read = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut part = [0; 4096];
            // The pipe is filled up again and again.
            while !all.ends_with(b"}\n") {
                let taken = reader.read(&mut part).unwrap();
                all.extend(part[..taken].iter().filter(|byte| **byte != b'.'));
            }
            all
        });
        assert_eq!(ended(child), 0);
        let all = String::from_utf8(read.join().unwrap()).unwrap();
        assert!(all.starts_with('{') && all.contains("\"ended\""), "{all}");
    }
}

/// The program on a terminal of its own, which the test can stop.
fn on_a_terminal(place: &Place, args: &str) -> Child {
    let line = format!(
        "echo $$ > pid; exec {} {args}",
        env!("CARGO_BIN_EXE_keepbest")
    );
    let mut script = Command::new("script");
    script
        .current_dir(place.path("."))
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    script.spawn().expect("util-linux `script` is here")
}

#[test]
fn training_goes_on_while_its_terminal_is_stopped() {
    let place = Place::with_data();
    let args = format!("{TRAIN} --epochs 60 --name stopped");
    let mut script = on_a_terminal(&place, &args);
    let mut keys = script.stdin.take().unwrap();
    let best = place.path("runs/stopped/best.safetensors");
    wait_until("it saves", || best.exists());
    // Ctrl-S; what it shows from here on stays in the program.
    keys.write_all(b"\x13").unwrap();
    wait_until("it is over", || status(&place, "stopped") == "completed");
    // Ctrl-Q: what is said is said, the result first of all.
    keys.write_all(b"\x11").unwrap();
    let said = Said::of(script.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{}", said.out);
    for words in ["60/60", "read back from disk and measured again: the same"] {
        assert!(said.out.contains(words), "{words}\n{}", said.out);
    }
    place.ok("fsck stopped");
}

#[test]
fn training_goes_on_while_the_screen_takes_no_picture() {
    let place = Place::with_data();
    let args = format!("{TRAIN} --epochs 100000 --name stopped --tui");
    let mut script = on_a_terminal(&place, &args);
    let _keys = script.stdin.take().unwrap();
    let best = place.path("runs/stopped/best.safetensors");
    wait_until("it saves", || best.exists());
    // Nobody reads what the terminal shows any more: soon there is no room for another picture.
    signal(&script, "-STOP");
    std::thread::sleep(Duration::from_secs(10));
    let evaluations = || {
        let journal = std::fs::read_to_string(place.path("runs/stopped/journal.jsonl"));
        journal.unwrap().matches("\"evaluated\"").count()
    };
    let before = evaluations();
    wait_until("it trains on", || evaluations() > before + 3);
    let pid = std::fs::read_to_string(place.path("pid")).unwrap();
    let sent = Command::new("kill").args(["-TERM", pid.trim()]).status();
    assert!(sent.unwrap().success());
    wait_until("it saves", || status(&place, "stopped") == "interrupted");
    signal(&script, "-CONT");
    let said = Said::of(script.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.out);
    assert!(
        said.out.contains("go on with: keepbest train --resume"),
        "{}",
        said.out
    );
    place.ok("fsck stopped");
}
