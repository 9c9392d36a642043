//! What is said: names of any kind, hints that help, files that are not replaced unasked.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Place, SMALL, Said};

/// A terminal's commands and what nobody sees, as names of classes. The order is that of the folders.
const CLASSES: [&str; 4] = [
    "\u{1b}[31mred",
    "a\nerror: forged",
    "b\u{9b}32m\u{7f}",
    "c\u{202e}gnp\u{7}",
];

/// Expects that nothing but line breaks is written that is not seen.
fn is_clean(what: &str, text: &str) {
    let seen = |c: char| {
        c == '\n'
            || !(c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    let bad = text.chars().find(|c| !seen(*c));
    assert_eq!(bad, None, "of {what}:\n{text}");
    assert!(!text.contains("\nerror: forged"), "of {what}:\n{text}");
}

/// Runs it, whatever comes of it, and looks at all it writes.
fn clean(place: &Place, args: &[&str]) -> Said {
    let said = Said::of(place.command("").args(args).output().unwrap());
    is_clean(&args.join(" "), &said.out);
    is_clean(&args.join(" "), &said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

/// Photographs in `photos`, of four classes with such names.
fn hostile_photos(place: &Place) {
    place.ok("data sample --to photos --count 80 --by-class");
    let mut folders: Vec<_> = std::fs::read_dir(place.path("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    for (at, folder) in folders.iter().enumerate() {
        match CLASSES.get(at) {
            Some(name) => std::fs::rename(folder, place.path("photos").join(name)).unwrap(),
            None => std::fs::remove_dir_all(folder).unwrap(),
        }
    }
    let first = place.path("photos").join(CLASSES[0]);
    let image = std::fs::read_dir(&first).unwrap().next().unwrap().unwrap();
    std::fs::rename(image.path(), first.join("\u{1b}]0;title\u{7}\n.png")).unwrap();
}

#[test]
fn names_of_classes_and_files_are_written_out_wherever_they_are_shown() {
    let place = Place::new();
    hostile_photos(&place);
    let train = "train --data photos --epochs 1 --batch-size 8 --val-fraction 0.25 --name run";
    let said = clean(&place, &train.split(' ').collect::<Vec<_>>());
    assert_eq!(said.code, 0, "{}", said.err);
    let image = format!("photos/{}/\u{1b}]0;title\u{7}\n.png", CLASSES[0]);
    for args in [
        &["data", "info", "photos"][..],
        &["list"],
        &["show", "run"],
        &["explain", "run"],
        &["evaluate", "run"],
        &["evaluate", "run", "--split", "train"],
        &["predict", "run", &image, "-k", "4"],
        &["predict", "run", "photos"],
        &["inspect", "run"],
        &["verify", "run"],
        &["compare", "run", "run", "--html", "both.html"],
        &["card", "run", "--to", "card.md"],
        &["card", "run"],
        &["report", "run"],
        &["report", "run", "--plots", "plots"],
        &[
            "thresholds",
            "run",
            "--metric",
            "f1_macro",
            "--out",
            "t.safetensors",
        ],
        &["inspect", "t.safetensors"],
        &["card", "t.safetensors"],
        &["export", "run", "--to", "m.onnx"],
        &["inspect", "m.onnx"],
        &["data", "preview", "photos", "--to", "sheet.png"],
        &[
            "data",
            "sample",
            "photos",
            "--to",
            "samples",
            "--by-class",
            "--count",
            "4",
        ],
    ] {
        let said = clean(&place, args);
        assert_eq!(said.code, 0, "{args:?}\n{}", said.err);
    }
    let shown = clean(&place, &["inspect", "run"]).out;
    assert!(
        shown.contains("\\u001b[31mred, a\\nerror: forged"),
        "{shown}"
    );
    for file in ["both.html", "card.md", "runs/run/report.html"] {
        is_clean(file, &std::fs::read_to_string(place.path(file)).unwrap());
    }
    for file in std::fs::read_dir(place.path("plots")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "svg") {
            is_clean("a plot", &std::fs::read_to_string(file).unwrap());
        }
    }
    // In JSON the names are exact.
    for args in [
        &["evaluate", "run", "--json"][..],
        &["data", "info", "photos", "--json"],
        &["inspect", "run", "--json"],
    ] {
        let said = clean(&place, args);
        let json: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(json["classes"], serde_json::json!(CLASSES), "{args:?}");
    }
    let said = clean(&place, &["predict", "run", &image, "--json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["input"], image);
}

#[test]
fn errors_and_wrong_usage_write_names_out() {
    let place = Place::with_data();
    place.trained("run", "");
    let esc = "\u{1b}[31m\u{9b}1m\u{202e}\nerror: forged";
    for (code, args) in [
        (1, &["predict", "run", esc][..]),
        (1, &["predict", esc, "x.png"]),
        (1, &["show", esc]),
        (2, &["show", "run", esc]),
        (2, &[esc]),
        (2, &["evaluate", "run", "--split", esc]),
        (2, &["train", "--optimizer", esc]),
        (2, &["train", "--monitor", esc]),
        (2, &["train", "--model", esc]),
        (1, &["train", "--data", esc]),
        (1, &["train", "--config", esc]),
        (2, &["train", "--name", esc]),
        (2, &["list", "--sort", esc]),
        (0, &["list", "--runs-dir", esc]),
    ] {
        assert_eq!(clean(&place, args).code, code, "{args:?}");
    }
}

#[test]
fn names_in_model_files_and_tensors_are_written_out() {
    let place = Place::with_data();
    let text = place
        .ok("models show lenet5 --classes 4 --input 1x28x28")
        .out;
    let name = "name = \"lenet5\"";
    assert!(text.contains(name), "{text}");
    let hostile = text.replace(name, "name = \"../\\u001b[31mnet\\u202e\"");
    std::fs::write(place.path("net.toml"), hostile).unwrap();
    for args in [
        &["models", "show", "net.toml"][..],
        &["models", "show", "net.toml", "--table"],
        &["models", "draw", "net.toml", "--to", "net.svg"],
        &[
            "train",
            "--data",
            "data",
            "--model",
            "net.toml",
            "--epochs",
            "1",
            "--batch-size",
            "16",
        ],
        &["list"],
    ] {
        let said = clean(&place, args);
        assert_eq!(said.code, 0, "{args:?}\n{}", said.err);
    }
    is_clean(
        "the picture",
        &std::fs::read_to_string(place.path("net.svg")).unwrap(),
    );
    // A network's name is no path: the run lies among the others.
    let runs = place.json("list --json");
    assert_eq!(runs[0]["name"], "..__[31mnet_-1");

    // Tensors, in a file made by hand; of long names the end is shown.
    let long = "backbone.".repeat(8);
    let header = serde_json::json!({
        "\u{1b}[31mw\u{202e}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        format!("{long}weight"): {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        "__metadata__": {"\u{9b}key": "\u{1b}]0;x\u{7}\nerror: forged"},
    });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header.as_bytes(), &[0; 8]].concat();
    std::fs::write(place.path("w.safetensors"), file).unwrap();
    let said = clean(&place, &["inspect", "w.safetensors"]);
    assert!(said.out.contains("\\u001b[31mw\\u202e"), "{}", said.out);
    assert!(said.out.contains("..kbone.backbone."), "{}", said.out);
    let json = clean(&place, &["inspect", "w.safetensors", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let names = json["weights"].as_array().unwrap().iter();
    let names: Vec<&str> = names
        .map(|tensor| tensor["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"\u{1b}[31mw\u{202e}"), "{names:?}");
    clean(
        &place,
        &[
            "import",
            "w.safetensors",
            "--model",
            "lenet5",
            "--to",
            "x.safetensors",
        ],
    );
    clean(&place, &["verify", "w.safetensors"]);
}

#[test]
fn a_run_has_the_name_of_one_folder() {
    let place = Place::with_data();
    let absolute = place.path("abs");
    for name in [
        "a/b",
        "../x",
        absolute.to_str().unwrap(),
        ".",
        "..",
        "-x",
        "a\nb",
        "\u{1b}x",
        " ",
        "run@best",
        "run@",
    ] {
        let said = Said::of(
            place
                .command(&format!("train {SMALL}"))
                .arg(format!("--name={name}"))
                .output()
                .unwrap(),
        );
        said.fails(2, &["--name must be the name of one folder"]);
    }
    assert!(!place.path("runs").exists() && !place.path("x").exists() && !absolute.exists());
    // All others are found again, by every verb.
    for name in ["my run", "a@b", "größe", "it's"] {
        let train = format!("train {SMALL} --epochs 1 --quiet");
        let said = place
            .command(&train)
            .args(["--name", name])
            .output()
            .unwrap();
        assert!(said.status.success(), "{name}");
        for verb in ["show", "evaluate", "verify", "explain"] {
            let said = Said::of(place.command(verb).arg(name).output().unwrap());
            assert_eq!(said.code, 0, "{verb} {name}: {}", said.err);
        }
    }
    let listed = place.json("list --json");
    assert_eq!(listed.as_array().unwrap().len(), 4);
}

/// The commands that a line of advice has, run by a shell.
fn run_by_shell(place: &Place, line: &str) {
    let line = line.trim().strip_prefix("keepbest ").unwrap();
    let said = Command::new("sh")
        .arg("-c")
        .arg(format!("{} {line}", env!("CARGO_BIN_EXE_keepbest")))
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let said = Said::of(said);
    assert_eq!(said.code, 0, "{line}\n{}", said.err);
}

#[test]
fn commands_that_are_advised_can_be_pasted() {
    let place = Place::with_data();
    let train = format!("train {SMALL} --epochs 1 --data data");
    let said = place
        .command(&train)
        .args(["--runs-dir", "my runs; exit 7", "--name", "it's one"])
        .output()
        .unwrap();
    let said = Said::of(said);
    let next = said.err.split("try next\n").nth(1).unwrap();
    let lines: Vec<&str> = next
        .lines()
        .filter(|line| line.contains("keepbest ") && !line.contains("IMAGE"))
        .collect();
    assert!(lines.len() >= 2, "{next}");
    for line in lines {
        run_by_shell(&place, line);
    }
    // Of errors, too.
    let said = place
        .command("show nothing")
        .args(["--runs-dir", "my runs; exit 7"])
        .output()
        .unwrap();
    let said = Said::of(said);
    let hint = said.err.split('`').nth(1).unwrap();
    run_by_shell(&place, hint);
}

#[test]
fn a_run_is_resumed_by_its_resume_point_too() {
    let place = Place::with_data();
    place.trained("run", "");
    for (run, epochs) in [
        ("runs/run/last.safetensors", 3),
        ("run@last", 4),
        ("run", 5),
    ] {
        let told = place.json(&format!(
            "train --resume {run} --epochs {epochs} --quiet --json"
        ));
        assert_eq!(told["epoch"], epochs, "{told}");
    }
    place.run("train --resume runs/run/best.safetensors").fails(
        1,
        &[
            "is not what its run goes on from",
            "--resume runs/run`",
            "--from runs/run/best.safetensors`",
        ],
    );
    place
        .run("show runs/run/best.safetensors")
        .fails(1, &["is a file, not a run", "its run is runs/run"]);
    place
        .run("train --resume data/train-images-idx3-ubyte")
        .fails(1, &["is a file, not a run"]);
}

#[test]
fn hints_name_the_metric_that_is_meant() {
    // The name is looked at before the data, and before whether more or less of it is better.
    let place = Place::new();
    for (flags, meant) in [
        ("--monitor val/acc", "val/accuracy"),
        ("--monitor accuracy", "val/accuracy"),
        ("--monitor acc", "val/accuracy"),
        ("--monitor loss", "val/loss"),
        ("--monitor val/f1", "val/f1_macro"),
        ("--monitor val/auc", "val/roc_auc_ovr"),
        ("--monitor val/mcc", "val/matthews"),
        ("--monitor val/acc --mode max", "val/accuracy"),
        ("--monitor max:val/acc", "val/accuracy"),
        ("--monitor val/acc+val/f1_macro", "val/accuracy"),
        ("--monitor val/loss --monitor val/acc", "val/accuracy"),
        ("--tie-break val/los", "val/loss"),
        ("--constraint recall>0.9", "val/recall_macro"),
        ("--pareto val/acc,latency", "val/accuracy"),
    ] {
        let said = place.run(&format!("train --data nowhere {flags}"));
        said.fails(2, &["was not measured", &format!("did you mean {meant}?")]);
        assert!(!said.err.contains("--mode max|min"), "{}", said.err);
    }
    place
        .run("train --data nowhere --monitor val/throughput")
        .fails(
            2,
            &["metric `val/throughput` was not measured; there are: "],
        );
    place
        .run("list --pareto val/acc,latency_ms")
        .fails(2, &["did you mean val/accuracy?"]);
}

#[test]
fn hints_name_what_the_verb_has() {
    let place = Place::with_data();
    place.trained("one", "");
    place.trained("two", "--seed 9");
    place.ok("export one --to one.pth");
    for verb in [
        "verify one.pth",
        "card one.pth",
        "thresholds one.pth --metric f1_macro --out t.safetensors",
    ] {
        let said = place.run(verb);
        said.fails(1, &["nothing is recorded", "`keepbest import one.pth"]);
    }
    // The images of one folder, split anew by each seed.
    place.ok("data sample --to photos --count 60 --by-class");
    let train = "train --data photos --epochs 1 --batch-size 8 --quiet";
    place.ok(&format!("{train} --name a"));
    place.ok(&format!("{train} --name b --seed 2"));
    let said = place.run("compare a b --split test");
    said.fails(
        1,
        &[
            "the test images of runs/b/best.safetensors are not those of runs/a",
            "--data",
        ],
    );
    assert!(!said.err.contains("--split test"), "{}", said.err);
}

#[test]
fn runs_are_listed_by_what_there_is() {
    let place = Place::with_data();
    place.ok("list --sort lr");
    place
        .run("list --sort nonsense")
        .fails(2, &["no run has \"nonsense\"", "status"]);
    place.trained("run", "");
    for (flags, words) in [
        (
            &["--sort", "nonsense"][..],
            "no run has \"nonsense\": there are name, status",
        ),
        (&["--sort", "-statu"], "did you mean status?"),
        (&["--sort", "val/acc"], "did you mean val/accuracy?"),
        (&["--sort", "epoch_count"], "no run has"),
        (&["--where", "lr >"], "VALUE"),
        (&["--where", "nonsense = 1"], "no run has \"nonsense\""),
        (&["--where", "val/lss < 1"], "did you mean val/loss?"),
        (
            &["--where", "lr > much"],
            "lr is a number, such as 0.01; \"much\" is none",
        ),
    ] {
        let said = Said::of(place.command("list").args(flags).output().unwrap());
        said.fails(2, &[words]);
    }
    for flags in [
        &["--sort", "-val/accuracy"][..],
        &["--sort", "patience"],
        &["--sort", "test/log_loss"],
        &["--where", "status = completed"],
        &["--where", "patience != 3"],
    ] {
        let said = Said::of(place.command("list").args(flags).output().unwrap());
        assert_eq!(said.code, 0, "{flags:?}\n{}", said.err);
        assert!(said.out.contains("run  "), "{flags:?}\n{}", said.out);
    }
}

#[test]
fn an_input_may_be_written_with_its_channels_at_the_end() {
    let place = Place::new();
    let first = place.ok("models show resnet18 --input 3x48x64 --table");
    let last = place.ok("models show resnet18 --input 48x64x3 --table");
    assert_eq!(first.out, last.out);
    assert!(
        last.err.contains("48 high, 64 wide, and has 3 channels"),
        "{}",
        last.err
    );
    assert_eq!(first.err, "");
}

/// Bytes of a file, if it is there.
fn bytes(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn files_are_not_replaced_unasked() {
    let place = Place::with_data();
    place.trained("run", "");
    for (command, file) in [
        ("card run --to card.md", "card.md"),
        ("models draw lenet5 --to net.svg", "net.svg"),
        ("data preview data --to sheet.png", "sheet.png"),
        ("data sample --to samples", "samples/00000-Ankle_boot.png"),
        ("report run --to page.html", "page.html"),
        ("report run --plots plots", "plots/monitor.svg"),
        ("compare run run --html both.html", "both.html"),
        (
            "lr-find --data data --batch-size 16 --to rates.svg",
            "rates.svg",
        ),
        ("export run --to run.pth", "run.pth"),
    ] {
        let path = place.path(file);
        place.ok(command);
        assert!(path.is_file(), "{command} makes no {file}");
        std::fs::write(&path, "mine").unwrap();
        place.run(command).fails(1, &["exists already", "--force"]);
        assert_eq!(bytes(&path).unwrap(), b"mine", "{command}");
        place.ok(&format!("{command} --force"));
        assert_ne!(bytes(&path).unwrap(), b"mine", "{command}");
    }
    // The page that a run keeps is its own.
    place.ok("report run");
    place.ok("report run --to runs/run/report.html");
}

#[test]
fn what_followed_from_another_setting_follows_anew() {
    let place = Place::with_data();
    place.trained("run", "--epochs 8");
    let settings = |run: &str| -> toml::Table {
        let text = std::fs::read_to_string(place.path(&format!("runs/{run}/run.toml"))).unwrap();
        text.parse().unwrap()
    };
    assert_eq!(settings("run")["warmup"].as_float(), Some(2.0));
    let config = "train --config runs/run/run.toml";
    let said = place.ok(&format!("{config} --epochs 1 --name short"));
    assert!(
        said.err
            .contains("warmup, 2.0 in runs/run/run.toml, follows from the new epochs"),
        "{}",
        said.err
    );
    assert_eq!(settings("short")["warmup"].as_float(), Some(0.25));
    place.ok(&format!(
        "{config} --epochs 1 --optimizer adamw --name adam --quiet"
    ));
    assert!(!settings("adam").contains_key("momentum"));
    // A rate that was chosen stays, and so does a warm-up.
    assert_eq!(settings("adam")["lr"].as_float(), Some(0.01));
    place.ok(&format!("{config} --warmup 1 --name chosen --quiet"));
    place
        .run("train --config runs/chosen/run.toml --epochs 1 --warmup 3")
        .fails(2, &["warmup is 3 epochs"]);
    place.ok("train --config runs/chosen/run.toml --epochs 1 --name kept --quiet");
    assert_eq!(settings("kept")["warmup"].as_float(), Some(1.0));
}

#[test]
fn few_epochs_are_not_for_the_strong_recipe() {
    let place = Place::with_data();
    let train = "train --data data --model lenet5 --batch-size 16";
    let said = place.ok(&format!("{train} --recipe strong --epochs 1"));
    assert!(said.err.contains("--recipe quick"), "{}", said.err);
    let said = place.ok(&format!("{train} --recipe quick --epochs 1"));
    assert!(!said.err.contains("--recipe"), "{}", said.err);
}
