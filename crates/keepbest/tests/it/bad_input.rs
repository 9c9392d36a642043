//! Everything wrong that a user can hand over: a clear error, the right exit code, nothing left behind or lost.

use std::path::PathBuf;

use crate::support::{Place, SMALL};

/// A `train` that fails before it makes a run.
fn refused(place: &Place, args: &str, code: i32, words: &[&str]) {
    place.run(&format!("train {args}")).fails(code, words);
    assert!(!place.path("runs").exists(), "{args} left a run behind");
}

#[test]
fn settings() {
    let place = Place::with_data();
    refused(
        &place,
        "--lr NaN",
        2,
        &["--lr must be a finite number above 0, found \"NaN\""],
    );
    refused(
        &place,
        "--lr 0",
        2,
        &["--lr must be a finite number above 0"],
    );
    refused(&place, "--lr -0.1", 2, &["found \"-0.1\""]);
    refused(
        &place,
        "--epochs 0",
        2,
        &["--epochs must be a whole number from 1 to 1,000,000,000"],
    );
    refused(&place, "--batch-size 0", 2, &["--batch-size"]);
    refused(
        &place,
        "--optimizer adamm",
        2,
        &["one of sgd, adam or adamw (did you mean adam?)"],
    );
    refused(
        &place,
        "--momentum 0.9 --optimizer adam",
        2,
        &["momentum is a setting of optimizer sgd"],
    );
    refused(
        &place,
        "--val-fraction 1",
        2,
        &["--val-fraction must be a number between 0 and 1"],
    );
    refused(
        &place,
        "--model resnet",
        2,
        &["unknown model `resnet`", "hint: did you mean resnet18?"],
    );
    refused(
        &place,
        "--device cuda",
        2,
        &[
            "no device cuda in this build; it has: cpu",
            "keepbest[torch]",
        ],
    );
    refused(&place, "--monitor val/acc --data data", 2, &["val/acc"]);
    refused(&place, "--monitor mine --data data", 2, &["mine"]);
    refused(&place, "--keep everything", 2, &["not a retention policy"]);
    refused(
        &place,
        &format!("{SMALL} --batch-size 109"),
        2,
        &["batch size 109 is larger than the training set (108 images)"],
    );
    refused(
        &place,
        &format!("{SMALL} --class-weights 1,2"),
        2,
        &["2 class weights for 4 classes"],
    );
    place
        .run("evaluate x --device tpu")
        .fails(2, &["no device tpu", "cpu"]);
    assert_eq!(place.run("train --epoch 3").code, 2);

    std::fs::write(place.path("run.toml"), "data = \"data\"\nepoch = 3\n").unwrap();
    refused(
        &place,
        "--config run.toml",
        2,
        &[
            "run.toml",
            "line 2: epoch is no setting",
            "hint: did you mean epochs?",
        ],
    );
    std::fs::write(place.path("run.toml"), "epochs = \n").unwrap();
    refused(&place, "--config run.toml", 2, &["line 1: not TOML"]);
    refused(
        &place,
        "--config nothing.toml",
        1,
        &["cannot read settings from nothing.toml", "No such file"],
    );
}

#[test]
fn layer_shapes_that_cannot_fit() {
    let place = Place::with_data();
    refused(&place, &format!("{SMALL} --image-size 2"), 1, &["layer `"]);
    refused(
        &place,
        &format!("{SMALL} --model lenet5 --image-size 4"),
        1,
        &["layer `"],
    );
}

#[test]
fn folders_of_images() {
    let place = Place::new();
    refused(
        &place,
        "--data nowhere",
        1,
        &["no data set is called `nowhere`", "hint: "],
    );
    refused(
        &place,
        "--data ./nowhere",
        1,
        &["./nowhere: no such file or folder"],
    );
    std::fs::create_dir(place.path("empty")).unwrap();
    refused(
        &place,
        "--data ./empty",
        1,
        &["./empty: it holds no images"],
    );
    std::fs::create_dir(place.path("texts")).unwrap();
    std::fs::write(place.path("texts/a.txt"), "a").unwrap();
    refused(
        &place,
        "--data texts",
        1,
        &["texts: not a data set", "a.txt"],
    );

    place.ok("data sample --to photos --count 40 --by-class");
    std::fs::create_dir(place.path("photos/Nothing")).unwrap();
    refused(
        &place,
        "--data photos",
        1,
        &["class `Nothing` has no images"],
    );
    std::fs::remove_dir(place.path("photos/Nothing")).unwrap();

    // A class with one image cannot be in every split.
    let lonely = place.path("photos/Lonely");
    std::fs::create_dir(&lonely).unwrap();
    let any = std::fs::read_dir(place.path("photos/Bag"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::copy(&any, lonely.join("1.png")).unwrap();
    refused(
        &place,
        "--data photos --batch-size 8",
        1,
        &["class `Lonely` has 1 image", "hint: add images"],
    );
    std::fs::remove_dir_all(&lonely).unwrap();

    // A corrupt image is named with its path.
    let bytes = std::fs::read(&any).unwrap();
    std::fs::write(&any, &bytes[..bytes.len() / 2]).unwrap();
    refused(
        &place,
        "--data photos --batch-size 8",
        1,
        &["cannot decode photos/Bag/"],
    );
    std::fs::write(&any, "no image").unwrap();
    refused(
        &place,
        "--data photos --batch-size 8",
        1,
        &["cannot decode photos/Bag/"],
    );
}

#[test]
fn an_image_in_two_splits_is_told() {
    let place = Place::new();
    place.ok("data sample --to photos --count 40 --by-class");
    let mut rows = "path,label,split\n".to_owned();
    let mut classes: Vec<_> = std::fs::read_dir(place.path("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    classes.sort();
    for class in &classes {
        let label = class.file_name().unwrap().to_str().unwrap();
        let mut images: Vec<_> = std::fs::read_dir(class)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        images.sort();
        for (at, image) in images.iter().enumerate() {
            let split = ["train", "train", "val"][at % 3];
            rows += &format!("{},{label},{split}\n", image.display());
        }
        // The first training image of each class is a test image too.
        rows += &format!("{},{label},test\n", images[0].display());
    }
    std::fs::write(place.path("list.csv"), rows).unwrap();
    let said =
        place.ok("train --data list.csv --model lenet5 --epochs 1 --batch-size 8 --name run");
    let expected = format!(
        "{} images of test are in train too, such as ",
        classes.len()
    );
    assert!(said.err.contains(&expected), "{}", said.err);
}

#[test]
fn idx_files() {
    let place = Place::with_data();
    // Changes a file; the answer is what it held before.
    let change = |file: &str, with: &dyn Fn(&mut Vec<u8>)| {
        let path = place.path("data").join(file);
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        with(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        (path, before)
    };
    let restore = |(path, before): (PathBuf, Vec<u8>)| std::fs::write(path, before).unwrap();
    let images = "train-images-idx3-ubyte";
    let back = change(images, &|bytes| bytes.truncate(5000));
    refused(
        &place,
        SMALL,
        1,
        &["train-images-idx3-ubyte: truncated: expected", "found 5000"],
    );
    restore(back);
    let back = change(images, &|bytes| bytes[3] = 1);
    refused(&place, SMALL, 1, &["train-images-idx3-ubyte"]);
    restore(back);
    let back = change("train-labels-idx1-ubyte", &|bytes| {
        bytes.pop();
        bytes[7] -= 1;
    });
    refused(&place, SMALL, 1, &["has 120 images", "has 119 labels"]);
    restore(back);
    // Test images of a class that training does not know.
    let back = change("t10k-labels-idx1-ubyte", &|bytes| bytes[20] = 200);
    refused(&place, SMALL, 1, &["label 200 at index 12 is out of range"]);
    restore(back);
    place.ok(&format!("train {SMALL} --epochs 1"));
}

#[test]
fn places_to_write_to() {
    let place = Place::with_data();
    place.trained("run", "");
    let best = std::fs::read(place.path("runs/run/best.safetensors")).unwrap();
    place
        .run(&format!("train {SMALL} --name run"))
        .fails(1, &["runs/run exists already"]);
    assert_eq!(
        std::fs::read(place.path("runs/run/best.safetensors")).unwrap(),
        best
    );

    // Where no folder can be made, whoever asks: below a file.
    std::fs::write(place.path("file"), "x").unwrap();
    place
        .run(&format!("train {SMALL} --runs-dir file/runs"))
        .fails(1, &["file"]);
    place
        .run(&format!("train {SMALL} --runs-dir /proc/runs"))
        .fails(1, &["/proc"]);
}

#[test]
fn a_loss_that_turns_nan_keeps_the_best() {
    let place = Place::with_data();
    let said = place.run(
        "train --data data --epochs 3 --batch-size 32 --name wild --eval-every 1 --lr 1e6 --schedule constant",
    );
    said.fails(
        1,
        &[
            "error: training diverged in epoch",
            "the best is kept: runs/wild/best.safetensors",
            "--lr",
        ],
    );
    place.ok("verify wild");
    assert_eq!(place.json("list --json")[0]["status"], "diverged");
}

#[test]
fn runs_that_are_none() {
    let place = Place::with_data();
    place
        .run("train --resume nothing")
        .fails(1, &["no model or run \"nothing\""]);
    place
        .run("show data")
        .fails(1, &["data is a folder but no run"]);
    place.trained("run", "");
    place
        .run("train --resume run --lr 0.5")
        .fails(2, &["lr is settled by the run"]);
    place
        .run("train --resume run --epochs 1")
        .fails(2, &["epochs 1 is less than the run's 2"]);
    place
        .run("train --from nothing")
        .fails(1, &["no model or run \"nothing\""]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_and_costs_no_best() {
    // A limit on file sizes is a disk that is full for this process alone.
    let place = Place::with_data();
    place.trained("before", "");
    let script = format!(
        "ulimit -f 1000; exec {} train {SMALL} --name full",
        env!("CARGO_BIN_EXE_keepbest")
    );
    let mut shell = std::process::Command::new("bash");
    // Without the signal, a write beyond the limit is an error as on a full disk.
    let output = shell
        .current_dir(place.path("."))
        .args(["-c", &format!("trap '' XFSZ; {script}")])
        .output()
        .unwrap();
    let said = crate::support::Said::of(output);
    said.fails(
        1,
        &["warning: saving best and last of epoch 1", "File too large"],
    );
    assert!(!place.path("runs/full/best.safetensors").exists());
    place.ok("verify before");
}

#[test]
fn numbers_that_no_machine_has() {
    let place = Place::with_data();
    for (setting, words) in [
        ("threads 1000000000", "a whole number from 1 to 1,024"),
        ("threads 100000", "a whole number from 1 to 1,024"),
        (
            "batch-size 1000000000000",
            "a whole number from 1 to 1,000,000",
        ),
        (
            "batch-size 1000000",
            "larger than the training set (108 images)",
        ),
        (
            "epochs 1000000000000000000",
            "a whole number from 1 to 1,000,000,000",
        ),
        ("image-size 1000000", "up to 4096"),
        ("eval-every 0", "a number of steps"),
    ] {
        let args = format!("--data data --{setting}");
        refused(&place, &args, 2, &[words]);
        place.run(&format!("lr-find {args}")).fails(2, &[words]);
        // In a file, too.
        let (key, number) = setting.split_once(' ').unwrap();
        std::fs::write(place.path("own.toml"), format!("{key} = {number}\n")).unwrap();
        refused(&place, "--data data --config own.toml", 2, &[words]);
    }
    place.trained("run", "");
    for verb in [
        "evaluate run --threads 100000",
        "evaluate run --batch-size 1000000000000",
        "predict run data --threads 1000000000",
        "reproduce run --threads 100000",
        "train --resume run --threads 100000",
    ] {
        let said = place.run(verb);
        assert_eq!(said.code, 2, "{verb}: {}", said.err);
        assert!(!said.err.contains("panicked"), "{verb}: {}", said.err);
    }
}

#[test]
fn fewer_threads_than_asked_for_are_enough() {
    let place = Place::with_data();
    let expected = place.trained("whole", "");
    // Room for some of the threads' stacks, not for all.
    for kilobytes in [2_500_000, 1_500_000] {
        let line = format!(
            "ulimit -v {kilobytes}; exec {} train {SMALL} --threads 1024 --name v{kilobytes} --json",
            env!("CARGO_BIN_EXE_keepbest")
        );
        let said = std::process::Command::new("bash")
            .args(["-c", &line])
            .current_dir(place.path("."))
            .output();
        let said = crate::support::Said::of(said.unwrap());
        assert_eq!(said.code, 0, "{kilobytes}: {}", said.err);
        let told = "1024 threads were asked for, ";
        assert!(said.err.contains(told), "{kilobytes}: {}", said.err);
        let run: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(run["best"]["digest"], expected["best"]["digest"]);
    }
}
