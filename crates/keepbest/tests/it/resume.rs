//! `train --resume`: nothing is forgotten, what changes is said, what was edited is refused, what was mended or lost is told.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Place;

/// The highest loss is best, which is that of the first evaluation: whoever forgets it replaces it.
const FIRST_IS_BEST: &str = "--monitor max:val/loss --lr 0.02";

fn journal(place: &Place) -> PathBuf {
    place.path("runs/run/journal.jsonl")
}

fn history(place: &Place) -> Vec<u64> {
    let shown = place.json("show run --json");
    let records = shown["history"].as_array().unwrap().iter();
    records
        .map(|record| record["epoch"].as_u64().unwrap())
        .collect()
}

/// Changes a byte of a file in place, as a disk does: every name of the file has it.
fn rot(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - 9;
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_shortened_journal_costs_no_best() {
    let place = Place::with_data();
    let before = place.trained("run", FIRST_IS_BEST);
    assert_eq!(before["best"]["epoch"], 1);
    let whole = std::fs::read_to_string(journal(&place)).unwrap();
    for lines in [0, 1, 4] {
        let kept: String = whole.split_inclusive('\n').take(lines).collect();
        std::fs::write(journal(&place), kept).unwrap();
        let epochs = 3 + lines;
        let said = place.ok(&format!("train --resume run --epochs {epochs}"));
        assert!(said.err.contains("journal.jsonl: "), "{}", said.err);
        let expected: Vec<u64> = (1..=epochs as u64).collect();
        assert_eq!(history(&place), expected, "{lines} lines\n{}", said.err);
        let shown = place.json("show run --json");
        assert_eq!(
            shown["best"]["digest"], before["best"]["digest"],
            "{lines} lines\n{}",
            said.err
        );
        place.ok("verify run");
        place.ok("fsck run");
    }
}

#[test]
fn without_its_checkpoints_a_run_goes_on_from_last() {
    let place = Place::with_data();
    let whole = place.trained("whole", "--epochs 3");
    std::fs::remove_dir_all(place.path("runs/whole/checkpoints")).unwrap();
    let again = place.json("train --resume whole --json --quiet");
    assert_eq!(again["best"]["digest"], whole["best"]["digest"]);
    place.ok("fsck whole");
}

#[test]
fn a_longer_run_says_what_changes_and_is_verified_and_reproduced() {
    let place = Place::with_data();
    place.trained("run", "");
    let said = place.ok("train --resume run --threads 1");
    let over = "the run is over: all 2 epochs are done; --epochs N with more than 2 trains on";
    assert!(said.err.contains(over), "{}", said.err);
    assert!(
        said.err.contains("threads is 1 from here on"),
        "{}",
        said.err
    );
    let said = place.ok("train --resume run --epochs 3");
    for words in [
        "epochs is 3 from here on, was 2",
        "schedule one-cycle is now that of 3 epochs: the learning rate jumps up from ",
    ] {
        assert!(said.err.contains(words), "{words}\n{}", said.err);
    }
    assert!(!said.err.contains("the run is over"), "{}", said.err);
    // Once more, and from then on without being told.
    place.ok("train --resume run --epochs 4 --quiet");
    let said = place.ok("train --resume run");
    assert!(said.err.contains("all 4 epochs are done"), "{}", said.err);
    let text = std::fs::read_to_string(journal(&place)).unwrap();
    let change = r#""changed":[{"setting":"epochs","was":"3","is":"4"}]"#;
    assert_eq!(text.matches(change).count(), 1, "{text}");

    assert_eq!(history(&place), [1, 2, 3, 4]);
    for of in ["run", "run@last"] {
        let said = place.ok(&format!("verify {of}"));
        assert!(said.out.contains("config   ok"), "{}", said.out);
    }
    let again = place.json("reproduce run --quiet --json");
    assert_eq!(again["reproduced"], true, "{again}");
    assert_eq!(again["evaluations"], 4);
}

#[test]
fn an_edited_run_toml_is_refused_with_what_differs() {
    let place = Place::with_data();
    place.trained("run", "");
    let path = place.path("runs/run/run.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let before = std::fs::read(journal(&place)).unwrap();
    let edited = text
        .replace("\nlr = 0.01\n", "\nlr = 0.5\n")
        .replace("\nseed = 1\n", "\nseed = 2\n");
    assert_ne!(edited, text);
    std::fs::write(&path, edited).unwrap();
    place.run("train --resume run --epochs 3").fails(
        2,
        &[
            "lr is 0.5, recorded is 0.01",
            "seed is 2, recorded is 1",
            "--from RUN@last",
        ],
    );
    assert_eq!(std::fs::read(journal(&place)).unwrap(), before);
    // Runs of earlier versions have it in their models alone.
    let first: Value =
        serde_json::from_slice(before.split(|it| *it == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["session"]["config"]["lr"], 0.01);
    std::fs::write(&path, text).unwrap();
    place.ok("train --resume run --epochs 3 --quiet");
}

#[test]
fn a_lost_best_is_told_and_in_the_exit_code() {
    let place = Place::with_data();
    let more = format!("{FIRST_IS_BEST} --epochs 3 --keep last:2 --also pth");
    let before = place.trained("run", &more);
    assert_eq!(before["best"]["epoch"], 1);
    let pth = std::fs::read(place.path("runs/run/best.pth")).unwrap();
    rot(&place.path("runs/run/best.safetensors"));
    let said = place.run("train --resume run --quiet");
    said.fails(
        3,
        &[
            "warning: best.safetensors: what was best (val/loss",
            "a best was lost before this session",
        ],
    );
    assert_eq!(
        std::fs::read(place.path("runs/run/best.lost.pth")).unwrap(),
        pth
    );
    let text = std::fs::read_to_string(journal(&place)).unwrap();
    assert!(text.contains("is lost") && text.contains("best.lost.pth"));
    // What is left is whole, and is the next session's.
    place.ok("train --resume run --quiet");
    place.ok("verify run --digest-only");
}

#[test]
fn what_an_interruption_left_is_told_when_it_is_mended() {
    let place = Place::with_data();
    place.trained("run", "");
    let mut text = std::fs::read_to_string(journal(&place)).unwrap();
    text.push_str("{\"seq\":");
    std::fs::write(journal(&place), text).unwrap();
    std::fs::write(place.path("runs/run/checkpoints/.staged-x.1"), "half").unwrap();
    let said = place.ok("train --resume run");
    for words in [
        "mended   journal.jsonl: line",
        "mended   checkpoints/.staged-x.1",
    ] {
        assert!(said.err.contains(words), "{words}\n{}", said.err);
    }
}

#[test]
fn a_run_of_a_newer_format_is_refused_by_every_verb_and_left_alone() {
    let place = Place::with_data();
    place.trained("run", "");
    let text = std::fs::read_to_string(journal(&place)).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let body = &first[..first.rfind(",\"check\":").unwrap()];
    let body = body.replace("\"format\":1,", "\"format\":99,");
    let check = &keepbest_hash(&body)[..16];
    std::fs::write(
        journal(&place),
        format!("{body},\"check\":\"{check}\"}}\n{rest}torn"),
    )
    .unwrap();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(place.path("runs/run"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        files.sort();
        files
    };
    let before = files();
    for verb in [
        "train --resume run --epochs 3",
        "fsck run --repair",
        "fsck run",
        "prune run",
        "archive run",
        "pin run@best",
        "report run",
        "show run",
        "verify run",
        "evaluate run",
        "reproduce run",
    ] {
        let said = place.run(verb);
        assert_ne!(said.code, 0, "{verb}\n{}", said.out);
        let words = "is of run format 99, and this keepbest knows up to 1: it takes keepbest ";
        assert!(said.err.contains(words), "{verb}\n{}", said.err);
        assert!(files() == before, "{verb} changed a file");
    }
    let said = place.run("list");
    assert!(said.err.contains("run format 99"), "{}", said.err);
}

fn keepbest_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[test]
fn a_run_that_goes_on_keeps_its_name() {
    let place = Place::with_data();
    place.trained("run", "");
    let before = std::fs::read(journal(&place)).unwrap();
    let words = [
        "the run is called run",
        "not as other",
        "--from RUN@last --name",
    ];
    for run in ["run", "runs/run", "runs/run/"] {
        let verb = format!("train --resume {run} --epochs 3 --name other");
        place.run(&verb).fails(2, &words);
    }
    assert!(std::fs::read(journal(&place)).unwrap() == before);
    assert!(!place.path("runs/other").exists());
    place.ok("train --resume runs/run/ --epochs 3 --name run --quiet");
}
