//! `inspect`, `import` and `export`: other programs' files in, files for them out.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Place;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keepbest-formats/tests/golden")
}

/// Writes a few images for `predict`.
fn sample(place: &Place) {
    place.ok("data sample data --to images --count 4");
}

fn lines_fit(out: &str) {
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn parameters_and_buffers_are_counted_apart() {
    let place = Place::with_data();
    place.trained("a", "");
    let told = place.json("inspect a --json");
    // 421,834 with ten classes; a class has 128 weights and a bias.
    assert_eq!(told["parameters"], 421_834 - 6 * 129);
    assert_eq!(told["buffers"], 194);
    let out = place.ok("inspect a").out;
    assert!(out.contains("421,060, and 194 values in buffers"), "{out}");
    lines_fit(&out);
}

#[test]
fn what_goes_out_comes_back_the_same() {
    let place = Place::with_data();
    place.trained("a", "--schedule constant --warmup 0");
    sample(&place);
    let own = place.json("inspect a --json");
    let before = place.ok("predict a images --json").out;

    place.ok("export a --to best.pth");
    place.ok("export a --to best.pt");
    place.ok("export a --to best.onnx --preprocess-in-graph --fold-batch-norm");
    place.ok("export a --to best.safetensors");
    for file in ["best.pth", "best.pt", "best.safetensors"] {
        let told = place.json(&format!("inspect {file} --json"));
        assert_eq!(told["digest"], own["digest"], "{file}");
        assert_eq!(told["parameters"], own["parameters"], "{file}");
        lines_fit(&place.ok(&format!("inspect {file}")).out);
    }
    let told = place.json("inspect best.onnx --json");
    assert_eq!(told["kind"], "onnx");
    let classes: Value =
        serde_json::from_str(told["metadata"]["classes"].as_str().unwrap()).unwrap();
    assert_eq!(classes, own["classes"]);
    lines_fit(&place.ok("inspect best.onnx").out);

    // A checkpoint of ours brings everything, a state dict only its tensors.
    assert_eq!(place.ok("predict best.pt images --json").out, before);
    place.ok("import best.pt --to back.safetensors");
    assert_eq!(
        place.ok("predict back.safetensors images --json").out,
        before
    );
    let back = place.json("inspect back.safetensors --json");
    for part in [
        "digest",
        "classes",
        "preprocessing",
        "evaluation",
        "training",
        "optimizer",
        "step",
        "epoch",
    ] {
        assert_eq!(back[part], own[part], "{part}");
    }
    assert!(!back["optimizer"].as_array().unwrap().is_empty());
    let measured = place.json("evaluate best.pt --json");
    assert_eq!(
        measured["metrics"],
        place.json("evaluate a --json")["metrics"]
    );

    place
        .run("predict best.pth images")
        .fails(2, &["without the network", "--model"]);
    let told = place
        .json("import best.pth --model simple-cnn --classes a,b,c,d --to named.safetensors --json");
    assert_eq!(told["digest"], own["digest"]);
    assert_eq!(told["classes"], serde_json::json!(["a", "b", "c", "d"]));
    place.ok("evaluate best.pth --model simple-cnn --data data");
    let run = place.json(
        "train --from best.pth --data data --epochs 1 --batch-size 16 --name b --quiet --json",
    );
    assert!(run["best"].is_object(), "{run}");
}

#[test]
fn nothing_is_replaced_unless_asked_for() {
    let place = Place::with_data();
    place.trained("a", "--model lenet5");
    std::fs::write(place.path("best.pth"), "mine").unwrap();
    place
        .run("export a --to best.pth")
        .fails(1, &["best.pth exists already", "--force"]);
    assert_eq!(std::fs::read(place.path("best.pth")).unwrap(), b"mine");
    place.ok("export a --to best.pth --force");
    place.ok("import best.pth --model lenet5 --to in.safetensors");
    place
        .run("import best.pth --model lenet5 --to in.safetensors")
        .fails(1, &["exists already"]);
    place
        .run("export a --to best.h5")
        .fails(2, &["does not say what to write", ".onnx"]);
    place
        .run("export a --to best.pth --fold-batch-norm")
        .fails(2, &["--fold-batch-norm is for .onnx"]);
    place
        .run("export a --to nowhere/best.pth")
        .fails(1, &["nowhere"]);
    // No hidden file is left behind.
    let names = std::fs::read_dir(place.path("")).unwrap();
    assert!(
        !names
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    );
}

#[test]
fn names_are_mapped_and_a_part_is_enough_when_asked_for() {
    let place = Place::with_data();
    place.trained("a", "--model lenet5");
    place.ok("export a --to a.pth");
    let import = "import a.pth --model lenet5 --to b.safetensors";
    place
        .run(&format!("{import} --map fc3.(.*)=head.$1"))
        .fails(
            1,
            &[
                "does not fit lenet5",
                "missing in the file: fc3.weight",
                "not in the network: head.weight",
                "--partial",
            ],
        );
    // Wrapped, as in Lightning's modules: what stands before the names comes off.
    let wrapped = place.ok(&format!("{import} --map (.*)=net.$1"));
    assert!(
        wrapped.err.contains("took \"net.\" off the names"),
        "{}",
        wrapped.err
    );
    let told = place.json(&format!(
        "{import} --force --json --partial --map fc3.(.*)=head.$1"
    ));
    assert_eq!(told["tensors"]["matched"].as_array().unwrap().len(), 8);
    assert_eq!(
        told["tensors"]["missing"],
        serde_json::json!(["fc3.weight", "fc3.bias"])
    );
    assert_eq!(
        told["tensors"]["unexpected"],
        serde_json::json!(["head.weight", "head.bias"])
    );
    // Out and back by two rules.
    place.ok(&format!(
        "{import} --force --map fc(.*)=fc$1 --map conv(.)(.*)=conv$1$2"
    ));
    place
        .run(&format!("{import} --force --map fc("))
        .fails(2, &["no rule"]);
    // Ten classes from four: the last layer is of another shape.
    let told = place.run(&format!("{import} --force --partial --classes a,b,c,d,e"));
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(
        told.out.contains("of another shape, started anew"),
        "{}",
        told.out
    );
    lines_fit(&told.out);
    place
        .run("import a.pth --model simple-cnn --to c.safetensors")
        .fails(1, &["does not fit simple-cnn"]);
    place
        .run(&format!("{import} --force --preprocess mean=x"))
        .fails(2, &["mean cannot be"]);
    let told = place.json(&format!(
        "{import} --force --json --preprocess mean=0.25,std=0.5"
    ));
    assert_eq!(told["preprocessing"]["mean"], serde_json::json!([0.25]));
}

#[test]
fn every_kind_of_file_is_told_what_it_is() {
    let place = Place::new();
    let mut counts = [0; 4];
    for folder in ["pth", "pth-1.13"] {
        for entry in std::fs::read_dir(golden().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "json") {
                continue;
            }
            let evil = path.to_string_lossy().contains("evil");
            let said = place.run(&format!("inspect {} --json", path.display()));
            assert!(matches!(said.code, 0 | 1 | 3), "{path:?}: {}", said.err);
            assert_eq!(said.code == 3, evil, "{path:?}");
            counts[said.code as usize] += 1;
            let told: Value = serde_json::from_str(&said.out)
                .unwrap_or_else(|error| panic!("{path:?}: {error}\n{}", said.err));
            assert_eq!(told["kind"], "pytorch");
            assert_eq!(told["error"].is_null(), said.code == 0);
        }
    }
    assert!(counts[0] >= 60 && counts[3] >= 6, "{counts:?}");
    let module = golden().join("pth/module.pth");
    let said = place.ok(&format!("inspect {}", module.display()));
    for words in ["__main__.Net", "torch.nn.modules.conv.Conv2d", "refused"] {
        assert!(said.out.contains(words), "{}", said.out);
    }
    let several = golden().join("pth/several.pth");
    let several = several.display();
    place
        .run(&format!("inspect {several} --key nothing"))
        .fails(2, &["there is no `nothing`"]);
}
