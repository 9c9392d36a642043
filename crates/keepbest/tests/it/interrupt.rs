//! Signals: Ctrl-C and all others that ask to stop save and say how to go on, kill -9 loses nothing that was saved; an image that
//! fails in the middle ends a run as they do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::{Place, Said};

/// Long enough to be interrupted several times.
const LONG: &str = "--data data --epochs 12 --batch-size 8 --lr 0.01 --eval-every 10";

/// Starts the program and waits until training begins.
fn begin(place: &Place, args: &str) -> Child {
    let mut command = place.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    begun(command.spawn().unwrap())
}

/// Waits until training begins.
fn begun(mut child: Child) -> Child {
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

/// Waits until a process catches a signal by its number, as `/proc` tells.
fn wait_until_it_catches(child: &Child, number: u32) {
    let status = format!("/proc/{}/status", child.id());
    for _ in 0..1200 {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught & (1 << (number - 1)) != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it does not catch signal {number}");
}

const SIGTERM: u32 = 15;

#[test]
fn every_signal_to_stop_saves() {
    let place = Place::with_data();
    let whole = place.json(&format!("train {LONG} --name whole --quiet --json"));
    for name in ["HUP", "USR1", "USR2", "XCPU"] {
        let child = begin(&place, &format!("train {LONG} --epochs 400 --name {name}"));
        signal(&child, &format!("-{name}"));
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, 130, "{name}: {}", said.err);
        let told = format!("go on with: keepbest train --resume runs/{name}");
        assert!(said.err.contains(&told), "{name}: {}", said.err);
        let shown = place.json(&format!("show {name} --json"));
        assert_eq!(shown["status"], "interrupted", "{name}");
        place.ok(&format!("fsck {name}"));
    }
    // It goes on as if nothing had been.
    let child = begin(&place, &format!("train {LONG} --name cut"));
    signal(&child, "-USR1");
    child.wait_with_output().unwrap();
    let resumed = place.json("train --resume cut --quiet --json");
    assert_eq!(resumed["best"]["digest"], whole["best"]["digest"]);
}

#[test]
fn a_second_signal_of_another_kind_ends_it_at_once() {
    let place = Place::with_data();
    // Each step takes far longer than it takes to send two signals.
    let slow = "--data data --model resnet18 --image-size 64 --resize exact --batch-size 60 --epochs 50 --name cut";
    let child = begin(&place, &format!("train {slow}"));
    signal(&child, "-HUP");
    signal(&child, "-USR2");
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(!said.err.contains("go on with"), "{}", said.err);
    assert_eq!(place.json("show cut --json")["status"], "killed");
    place.ok("fsck cut --repair");
}

#[test]
fn the_limit_of_processor_time_saves() {
    let place = Place::with_data();
    // The system warns at the soft limit, and again every second.
    let line = format!(
        "ulimit -S -t 2; exec {} train --data data --epochs 100000 --batch-size 16 --lr 0.01 --name run",
        env!("CARGO_BIN_EXE_keepbest")
    );
    let said = std::process::Command::new("bash")
        .args(["-c", &line])
        .current_dir(place.path("."))
        .output();
    let said = Said::of(said.unwrap());
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(said.err.contains("go on with"), "{}", said.err);
    assert_eq!(place.json("show run --json")["status"], "interrupted");
}

/// Writes `images` PNG files of one size, of two classes, that take a while to decode.
fn write_large_images(place: &Place, side: u32, images: usize) {
    let grey = |at: usize| {
        image::GrayImage::from_fn(side, side, |x, y| image::Luma([(x * y + at as u32) as u8]))
    };
    for (at, class) in ["a", "b"].into_iter().enumerate() {
        let folder = place.path(&format!("large/{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        let first = folder.join("0.png");
        grey(at).save(&first).unwrap();
        for copy in 1..images / 2 {
            std::fs::hard_link(&first, folder.join(format!("{copy}.png"))).unwrap();
        }
    }
}

#[test]
fn reading_the_images_can_be_interrupted() {
    let place = Place::new();
    // Some minutes of reading, if nothing ended it.
    write_large_images(&place, 2000, 4000);
    for verb in ["train --name run", "lr-find"] {
        let args = format!("{verb} --data large --image-size 8 --cache 0");
        let mut command = place.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_until_it_catches(&child, SIGTERM);
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, "-TERM");
        let said = Said::of(child.wait_with_output().unwrap());
        said.fails(130, &["interrupted"]);
        assert!(!place.path("runs").exists());
    }
}

#[test]
fn an_image_that_fails_in_the_middle_ends_the_run_as_ctrl_c_does() {
    let place = Place::new();
    place.ok("data sample fashion-mnist-mini --to photos --count 60");
    // Files with their classes, in a folder each.
    let listed = std::fs::read_dir(place.path("photos")).unwrap();
    let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (at, file) in files.iter().enumerate() {
        let class = place.path(&format!("set/{}", at % 3));
        std::fs::create_dir_all(&class).unwrap();
        std::fs::rename(file, class.join(file.file_name().unwrap())).unwrap();
    }
    let one = std::fs::read_dir(place.path("set/1")).unwrap().next();
    let one = one.unwrap().unwrap().path();
    let bytes = std::fs::read(&one).unwrap();
    // Decoded anew in every epoch.
    let args = "--data set --cache 0 --batch-size 8 --lr 0.01 --epochs 40";
    let whole = place.json(&format!("train {args} --name whole --quiet --json"));
    for (name, damage) in [("gone", None), ("torn", Some(&bytes[..bytes.len() / 2]))] {
        let child = begin(&place, &format!("train {args} --name {name}"));
        match damage {
            None => std::fs::remove_file(&one).unwrap(),
            Some(half) => std::fs::write(&one, half).unwrap(),
        }
        let said = Said::of(child.wait_with_output().unwrap());
        let hint = format!("go on with: keepbest train --resume runs/{name}");
        let image = one.file_name().unwrap().to_str().unwrap();
        said.fails(1, &["training stopped in epoch", image, &hint]);
        let shown = place.json(&format!("show {name} --json"));
        assert_eq!(shown["status"], "interrupted", "{name}");
        assert!(
            place
                .path(&format!("runs/{name}/last.safetensors"))
                .exists()
        );
        std::fs::write(&one, &bytes).unwrap();
        let resumed = place.json(&format!("train --resume {name} --quiet --json"));
        assert_eq!(resumed["best"]["digest"], whole["best"]["digest"], "{name}");
        assert_eq!(resumed["test"], whole["test"], "{name}");
    }
}

#[test]
fn signals_that_it_was_started_to_ignore_are_ignored() {
    let place = Place::with_data();
    let args = format!("train {LONG} --name run");
    // As what a script has in the background, and under nohup.
    let line = format!(
        "trap '' INT TERM HUP; exec {} {args}",
        env!("CARGO_BIN_EXE_keepbest")
    );
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &line]).current_dir(place.path("."));
    bash.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = begun(bash.spawn().unwrap());
    for name in ["-INT", "-TERM", "-INT", "-HUP"] {
        signal(&child, name);
    }
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(place.json("show run --json")["status"], "completed");

    // The others are heeded.
    let line = format!(
        "trap '' INT; exec {} {args}2 --epochs 400",
        env!("CARGO_BIN_EXE_keepbest")
    );
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &line]).current_dir(place.path("."));
    bash.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = begun(bash.spawn().unwrap());
    signal(&child, "-TERM");
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.err);
    assert_eq!(place.json("show run2 --json")["status"], "interrupted");
}
