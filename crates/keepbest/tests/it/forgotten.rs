//! A journal that knows less than the files: cut short, with lines gone, or gone itself. It is told or refused, nothing good is
//! replaced by less, nothing is decided by it, and it is mended.

use std::fs;

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
