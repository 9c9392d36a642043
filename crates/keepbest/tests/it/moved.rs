//! Runs and data that are elsewhere: another directory, a new place, the two moved together.

use std::fs;

use crate::support::{Place, Said, write_idx};

fn is_done(args: &str, said: &Said) {
    assert_eq!(said.code, 0, "{args}\n{}\n{}", said.out, said.err);
}

#[test]
fn a_run_finds_its_images_from_another_directory() {
    let place = Place::with_data();
    place.trained("run", "");
    fs::create_dir_all(place.path("else/where")).unwrap();
    // Other images of the same name, where nobody meant them.
    write_idx(&place.path("else/where/data"), 3, 20, 5);
    let run = "../../runs/run";
    for args in [
        format!("evaluate {run}"),
        format!("evaluate {run}/best.safetensors"),
        format!("verify {run} --test"),
        format!("report {run}"),
        format!("thresholds {run} --metric f1_macro --out tuned.safetensors"),
        format!("compare {run}@epoch:1 {run}@last"),
        format!("reproduce {run} --quiet"),
        format!("train --resume {run} --epochs 3 --quiet"),
        format!("verify {run}"),
        format!("train --config {run}/run.toml --name again --epochs 1 --quiet"),
        "verify again".to_owned(),
    ] {
        // The checkpoint of the first epoch may be gone.
        let args = args.replace("@epoch:1", "@best");
        is_done(&args, &place.run_in("else/where", &args));
    }
    let said = place.run_in("else/where", "verify again");
    assert!(
        said.out.contains("/data is the recorded one"),
        "{}",
        said.out
    );
}

#[test]
fn images_that_moved_are_looked_for_named_and_given_anew() {
    let place = Place::with_data();
    place.trained("run", "");
    fs::rename(place.path("data"), place.path("pictures")).unwrap();
    let looked = place
        .path("data")
        .canonicalize()
        .unwrap_or(place.path("data"));
    let looked = looked.file_name().unwrap().to_str().unwrap().to_owned();
    let verbs = [
        "evaluate run",
        "verify run",
        "thresholds run --metric f1_macro --out tuned.safetensors",
        "reproduce run --quiet",
        "report run --to runs/run/report.html",
        "train --config runs/run/run.toml --name again --epochs 1 --quiet",
        "train --resume run --epochs 3 --quiet",
    ];
    let page = fs::read(place.path("runs/run/report.html")).unwrap();
    // What could be checked without them is told.
    let said = place.run("verify run");
    for words in [
        "journal  ok",
        "not checked: the rest: data is not where it was",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }
    for verb in verbs {
        let said = place.run(verb);
        said.fails(
            1,
            &["data is not where it was", &looked, "hint: ", "--data"],
        );
    }
    assert!(fs::read(place.path("runs/run/report.html")).unwrap() == page);
    for verb in verbs {
        place.ok(&format!("{verb} --data pictures"));
        fs::remove_file(place.path("tuned.safetensors")).ok();
    }
    // The run was taken up with them: from now on it knows.
    place.ok("verify run");
    fs::create_dir(place.path("else")).unwrap();
    is_done("verify", &place.run_in("else", "verify ../runs/run"));
    is_done("evaluate", &place.run_in("else", "evaluate ../runs/run"));
}

#[test]
fn run_and_images_that_moved_together_are_found() {
    let place = Place::new();
    write_idx(&place.path("old/data"), 4, 30, 10);
    let said = place.run_in("old", "train --data data --epochs 1 --name run --quiet");
    is_done("train", &said);
    fs::rename(place.path("old"), place.path("new")).unwrap();
    place.ok("verify new/runs/run");
    place.ok("reproduce new/runs/run --quiet");
    place.ok("train --resume new/runs/run --epochs 2 --quiet");

    // As an earlier version left it: nothing but what was written.
    let journal = place.path("new/runs/run/journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.contains("\"places\":"));
    let without = |body: &str| body.replace("\"places\":", "\"was\":");
    fs::write(&journal, crate::support::rewritten(&text, without)).unwrap();
    fs::rename(place.path("new"), place.path("newer")).unwrap();
    place.ok("train --resume newer/runs/run --epochs 3 --quiet");
}

#[test]
fn other_images_in_the_place_of_the_runs_are_told_from_them() {
    let place = Place::with_data();
    place.trained("run", "");
    fs::rename(place.path("data"), place.path("pictures")).unwrap();
    write_idx(&place.path("data"), 4, 28, 10);
    place.run("train --resume run --epochs 3").fails(
        1,
        &["images of data are not those the run began with", "--data"],
    );
    let said = place.run("verify run");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("in data, recorded were"), "{}", said.out);
    place.run("report run").fails(
        3,
        &["report.html stays as it is", "not those recorded", "--data"],
    );
    // Where they lie was said: that is not said again.
    let said = place.run("report run --data data");
    said.fails(
        3,
        &["not those recorded", "hint: the page is of the images"],
    );
    assert!(!said.err.contains("--data says"), "{}", said.err);
    place.ok("train --resume run --epochs 3 --data pictures --quiet");
}

#[test]
fn a_table_whose_images_moved_is_nothing_to_compare_with() {
    let place = Place::new();
    crate::support::photos(&place.path("images"), &[("cat", 20), ("dog", 20)], 0);
    let mut table = "path,label\n".to_owned();
    for class in ["cat", "dog"] {
        for number in 0..20 {
            table.push_str(&format!("images/{class}/{number:02}.png,{class}\n"));
        }
    }
    fs::write(place.path("table.csv"), table).unwrap();
    place.ok("train --data table.csv --epochs 1 --batch-size 8 --name run --quiet");
    place.ok("verify run");
    fs::rename(place.path("images"), place.path("pictures")).unwrap();
    let said = place.run("verify run");
    said.fails(1, &["40 of its 40 images are missing"]);
    assert!(said.out.contains("journal  ok"), "{}", said.out);
    // Some of them are other images than those recorded.
    fs::rename(place.path("pictures"), place.path("images")).unwrap();
    fs::remove_file(place.path("images/cat/00.png")).unwrap();
    let said = place.run("verify run");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.out.contains("1 of its 40 images is missing"),
        "{}",
        said.out
    );
}

#[test]
fn the_model_that_a_run_starts_from_is_found_from_another_directory() {
    let place = Place::with_data();
    place.trained("one", "");
    place.trained("two", "--from one");
    fs::create_dir(place.path("else")).unwrap();
    for args in [
        "reproduce ../runs/two --quiet",
        "train --config ../runs/two/run.toml --name three --epochs 1 --quiet",
        "reproduce three --quiet",
    ] {
        is_done(args, &place.run_in("else", args));
    }
}

#[test]
fn where_the_images_lie_does_not_tell_whose_they_are() {
    let place = Place::with_data();
    let train = "train --data data --epochs 1 --name run --quiet";
    let home = place.path("").canonicalize().unwrap();
    let output = place.command(train).env("HOME", &home).output().unwrap();
    is_done(train, &Said::of(output));
    let best = fs::read(place.path("runs/run/best.safetensors")).unwrap();
    let journal = fs::read(place.path("runs/run/journal.jsonl")).unwrap();
    let home = home.to_str().unwrap().as_bytes();
    for bytes in [&best, &journal] {
        assert!(!bytes.windows(home.len()).any(|part| part == home));
        assert!(bytes.windows(6).any(|part| part == b"~/data"));
    }
}
