//! `prune`, `explain`, `pin` and `unpin`: what stays, what goes, and the reasons.

use crate::support::{Place, Said};

/// A run of four epochs that keeps all four checkpoints.
fn run_of_four() -> Place {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    place
}

/// Writes other rules over those that the journal recorded when the run began.
fn with_rules(place: &Place, from: &str, to: &str) {
    use keepbest::store::{Event, RunDir, RunReader, RunWriter};
    let run = place.path("runs/run");
    let entries = RunReader::open(&run).unwrap().journal().unwrap().entries;
    let config = std::fs::read_to_string(run.join("run.toml")).unwrap();
    // A journal is never edited: the same events go into a new one.
    let again = place.path("runs/again");
    let mut writer = RunDir::create(&again).unwrap();
    writer.write_config(&config).unwrap();
    for entry in entries {
        let mut event = entry.event;
        if let Event::Started(started) = &mut event {
            let text = started.settings["retention"].to_string();
            assert!(text.contains(from), "{text}");
            started.settings["retention"] = serde_json::from_str(&text.replace(from, to)).unwrap();
        }
        writer.append(event).unwrap();
    }
    drop(writer);
    std::fs::copy(again.join("journal.jsonl"), run.join("journal.jsonl")).unwrap();
    std::fs::remove_dir_all(&again).unwrap();
    drop(RunWriter::open(&run).unwrap());
}

fn checkpoints(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.path("runs/run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What was said, on one line.
fn flat(said: &Said) -> String {
    said.out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn narrow(said: &Said) {
    for line in said.out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn pruning_removes_what_no_rule_keeps_and_tells_why() {
    let place = run_of_four();
    assert_eq!(checkpoints(&place).len(), 4);
    assert_eq!(place.ok("prune run").out, "nothing to remove\n");
    with_rules(&place, "last:4", "last:1");

    let shown = place.json("show run --json");
    let of = |step: u64| -> bool {
        let all = shown["checkpoints"].as_array().unwrap();
        let one = all.iter().find(|c| c["step"] == step).unwrap();
        !one["ref"].as_array().unwrap().is_empty()
    };
    let steps: Vec<u64> = shown["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["step"].as_u64().unwrap())
        .collect();
    let free: Vec<u64> = steps.iter().copied().filter(|&step| !of(step)).collect();
    assert!(free.len() >= 2, "{shown}");

    // A pin keeps one of them.
    let pinned = place.json(&format!("pin run@step:{} --json", free[0]));
    assert_eq!(pinned["changed"], true);
    let again = place.ok(&format!("pin run@step:{}", free[0]));
    assert!(again.out.contains("was pinned already"), "{}", again.out);

    let dry = place.json("prune run --dry-run --json");
    assert_eq!(dry["removed"].as_array().unwrap().len(), free.len() - 1);
    assert_eq!(checkpoints(&place).len(), 4);
    let said = place.ok("prune run --dry-run");
    narrow(&said);
    assert!(said.out.contains("would remove"), "{}", said.out);

    let said = place.ok("prune run");
    narrow(&said);
    assert!(flat(&said).contains("the last 1 are kept"), "{}", said.out);
    assert_eq!(checkpoints(&place).len(), 5 - free.len());

    let told = place.json("explain run --json");
    let all = told["checkpoints"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    for checkpoint in all {
        let step = checkpoint["step"].as_u64().unwrap();
        let fate = if step == free[0] || of(step) {
            "kept"
        } else {
            "removed"
        };
        assert_eq!(checkpoint["fate"], fate, "{checkpoint}");
        assert!(!checkpoint["reasons"].as_array().unwrap().is_empty());
        if step == free[0] {
            assert_eq!(checkpoint["reasons"][0], "it is pinned");
        }
    }

    // What was removed says so, and cannot be pinned.
    place
        .run(&format!("pin run@step:{}", free[1]))
        .fails(1, &["was removed", "the last 1 are kept"]);

    // Unpinned, it goes with the next pruning.
    place.ok(&format!("unpin run@step:{}", free[0]));
    let told = place.json("explain run --json");
    let fates: Vec<_> = told["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["fate"])
        .collect();
    assert!(fates.contains(&&"prunable".into()), "{fates:?}");
    place.ok("prune run");
    assert_eq!(checkpoints(&place).len(), 4 - free.len());
    place.ok("fsck run");
    place.ok("verify run --digest-only");
}

#[test]
fn the_best_is_explained() {
    let place = run_of_four();
    let best = place.json("show run --json")["best"].clone();
    let told = place.json("explain run --json");
    assert_eq!(told["best"]["step"], best["step"]);
    assert_eq!(told["best"]["weights"], best["digest"]);
    assert!(told["best"]["runner_up"]["step"].is_u64());
    assert_eq!(told["evaluations"], 4);
    assert_eq!(told["policies"][0], "last:4");
    let said = place.ok("explain run");
    narrow(&said);
    for words in [
        "best is",
        "because",
        "next",
        "it is the best",
        "last:4",
        "4 times",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }
}

#[test]
fn every_rule_is_reachable_from_the_command_line_and_run_toml() {
    let place = Place::with_data();
    let rules = "--keep best:2 --keep last:2 --keep every:1000 --keep epochs:2 --keep bytes:1MB";
    place.trained("run", &format!("--epochs 3 {rules}"));
    let config = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    let told = place.json("explain run --json");
    let policies: Vec<&str> = told["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    assert_eq!(
        policies,
        ["best:2", "last:2", "every:1000", "epochs:2", "bytes:1MB"]
    );
    for rule in policies {
        assert!(config.contains(rule), "{rule}\n{config}");
    }
    let said = place.ok("explain run");
    assert!(
        flat(&said).contains("number 1 of the best 2"),
        "{}",
        said.out
    );
    assert!(
        flat(&said).contains("number 1 of the last 2"),
        "{}",
        said.out
    );
    assert!(
        flat(&said).contains("one is kept every 2 epochs"),
        "{}",
        said.out
    );
}

#[test]
fn bytes_of_best_and_last_count_once() {
    let place = Place::with_data();
    place.trained("run", "--epochs 1");
    let file = std::fs::metadata(place.path("runs/run/best.safetensors"))
        .unwrap()
        .len();
    assert_eq!(place.json("show run --json")["bytes"], file);
    assert_eq!(place.json("list --json")[0]["bytes"], file);
    assert!(place.ok("show run").out.contains("in 1 checkpoint"));
}

#[test]
fn wrong_names_are_told() {
    let place = run_of_four();
    place
        .run("pin run")
        .fails(2, &["names no checkpoint", "run@step:1200"]);
    place
        .run("pin run@step:999")
        .fails(1, &["has no checkpoint of step:999"]);
    place.run("prune nothing").fails(1, &["no model or run"]);
    place.run("explain nothing").fails(1, &["no model or run"]);
}
