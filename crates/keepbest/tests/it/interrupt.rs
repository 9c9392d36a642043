//! Signals: Ctrl-C and SIGTERM save and say how to go on, kill -9 loses nothing that was saved.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::{Place, Said};

/// Long enough to be interrupted several times.
const LONG: &str = "--data data --epochs 12 --batch-size 8 --lr 0.01 --eval-every 10";

/// Starts the program and waits until training begins.
fn begin(place: &Place, args: &str) -> Child {
    let mut child = place
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("files ") {
        line.clear();
        assert!(
            err.read_line(&mut line).unwrap() > 0,
            "it ended before it began"
        );
    }
    child.stderr = Some(err.into_inner());
    child
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn interrupted_at_any_moment_the_run_ends_the_same() {
    let place = Place::with_data();
    let whole = place.json(&format!("train {LONG} --name whole --quiet --json"));
    let mut interruptions = 0;
    let mut args = format!("train {LONG} --name cut");
    for attempt in 0.. {
        assert!(attempt < 60, "it does not get on");
        let child = begin(&place, &args);
        // Moments that have nothing to do with steps: from at once to well into training.
        // Later and later, so that a machine with other work gets to the end, too.
        let longer = 1 + attempt as u64 / 6;
        std::thread::sleep(Duration::from_millis(
            longer * [0, 15, 40, 90, 170, 350][attempt % 6],
        ));
        signal(&child, if attempt % 2 == 0 { "-INT" } else { "-TERM" });
        let said = Said::of(child.wait_with_output().unwrap());
        args = "train --resume cut".into();
        if said.code == 0 {
            break;
        }
        assert_eq!(said.code, 130, "{}", said.err);
        assert!(
            said.err
                .contains("go on with: keepbest train --resume runs/cut"),
            "{}",
            said.err
        );
        assert!(place.path("runs/cut/last.safetensors").exists());
        interruptions += 1;
    }
    assert!(interruptions >= 2, "{interruptions}");
    let cut = place.json("show cut --json");
    let expected = place.json("show whole --json");
    assert_eq!(cut["best"]["digest"], whole["best"]["digest"]);
    assert_eq!(cut["best"], {
        let mut best = expected["best"].clone();
        best["path"] = "runs/cut/best.safetensors".into();
        best
    });
    assert_eq!(cut["test"], expected["test"]);
    let metrics = |run: &serde_json::Value| -> Vec<serde_json::Value> {
        run["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["metrics"].clone())
            .collect()
    };
    assert_eq!(metrics(&cut), metrics(&expected));
}

#[test]
fn killed_it_goes_on_from_the_last_evaluation() {
    let place = Place::with_data();
    let whole = place.json(&format!("train {LONG} --name whole --quiet --json"));
    let child = begin(&place, &format!("train {LONG} --name cut"));
    // Once something is saved.
    for _ in 0..600 {
        if place.path("runs/cut/last.safetensors").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "-KILL");
    child.wait_with_output().unwrap();
    assert!(place.ok("list").out.contains("killed"));
    let resumed = place.json("train --resume cut --quiet --json");
    assert_eq!(resumed["best"]["digest"], whole["best"]["digest"]);
    assert_eq!(resumed["test"], whole["test"]);
    place.ok("fsck cut");
}

#[test]
fn one_run_has_one_writer() {
    let place = Place::with_data();
    let mut child = begin(&place, &format!("train {LONG} --epochs 200 --name busy"));
    place
        .run("train --resume busy")
        .fails(1, &["is being written by process"]);
    assert_eq!(place.json("list --json")[0]["status"], "training");
    // A reader is not kept out.
    place.ok("show busy");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
