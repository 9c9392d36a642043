//! A journal that knows less than the files: cut short, with lines gone, or gone itself. It is told or refused, nothing good is
//! replaced by less, nothing is decided by it, and it is mended.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Place, SMALL, Said};

const JOURNAL: &str = "runs/run/journal.jsonl";

/// Three epochs of which the last is best, every checkpoint kept.
fn trained() -> (Place, Value) {
    let place = Place::with_data();
    let told = place.trained("run", "--epochs 3 --lr 0.02 --keep last:9 --seed 3");
    assert_eq!(told["best"]["epoch"], 3);
    place.ok("data sample fashion-mnist-mini --to samples --count 2");
    (place, told["best"]["digest"].clone())
}

/// Leaves out lines of the journal, the first of which is 0.
fn without(journal: &str, gone: impl Fn(usize) -> bool) -> String {
    let lines = journal.split_inclusive('\n').enumerate();
    lines
        .filter(|(at, _)| !gone(*at))
        .map(|(_, line)| line)
        .collect()
}

fn says(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
    for word in words {
        let is_said = said.err.contains(word) || said.out.contains(word);
        assert!(is_said, "{word:?} is not in\n{}\n{}", said.out, said.err);
    }
}

#[test]
fn what_it_has_forgotten_is_told_and_nothing_is_replaced_or_decided_by_it() {
    let (place, digest) = trained();
    let whole = fs::read_to_string(place.path(JOURNAL)).unwrap();
    place.ok("card run --to card.md");
    let card = fs::read(place.path("card.md")).unwrap();
    let lines = whole.lines().count();
    let promoted = |line: &str| line.contains("\"promoted\"") && line.contains("\"best\"");
    let latest = lines - 1 - whole.lines().rev().position(promoted).unwrap();
    // Where nothing is best, and before the latest became best though it was saved.
    for kept in [1, latest] {
        let page = fs::read(place.path("runs/run/report.html")).unwrap();
        let cut = without(&whole, |at| at >= kept);
        fs::write(place.path(JOURNAL), &cut).unwrap();
        let told = [
            "journal.jsonl",
            "does not tell of epoch 3 (step",
            "best.safetensors holds",
        ];
        let hint = "runs/run --repair takes it back";
        let with_hint = [&told[..], &[hint]].concat();
        for verb in ["show run", "list", "explain run"] {
            let said = place.run(verb);
            says(&said, 0, &[&with_hint[..], &["warning: "]].concat());
        }
        for verb in ["show run --json", "list --json"] {
            let shown: Value = serde_json::from_str(&place.run(verb).out).unwrap();
            let one = shown.get(0).unwrap_or(&shown);
            let warning = one["warning"].as_str().unwrap();
            assert!(warning.contains(told[1]), "{verb}: {warning}");
        }
        for verb in [
            "report run",
            "report run --to other.html",
            "card run --to card.md --force",
            "card runs/run/best.safetensors",
            "attest run",
            "reproduce run --quiet",
            "prune run --dry-run",
            "prune run",
            "pin run@epoch:1",
            "unpin run@last",
            "archive run",
        ] {
            place.run(verb).fails(3, &with_hint);
        }
        for verb in ["verify run", "verify run/best.safetensors --digest-only"] {
            let verb = verb.replace("run/", "runs/run/");
            says(
                &place.run(&verb),
                3,
                &[&with_hint[..], &["journal  FAILED"]].concat(),
            );
        }
        // The best itself is there: where the journal still finds it, it is used, and told.
        for verb in ["evaluate run", "predict run samples", "inspect run"] {
            let code = if kept == 1 { 3 } else { 0 };
            says(&place.run(verb), code, &with_hint);
        }
        assert!(!place.path("other.html").exists());
        assert!(fs::read(place.path("runs/run/report.html")).unwrap() == page);
        assert!(fs::read(place.path("card.md")).unwrap() == card);
        assert_eq!(fs::read_to_string(place.path(JOURNAL)).unwrap(), cut);

        place.ok("fsck run --repair");
        is_whole(&place, &digest);
    }
    fs::write(place.path(JOURNAL), &whole).unwrap();
    is_whole(&place, &digest);
}

/// Nothing is amiss with the run, and its best is that one.
fn is_whole(place: &Place, digest: &Value) {
    place.ok("fsck run");
    place.ok("verify run");
    let shown = place.json("show run --json");
    assert_eq!(shown["best"]["digest"], *digest);
    assert_eq!(shown["warning"], Value::Null);
    let said = place.ok("show run");
    assert!(!said.err.contains("warning"), "{}", said.err);
    place.ok("report run");
}

#[test]
fn a_journal_that_is_empty_or_gone_is_made_anew() {
    let (place, digest) = trained();
    for is_gone in [false, true] {
        fs::write(place.path(JOURNAL), "").unwrap();
        let resume = "keepbest train --resume runs/run";
        if is_gone {
            fs::remove_file(place.path(JOURNAL)).unwrap();
            let words = ["runs/run has no journal", "keepbest fsck runs/run"];
            for verb in ["evaluate run", "show run", "report run", "pin run@best"] {
                place.run(verb).fails(1, &words);
            }
            // It is a run, and one of the others.
            says(&place.run("list"), 0, &words);
            says(&place.run("fsck run"), 3, &["journal.jsonl: is missing"]);
            says(&place.run("fsck run --repair"), 0, &["made anew"]);
        }
        // What best means is in run.toml.
        place.run("evaluate run").fails(3, &[resume]);
        place.run("report run").fails(3, &[resume]);
        if is_gone {
            fs::remove_file(place.path(JOURNAL)).unwrap();
        }
        place.ok("train --resume run --quiet");
        is_whole(&place, &digest);
    }
}

#[test]
fn lines_that_are_gone_from_the_middle_are_named_and_what_hung_on_them_is_made_good() {
    let (place, digest) = trained();
    let whole = fs::read_to_string(place.path(JOURNAL)).unwrap();
    let lines = whole.lines().count();
    for (from, to) in [(1, 3), (4, 9), (lines - 8, lines - 3), (5, lines - 2)] {
        fs::write(
            place.path(JOURNAL),
            without(&whole, |at| (from..to).contains(&at)),
        )
        .unwrap();
        place
            .run("evaluate run")
            .fails(1, &["line", "is damaged", "keepbest fsck runs/run"]);
        let said = place.run("fsck run --repair");
        let gone = format!("what was lines {} to {to} is gone", from + 1);
        says(
            &said,
            0,
            &[&gone, "the original is kept as journal.jsonl.damaged"],
        );
        assert!(!said.out.contains("line  "), "{}", said.out);
        is_whole(&place, &digest);
    }
    // One line, and one that is damaged beside one that is gone.
    fs::write(place.path(JOURNAL), without(&whole, |at| at == 6)).unwrap();
    says(
        &place.run("fsck run --repair"),
        0,
        &["what was line 7 is gone"],
    );
    let damaged = without(&whole, |at| at == 6).replacen("\"seq\":6,", "\"seq\":9,", 1);
    fs::write(place.path(JOURNAL), damaged).unwrap();
    let said = place.run("fsck run --repair");
    says(&said, 0, &["damaged in line 6; what was line 7 is gone"]);
    is_whole(&place, &digest);
}

#[test]
fn another_runs_model_in_the_place_of_best_is_told() {
    let (place, digest) = trained();
    place.ok(&format!(
        "train {SMALL} --epochs 4 --seed 9 --name other --quiet"
    ));
    let best = place.path("runs/run/best.safetensors");
    let own = fs::read(&best).unwrap();
    fs::remove_file(&best).unwrap();
    fs::copy(place.path("runs/other/last.safetensors"), &best).unwrap();
    says(
        &place.run("show run"),
        0,
        &["warning: ", "which best.safetensors holds"],
    );
    place
        .run("report run")
        .fails(3, &["best.safetensors holds", "--repair"]);
    fs::remove_file(&best).unwrap();
    fs::write(&best, own).unwrap();
    is_whole(&place, &digest);
}

/// A copy of the run, links and all.
fn copied(place: &Place, to: &str) {
    let to = place.path(&format!("runs/{to}"));
    let _ = fs::remove_dir_all(&to);
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").arg(place.path("runs/run")).arg(&to);
    assert!(cp.status().unwrap().success());
}

/// The files in `checkpoints/` of a step, and their bytes.
fn checkpoints(place: &Place, run: &str, step: u64) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = place.path(&format!("runs/{run}/checkpoints"));
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let of_step = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{step:08}-")) && name.ends_with(".safetensors")
    };
    let files = files.filter(of_step);
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// How a best is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Removed,
    Damaged,
}

/// Takes a run its best: all of its files.
fn lose_best(place: &Place, run: &str, step: u64, how: Loss) {
    let best = place.path(&format!("runs/{run}/best.safetensors"));
    for (path, mut bytes) in checkpoints(place, run, step) {
        match how {
            Loss::Removed => {
                fs::remove_file(&path).unwrap();
                let _ = fs::remove_file(&best);
            }
            Loss::Damaged => {
                let at = bytes.len() - 9;
                bytes[at] ^= 1;
                // Into the file itself, which is that of best too.
                fs::write(&path, bytes).unwrap();
            }
        }
    }
}

#[test]
fn a_best_that_is_lost_with_the_lines_that_told_of_it_is_told_as_lost() {
    let place = Place::with_data();
    let told = place.trained("run", "--epochs 12 --lr 0.02 --keep last:99 --seed 1");
    let (step, epoch) = (
        told["best"]["step"].as_u64().unwrap(),
        told["best"]["epoch"].as_u64().unwrap(),
    );
    let whole = fs::read_to_string(place.path(JOURNAL)).unwrap();
    let evaluated = |line: &str| line.contains("\"evaluated\"");
    let before = 1 + whole
        .lines()
        .enumerate()
        .filter(|(_, line)| evaluated(line))
        .nth(epoch as usize - 2)
        .unwrap()
        .0;
    let lost = format!("epoch {epoch}) is lost");
    for how in [Loss::Removed, Loss::Damaged] {
        copied(&place, "control");
        lose_best(&place, "control", step, how);
        says(&place.run("fsck --repair control"), 3, &[&lost]);
        let control = place.json("show control --json")["best"].clone();
        // No improvement on what is lost, and better than what was best before it.
        assert!(control["epoch"].as_u64().unwrap() > epoch, "{control}");
        for kept in [1, before, before + 1] {
            for verb in ["fsck --repair cut", "train --resume cut"] {
                copied(&place, "cut");
                let cut = without(&whole, |at| at >= kept);
                fs::write(place.path("runs/cut/journal.jsonl"), cut).unwrap();
                lose_best(&place, "cut", step, how);
                says(&place.run(verb), 3, &[&lost]);
                let best = place.json("show cut --json")["best"].clone();
                assert_eq!(best["digest"], control["digest"], "{how:?} {kept} {verb}");
                place.ok("fsck cut");
                place.ok("verify cut");
                // Said once.
                place.ok("fsck --repair cut");
            }
        }
        copied(&place, "cut");
        fs::remove_file(place.path("runs/cut/journal.jsonl")).unwrap();
        lose_best(&place, "cut", step, how);
        says(&place.run("train --resume cut"), 3, &[&lost]);
        let best = place.json("show cut --json")["best"].clone();
        assert_eq!(best["digest"], control["digest"], "{how:?}, no journal");
        place.ok("verify cut");
    }
    // With only the lines gone that say that it was saved and made best.
    copied(&place, "cut");
    let named = |line: &str| line.contains(&format!("\"checkpoint\":\"{step:08}-"));
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(
        place.path("runs/cut/journal.jsonl"),
        without(&whole, |at| named(lines[at])),
    )
    .unwrap();
    lose_best(&place, "cut", step, Loss::Removed);
    says(&place.run("fsck --repair cut"), 3, &[&lost]);
    place.ok("verify cut");
    place.ok("fsck cut");
}

#[test]
fn what_may_have_been_pinned_in_lines_that_are_gone_stays() {
    let place = Place::with_data();
    place.trained("run", "--epochs 6 --keep last:4");
    let shown = place.json("show run --json");
    let steps: Vec<u64> = shown["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    let pinned = steps[0];
    place.ok(&format!("pin run@step:{pinned}"));
    // So that something comes after the pin.
    place.ok("train --resume run --epochs 7 --quiet");
    let whole = fs::read_to_string(place.path(JOURNAL)).unwrap();
    let file = checkpoints(&place, "run", pinned).remove(0).1;
    let lines = whole.lines().count();
    let gone: [(&str, usize, usize); 4] = [
        ("cut", 1, lines),
        ("empty", 0, lines),
        ("removed", 0, lines),
        ("a hole", 5, lines - 1),
    ];
    for (what, from, to) in gone {
        copied(&place, "cut");
        let journal = place.path("runs/cut/journal.jsonl");
        let hole = without(&whole, |at| (from..to).contains(&at));
        fs::write(&journal, hole).unwrap();
        if what == "removed" {
            fs::remove_file(&journal).unwrap();
        }
        if what != "removed" && what != "empty" {
            says(
                &place.run("fsck --repair cut"),
                0,
                &["pins may be gone", "unpin"],
            );
        }
        let said = place.ok("train --resume cut --epochs 14");
        if what == "removed" || what == "empty" {
            assert!(said.err.contains("pins may be gone"), "{}", said.err);
        }
        place.ok("prune cut");
        let is = checkpoints(&place, "cut", pinned);
        assert!(is.len() == 1 && is[0].1 == file, "{what}");
        place.ok("fsck cut");
        // Said once, and let go of by hand.
        assert!(!place.ok("fsck --repair cut").out.contains("pins"));
        place.ok(&format!("unpin cut@step:{pinned}"));
        place.ok("prune cut");
        assert!(checkpoints(&place, "cut", pinned).is_empty(), "{what}");
    }
    // A journal that is whole loses none, and pins none.
    place.ok("fsck --repair run");
    place.ok("train --resume run --epochs 14 --quiet");
    let shown = place.json("show run --json");
    let pins = shown["checkpoints"].as_array().unwrap().iter();
    assert_eq!(pins.filter(|it| it["pinned"] == true).count(), 1);
}

#[test]
fn archives_that_the_journal_has_forgotten_are_taken_in_again() {
    let place = Place::with_data();
    place.trained("run", "--epochs 6 --keep last:6");
    let steps: Vec<u64> = place.json("show run --json")["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    let saved = |step: u64| checkpoints(&place, "run", step);
    let before: Vec<_> = steps.iter().map(|step| (*step, saved(*step))).collect();
    place.ok("archive run");
    let archived: Vec<_> = before
        .into_iter()
        .filter(|(step, _)| checkpoints(&place, "run", *step).is_empty())
        .collect();
    assert!(archived.len() >= 3);
    let whole = fs::read_to_string(place.path(JOURNAL)).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let saved = |at: usize| lines[at].contains("\"event\":\"saved\"");
    let journals = [
        without(&whole, |at| at > 0),
        without(&whole, |at| at > 0 && at + 1 < lines.len()),
        without(&whole, saved),
        String::new(),
    ];
    for (nth, journal) in journals.into_iter().enumerate() {
        copied(&place, "cut");
        fs::write(place.path("runs/cut/journal.jsonl"), &journal).unwrap();
        if journal.is_empty() {
            place.ok("train --resume cut --quiet");
        } else {
            place.ok("fsck --repair cut");
        }
        place.ok("fsck cut");
        place.ok("verify cut");
        for (step, files) in &archived {
            place.ok(&format!("restore cut@step:{step}"));
            let is = checkpoints(&place, "cut", *step);
            assert!(is.len() == 1 && is[0].1 == files[0].1, "{nth}: step {step}");
        }
        let shown = place.json("show cut --json");
        assert_eq!(shown["history"].as_array().unwrap().len(), 6, "{nth}");
        place.ok("fsck cut");
    }
    // What gives nothing back stays, and no repair says that it is mended.
    copied(&place, "cut");
    fs::write(
        place.path("runs/cut/journal.jsonl"),
        without(&whole, |at| at > 0),
    )
    .unwrap();
    let archive = place.path("runs/cut/archives/0001.kbarchive");
    fs::write(&archive, "no archive").unwrap();
    for _ in 0..2 {
        let said = place.run("fsck --repair cut");
        says(&said, 3, &["nothing comes back from it; it stays"]);
    }
    assert_eq!(fs::read(archive).unwrap(), b"no archive");
}
