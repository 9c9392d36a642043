//! Runs that come from elsewhere or that somebody touched while they were written to: links, FIFOs, deleted and unreadable files.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Place, SMALL, Said};

/// Waits for the program, which must come to an end: the time is far more than it takes.
fn ended(mut child: Child, what: &str) -> Said {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{what} does not come to an end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Said::of(child.wait_with_output().unwrap())
}

fn in_time(place: &Place, args: &str) -> Said {
    let mut command = place.command(args);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    ended(child.unwrap(), args)
}

/// Starts a training that saves often, and waits until it has saved.
fn training(place: &Place, name: &str, epochs: u32) -> Child {
    let args = format!("train {SMALL} --epochs {epochs} --eval-every 4 --name {name}");
    let mut child = place
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("files ") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "it did not begin");
    }
    // Read to the end, so that the program never waits for it.
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
    let last = place.path(&format!("runs/{name}/last.safetensors"));
    while !last.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// All that is in a directory: names and what the files hold.
fn tree(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(
                tree(&entry.path())
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            ),
            false => all.push((name, std::fs::read(entry.path()).unwrap())),
        }
    }
    all.sort();
    all
}

#[test]
fn training_ends_when_the_directory_of_the_checkpoints_is_gone() {
    let place = Place::with_data();
    let child = training(&place, "run", 40);
    let checkpoints = place.path("runs/run/checkpoints");
    std::fs::rename(&checkpoints, place.path("moved")).unwrap();
    std::fs::write(&checkpoints, "").unwrap();
    ended(child, "training without a directory of checkpoints");
    // What was best is a file of its own name, whole.
    place.ok("verify runs/run/best.safetensors --digest-only");
    place
        .run("show run")
        .fails(1, &["checkpoints is a regular file, not a directory"]);
}

#[test]
fn a_link_in_place_of_the_checkpoints_is_not_written_through() {
    let place = Place::with_data();
    let child = training(&place, "run", 40);
    let checkpoints = place.path("runs/run/checkpoints");
    let moved = place.path("moved");
    std::fs::rename(&checkpoints, &moved).unwrap();
    symlink(&moved, &checkpoints).unwrap();
    let before = tree(&moved).len();
    let said = ended(child, "training with a link to its checkpoints");
    assert_eq!(said.code, 1);
    place
        .run("show run")
        .fails(1, &["checkpoints is a symbolic link, not a directory"]);
    // A save that was under way may have ended there.
    assert!(tree(&moved).len() <= before + 1);
    std::fs::remove_file(&checkpoints).unwrap();
    std::fs::rename(&moved, &checkpoints).unwrap();
    place.ok("train --resume run --quiet");
    place.ok("verify run");
}

#[test]
fn checkpoints_that_are_removed_during_training_are_saved_anew() {
    let place = Place::with_data();
    let child = training(&place, "run", 40);
    std::fs::rename(place.path("runs/run/checkpoints"), place.path("moved")).unwrap();
    ended(child, "training without its checkpoints");
    place.ok("verify runs/run/last.safetensors --digest-only");
    assert!(!tree(&place.path("runs/run/checkpoints")).is_empty());
}

#[test]
fn what_is_put_in_place_of_a_lock_is_told_at_the_end() {
    let place = Place::with_data();
    let child = training(&place, "run", 40);
    let lock = place.path("runs/run/lock");
    std::fs::remove_file(&lock).unwrap();
    symlink("elsewhere", &lock).unwrap();
    let said = ended(child, "training with a link as its lock");
    assert_eq!(said.code, 1);
    std::fs::remove_file(&lock).unwrap();
    place.ok("verify run");
}

#[test]
fn a_lock_that_is_deleted_lets_no_second_writer_in() {
    let place = Place::with_data();
    let mut child = training(&place, "run", 2000);
    std::fs::remove_file(place.path("runs/run/lock")).unwrap();
    for verb in ["train --resume run", "prune run", "fsck --repair run"] {
        in_time(&place, verb).fails(1, &["is being written by another process"]);
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended too early");
    let stopped = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    ended(child, "training");
    place.ok("prune run");
}

#[test]
fn a_journal_that_is_deleted_during_training_comes_back() {
    let place = Place::with_data();
    let child = training(&place, "run", 40);
    let journal = place.path("runs/run/journal.jsonl");
    std::fs::remove_file(&journal).unwrap();
    let said = ended(child, "training");
    assert_eq!(said.code, 0, "{}", said.err);
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(text.contains("was removed while the run was written to"));
    assert_ne!(place.json("show run --json")["status"], "killed");
    place.ok("fsck run");
}

#[test]
fn what_a_link_in_a_run_leads_to_is_not_written_to_and_the_other_runs_are_listed() {
    let place = Place::with_data();
    place.trained("good", "");
    place.trained("bad", "");
    let run = place.path("runs/bad");
    let precious = place.path("precious");
    for name in ["lock", "journal.jsonl", "run.toml", "model.toml"] {
        let path = run.join(name);
        let own = std::fs::read(&path).ok();
        // As good a journal or configuration as the run's own, so that nothing but the link is wrong.
        let bytes = own.clone().unwrap_or_else(|| b"my settings".to_vec());
        let bytes = if name == "lock" {
            b"my settings".to_vec()
        } else {
            bytes
        };
        for is_fifo in [false, true] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&precious, &bytes).unwrap();
            match is_fifo {
                true => fifo(&path),
                false => symlink(&precious, &path).unwrap(),
            }
            let found = if is_fifo { "a FIFO" } else { "a symbolic link" };
            for verb in [
                "prune bad",
                "pin bad@best",
                "archive bad",
                "fsck --repair bad",
                "train --resume bad --epochs 3",
                "show bad",
            ] {
                let said = in_time(&place, verb);
                assert_eq!(said.code, 1, "{verb} with {name}: {}", said.err);
                assert!(said.err.contains(found), "{verb} with {name}: {}", said.err);
                assert!(std::fs::read(&precious).unwrap() == bytes, "{verb}");
            }
            let listed = in_time(&place, "list --json");
            assert_eq!(listed.code, 0, "{}", listed.err);
            let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
            let good = listed.as_array().unwrap().iter();
            let good = good.filter(|run| run["name"] == "good" && run["status"] == "completed");
            assert_eq!(good.count(), 1, "{listed}");
        }
        std::fs::remove_file(&path).unwrap();
        if let Some(own) = own {
            std::fs::write(&path, own).unwrap();
        }
    }
    place.ok("fsck bad");
}

#[test]
fn a_page_is_not_written_through_a_link() {
    let place = Place::with_data();
    place.trained("run", "");
    let (run, precious) = (place.path("runs/run"), place.path("precious"));
    std::fs::write(&precious, "precious").unwrap();
    std::fs::remove_file(run.join("report.html")).unwrap();
    for name in [
        "report.html",
        ".staged-report.html",
        ".staged-report.html.0",
    ] {
        symlink(&precious, run.join(name)).unwrap();
    }
    place.ok("report run");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    let page = std::fs::symlink_metadata(run.join("report.html")).unwrap();
    assert!(page.is_file());
}

#[test]
fn best_as_a_fifo_a_link_or_a_directory_stops_nothing_and_is_mended() {
    let place = Place::with_data();
    let trained = place.trained("run", "--also pth");
    let run = place.path("runs/run");
    let precious = place.path("precious");
    for kind in ["fifo", "link", "directory"] {
        for name in ["best.safetensors", "best.pth"] {
            let path = run.join(name);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&precious, "precious").unwrap();
            match kind {
                "fifo" => fifo(&path),
                "link" => symlink(&precious, &path).unwrap(),
                // A rename does not replace it.
                _ if name == "best.safetensors" => std::fs::create_dir(&path).unwrap(),
                _ => std::fs::write(&path, "other").unwrap(),
            }
        }
        for verb in ["list", "list --pareto val/accuracy,params", "show run"] {
            in_time(&place, verb);
        }
        let said = in_time(&place, "evaluate run");
        assert_eq!(said.code, 1, "{kind}: {}", said.err);
        assert!(said.err.contains("not a regular file"), "{}", said.err);
        let said = in_time(&place, "fsck --repair run");
        assert_eq!(said.code, 0, "{kind}: {}\n{}", said.out, said.err);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        place.ok("fsck run");
        let best = &place.json("show run --json")["best"];
        assert_eq!(best["digest"], trained["best"]["digest"]);
        place.ok("verify run --digest-only");
    }
}

#[test]
fn what_cannot_be_read_ends_a_repair_and_nothing_is_touched() {
    let place = Place::with_data();
    place.trained("run", "--keep last:3");
    let run = place.path("runs/run");
    let best = std::fs::canonicalize(run.join("best.safetensors")).unwrap();
    let before = tree(&run);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // For root nothing is unreadable: then the program runs as somebody else, from where anybody can.
    let program = place.path("keepbest");
    std::fs::copy(env!("CARGO_BIN_EXE_keepbest"), &program).unwrap();
    let all = Command::new("chmod")
        .args(["-R", "a+rwX"])
        .arg(place.path("."))
        .status();
    assert!(all.unwrap().success());
    let is_root = std::fs::metadata(&program).unwrap().uid() == 0;
    let as_somebody = |args: &str| {
        let mut command = Command::new(&program);
        command
            .current_dir(place.path("."))
            .args(args.split_whitespace());
        if is_root {
            command.uid(65534).gid(65534);
        }
        Said::of(command.output().unwrap())
    };
    let inode = std::fs::metadata(&best).unwrap().ino();
    let checkpoint = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::metadata(path).unwrap().ino() == inode)
        .unwrap();
    open(&checkpoint, 0o000);
    for verb in ["fsck --repair run", "train --resume run --epochs 3"] {
        let said = as_somebody(verb);
        said.fails(1, &["cannot read", "Permission denied"]);
        open(&checkpoint, 0o644);
        assert!(tree(&run) == before, "{verb} touched something");
        open(&checkpoint, 0o000);
    }
    open(&checkpoint, 0o644);
    let said = as_somebody("fsck --repair run");
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn what_an_earlier_repair_threw_out_is_taken_back() {
    let place = Place::with_data();
    let trained = place.trained("run", "--epochs 4 --keep last:4");
    let run = place.path("runs/run");
    let best = run.join("best.safetensors");
    let whole = std::fs::read(&best).unwrap();
    let mut rotten = whole.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    // In place, so that every name of the file has it.
    std::fs::write(&best, &rotten).unwrap();
    // A best that is lost is in the exit code.
    let said = place.run("fsck --repair run");
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(said.out.contains("mended"), "{}", said.out);
    let other = &place.json("show run --json")["best"]["digest"];
    assert_ne!(*other, trained["best"]["digest"]);
    let aside = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "damaged"))
        .unwrap();
    std::fs::write(&aside, &whole).unwrap();
    let said = place.ok("fsck --repair run");
    assert!(said.out.contains("taken back as"), "{}", said.out);
    assert_eq!(
        place.json("show run --json")["best"]["digest"],
        trained["best"]["digest"]
    );
    assert!(std::fs::read(&best).unwrap() == whole);
    place.ok("fsck run");
}

#[test]
fn an_archived_model_is_opened_where_nobody_else_can_put_anything() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    let done = place.json("archive run --json");
    let name = done["checkpoints"][0].as_str().unwrap();
    let step: u64 = name.split('-').next().unwrap().parse().unwrap();
    let (temporary, precious) = (place.path("tmp"), place.path("precious"));
    std::fs::create_dir(&temporary).unwrap();
    std::fs::write(&precious, "precious").unwrap();
    // The name that it once had, for every process that may come next.
    let own = std::process::id();
    for pid in own..own + 20_000 {
        symlink(&precious, temporary.join(format!("keepbest-{pid}-{name}"))).unwrap();
    }
    let before = std::fs::read_dir(&temporary).unwrap().count();
    let mut command = place.command(&format!("verify run@step:{step} --digest-only"));
    let said = Said::of(command.env("TMPDIR", &temporary).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), before);
}

#[test]
fn a_run_that_cannot_be_created_does_not_take_its_name() {
    let place = Place::with_data();
    let program = env!("CARGO_BIN_EXE_keepbest");
    // No file may grow: with the signal ignored, a write fails.
    let script = format!("trap '' XFSZ; ulimit -f 0; exec {program} train {SMALL} --name run");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(place.path("."))
        .stdin(Stdio::null())
        .output();
    let said = Said::of(output.unwrap());
    said.fails(1, &["runs/run"]);
    assert!(!place.path("runs/run").exists());
    place.trained("run", "");
}

#[test]
fn a_journal_that_is_changed_in_place_during_training_comes_back() {
    let place = Place::with_data();
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("was cut to", |path| std::fs::write(path, "").unwrap()),
        ("was cut to", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 100).unwrap();
        }),
        ("was changed", |path| {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"x\n").unwrap();
        }),
    ];
    for (at, (told, change)) in changes.into_iter().enumerate() {
        let name = format!("run{at}");
        let child = training(&place, &name, 40);
        let journal = place.path(&format!("runs/{name}/journal.jsonl"));
        change(&journal);
        let said = ended(child, "training");
        assert_eq!(said.code, 0, "{told}: {}", said.err);
        let text = std::fs::read_to_string(&journal).unwrap();
        assert!(text.contains(told), "{told}");
        assert!(text.contains("\"event\":\"started\""), "{told}");
        assert_eq!(
            place.json(&format!("show {name} --json"))["status"],
            "completed"
        );
        place.ok(&format!("fsck {name}"));
    }
}

#[test]
fn a_journal_without_its_beginning_is_mended_in_words_that_say_what_is_missing() {
    let place = Place::with_data();
    place.trained("run", "");
    let journal = place.path("runs/run/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&journal, rest).unwrap();
    let said = place.run("fsck run --repair");
    let told = "what was line 1 is gone";
    assert!(said.out.contains(told), "{}", said.out);
    let said = place.ok("show run");
    assert!(said.out.contains("(score "), "{}", said.out);
}

#[test]
fn what_a_run_keeps_is_not_written_over_by_any_verb() {
    let place = Place::with_data();
    let trained = place.trained("r", "--keep last:2 --also pth");
    let run = place.path("runs/r");
    place.ok("export r --to a.pth");
    let checkpoint = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let checkpoint = checkpoint.last().unwrap().unwrap().file_name();
    let checkpoint = format!("runs/r/checkpoints/{}", checkpoint.to_str().unwrap());
    symlink(&run, place.path("link")).unwrap();
    place.ok("fsck r");
    let before = tree(&run);
    for verb in [
        "card r --to runs/r/run.toml --force".to_owned(),
        "card r --to runs/r/journal.jsonl --force".into(),
        "card r --to runs/r/lock --force".into(),
        "card r --to link/journal.jsonl --force".into(),
        "card r --to runs/r/checkpoints/new.md".into(),
        "export r --to runs/r/best.safetensors --force".into(),
        "export r --to runs/r/best.pth --force".into(),
        "export r --to runs/r/best.val-loss.safetensors".into(),
        format!("export r --to {checkpoint} --force"),
        format!("import a.pth --model simple-cnn --to {checkpoint} --force"),
        "average r@last r@best --out runs/r/best.safetensors --force".into(),
        "thresholds r@last --metric f1_macro --out runs/r/best.safetensors --force".into(),
        "report r --to runs/r/run.toml --force".into(),
        "models draw simple-cnn --to runs/r/model.toml --force".into(),
    ] {
        let said = place.run(&verb);
        said.fails(2, &["is a file of the run", "hint: name another file"]);
        assert!(tree(&run) == before, "{verb}");
    }
    // What lies beside is anybody's.
    place.ok("card r --to runs/r/README.md");
    place.ok("export r --to runs/r/best.onnx");
    assert_eq!(
        place.json("show r --json")["best"]["digest"],
        trained["best"]["digest"]
    );
}

#[test]
fn settings_that_are_gone_are_written_anew_by_the_journal() {
    let place = Place::with_data();
    place.trained("run", "");
    let settings = place.path("runs/run/run.toml");
    let before = std::fs::read_to_string(&settings).unwrap();
    std::fs::remove_file(&settings).unwrap();
    place
        .run("fsck run")
        .fails(1, &["it has no run.toml", "--repair writes it anew"]);
    let said = place.ok("fsck run --repair");
    let told = "run.toml: it is missing (written anew";
    assert!(said.out.contains(told), "{}", said.out);
    let set = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let after = std::fs::read_to_string(&settings).unwrap();
    assert_eq!(set(&after), set(&before));
    place.ok("fsck run");
    place.ok("verify run");
    place.ok("train --resume run --epochs 3");
    // With a damaged journal both are mended.
    std::fs::remove_file(&settings).unwrap();
    let journal = place.path("runs/run/journal.jsonl");
    let mut text = std::fs::read_to_string(&journal).unwrap();
    let second = text.find('\n').unwrap() + 20;
    text.replace_range(second..=second, "~");
    std::fs::write(&journal, text).unwrap();
    let said = place.run("fsck run --repair");
    assert!(said.out.contains("damaged in line 2"), "{}", said.out);
    place.ok("fsck run");
    // Where the journal does not tell it either, nothing is made up.
    std::fs::remove_file(&settings).unwrap();
    std::fs::write(&journal, "").unwrap();
    place
        .run("fsck run --repair")
        .fails(1, &["it has no run.toml"]);
    assert!(!settings.exists());
}
