//! `archive` and `restore`: old checkpoints in less room, every bit of them.

use std::collections::BTreeMap;

use crate::support::Place;

fn files(place: &Place) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(place.path("runs/run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// The step in a checkpoint's name.
fn step(name: &str) -> u64 {
    name.split('-').next().unwrap().parse().unwrap()
}

#[test]
fn archived_checkpoints_come_back_bit_for_bit() {
    let place = Place::with_data();
    place.trained("run", "--epochs 6 --keep last:6");
    let before = files(&place);
    assert_eq!(before.len(), 6);
    let first = before.keys().next().unwrap().clone();
    place.ok(&format!("pin run@step:{}", step(&first)));

    let done = place.json("archive run --json");
    let names: Vec<&str> = done["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(names.len() >= 3, "{done}");
    assert!(
        !names.contains(&first.as_str()),
        "a pinned one was archived"
    );
    assert!(done["ratio"].as_f64().unwrap() < 0.9, "{done}");
    // Training goes on from one as from any other model.
    place.trained(
        "child",
        &format!("--epochs 1 --from run@step:{}", step(names[0])),
    );
    let after = files(&place);
    assert_eq!(after.len(), 6 - names.len());
    assert!(names.iter().all(|name| !after.contains_key(*name)));

    for name in &names {
        let which = format!("run@step:{}", step(name));
        // As a file.
        place.ok(&format!("restore {which} --to out.safetensors"));
        let out = place.path("out.safetensors");
        assert!(std::fs::read(&out).unwrap() == before[*name], "{name}");
        std::fs::remove_file(out).unwrap();
        // As a MODEL.
        let said = place.ok(&format!("verify {which} --digest-only"));
        assert!(
            said.out
                .contains("every byte is as the file's own digests have it"),
            "{}",
            said.out
        );
    }
    let which = format!("run@step:{}", step(names[0]));
    let measured = place.json(&format!("evaluate {which} --json"));
    assert!(measured["metrics"].is_object());
    place.ok(&format!("inspect {which}"));

    let told = place.json("explain run --json");
    let fates = told["checkpoints"].as_array().unwrap().iter();
    assert_eq!(
        fates.filter(|c| c["fate"] == "archived").count(),
        names.len()
    );
    let again = place.ok("archive run");
    assert!(again.out.contains("nothing to archive"), "{}", again.out);
    assert_eq!(place.ok("fsck run").code, 0);

    // Back into the run, where it stays.
    place.ok(&format!("restore {which}"));
    assert!(files(&place)[names[0]] == before[names[0]]);
    place.ok("prune run");
    assert!(files(&place).contains_key(names[0]));
    place.ok("fsck run");
    // Unpinned it is archived already: the file goes, and nothing is written.
    place.ok(&format!("unpin {which}"));
    place.ok("archive run");
    assert!(!files(&place).contains_key(names[0]));
    place.ok(&format!("verify {which} --digest-only"));
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    let before = files(&place);
    let run = place.path("runs/run");
    let journal = std::fs::read(run.join("journal.jsonl")).unwrap();
    let done = place.json("archive run --json");
    let archived = std::fs::read(run.join("journal.jsonl")).unwrap();
    let lines: Vec<&[u8]> = archived[journal.len()..]
        .split_inclusive(|b| *b == b'\n')
        .collect();
    assert!(lines.len() >= 2);
    for name in before
        .keys()
        .filter(|name| !files(&place).contains_key(*name))
    {
        std::fs::write(run.join("checkpoints").join(name), &before[name]).unwrap();
    }

    // Killed before the journal knew of the archive, with another one half written.
    std::fs::write(run.join("journal.jsonl"), &journal).unwrap();
    std::fs::write(
        run.join("archives/.staged-0002.kbarchive.0"),
        b"KBARCH1\nhalf",
    )
    .unwrap();
    let again = place.json("archive run --json");
    assert_eq!(again["checkpoints"], done["checkpoints"]);
    let there: Vec<_> = std::fs::read_dir(run.join("archives")).unwrap().collect();
    assert_eq!(there.len(), 1, "{there:?}");

    // Killed after it was journalled and before the originals went.
    let one_line = [&journal[..], lines[0]].concat();
    std::fs::write(run.join("journal.jsonl"), one_line).unwrap();
    for (name, bytes) in &before {
        std::fs::write(run.join("checkpoints").join(name), bytes).unwrap();
    }
    place.ok("archive run");
    for name in done["checkpoints"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        assert!(!run.join("checkpoints").join(name).exists());
        place.ok(&format!("restore run@step:{} --to {name}", step(name)));
        assert!(std::fs::read(place.path(name)).unwrap() == before[name]);
    }
}

#[test]
fn a_damaged_archive_is_told_and_its_originals_stay() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    let done = place.json("archive run --json");
    let archive = place.path(done["archive"].as_str().unwrap());
    let name = done["checkpoints"][0].as_str().unwrap();
    let whole = std::fs::read(&archive).unwrap();
    for at in [0, whole.len() / 4, whole.len() - 60, whole.len() - 1] {
        let mut bad = whole.clone();
        bad[at] ^= 0x20;
        std::fs::write(&archive, &bad).unwrap();
        let said = place.run(&format!("evaluate run@step:{}", step(name)));
        said.fails(1, &[".kbarchive"]);
    }
    std::fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    place
        .run(&format!("restore run@step:{} --to x", step(name)))
        .fails(1, &["not a whole archive"]);
    std::fs::write(&archive, &whole).unwrap();
    place.ok(&format!("restore run@step:{} --to x", step(name)));
    // A file that is there is not overwritten.
    place
        .run(&format!("restore run@step:{} --to x", step(name)))
        .fails(1, &["x exists already", "--force"]);
}

#[test]
fn an_archived_model_is_told_by_the_name_it_had() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    let done = place.json("archive run --json");
    let name = done["checkpoints"][0].as_str().unwrap();
    let which = format!("run@step:{}", step(name));
    let path = format!("runs/run/checkpoints/{name}");
    let told = place.json(&format!("evaluate {which} --json"));
    assert_eq!(told["model"], path.as_str());
    let said = place.ok(&format!("evaluate {which}"));
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains(&path), "{all}");
    assert!(!all.contains("/keepbest-"), "{all}");
    for (verb, code) in [
        (format!("verify {which}"), 0),
        (format!("verify {path} --digest-only"), 0),
        (format!("inspect {which}"), 0),
        (format!("average run {which} --out mean.safetensors"), 0),
        ("inspect mean.safetensors --json".into(), 0),
    ] {
        let said = place.run(&verb);
        let all = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, code, "{verb}: {all}");
        assert!(all.contains(&path), "{verb}: {all}");
        assert!(!all.contains("/keepbest-"), "{verb}: {all}");
    }
}

#[test]
fn a_run_that_starts_from_an_archived_checkpoint_is_trained_again() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    place.trained("before", "--epochs 1 --from run@epoch:2");
    let done = place.json("archive run --json");
    let names = done["checkpoints"].to_string();
    place.trained("after", "--epochs 1 --from run@epoch:2");
    for child in ["before", "after"] {
        let toml = place.path(&format!("runs/{child}/run.toml"));
        let settings: toml::Table = std::fs::read_to_string(toml).unwrap().parse().unwrap();
        let from = settings["from"].as_str().unwrap();
        assert!(!place.path(from).exists(), "{from}");
        assert!(names.contains(from.rsplit('/').next().unwrap()), "{from}");
        place.ok(&format!("reproduce {child}"));
        place.ok(&format!(
            "train --config runs/{child}/run.toml --name {child}-again --quiet"
        ));
    }
    // The model itself is the same, wherever it lies: in another directory, and as a path.
    std::fs::create_dir(place.path("else")).unwrap();
    let said = place.run_in("else", "reproduce ../runs/after");
    assert_eq!(said.code, 0, "{}", said.err);
}
