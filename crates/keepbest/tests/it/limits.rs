//! Numbers in files that are larger than anything real: refused before anything is reserved for them.

use std::path::Path;

use crate::support::Place;

/// A model file of these layers and a head of four classes.
fn model_file(to: &Path, layers: &str) {
    let text = format!(
        "version = 2\nname = \"mine\"\ninput = {{ channels = 1, height = 28, width = 28 }}\nclasses = 4\n\
         layers = [\n{layers}\n{{ op = \"global_avg_pool2d\" }}, {{ op = \"flatten\" }}, \
         {{ op = \"linear\", name = \"fc\", out = 4 }},\n]\n"
    );
    std::fs::write(to, text).unwrap();
}

/// A safetensors file of any header.
fn safetensors(to: &Path, header: &str, data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(to, [&length, header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn model_files_that_ask_for_too_much() {
    let place = Place::with_data();
    let refused = |layers: &str, more: &str, words: &[&str]| {
        model_file(&place.path("m.toml"), layers);
        let train = format!("train --data data --model m.toml --epochs 1 {more}");
        let said = place.run(&train);
        assert!(matches!(said.code, 1 | 2), "{layers:.200}: {}", said.err);
        said.fails(said.code, words);
        assert!(!place.path("runs").exists(), "{layers:.200}");
    };
    let conv = |settings: &str| format!("{{ op = \"conv2d\", name = \"c\", {settings} }},");
    refused(
        &[
            conv("out = 1000000, kernel = 3, padding = 1"),
            "{ op = \"repeat\", times = 50, layers = [ { op = \"conv2d\", out = 100, kernel = 3, padding = 1 }, \
             { op = \"conv2d\", out = 1000000, kernel = 3, padding = 1 } ] },"
                .to_owned(),
        ]
        .concat(),
        "--batch-size 100",
        &["GB for batches of 100,", "for this process", "--batch-size"],
    );
    let largest = i64::MAX;
    for settings in [
        format!("out = {largest}, kernel = 3, padding = 1"),
        format!("out = 8, kernel = {largest}"),
        format!("out = 8, kernel = 3, padding = {largest}"),
        format!("out = 8, kernel = 3, stride = {largest}, dilation = {largest}"),
        "out = 8, kernel = 3, padding = 1000000000".to_owned(),
    ] {
        refused(&conv(&settings), "", &["layer `c` (conv2d)"]);
    }
    let relu = "layers = [ { op = \"relu\" } ]";
    let long = "{}".repeat(100_000);
    refused(
        &format!("{{ op = \"repeat\", name = \"{long}\", times = 4, {relu} }},"),
        "",
        &["the name has 200000 bytes, more than 256"],
    );
    let name = "{}".repeat(128);
    refused(
        &format!("{{ op = \"repeat\", name = \"{name}\", times = 4, first = 4000, {relu} }},"),
        "",
        &["its name has", "more than 512"],
    );
    refused(
        &format!("{{ op = \"repeat\", times = {largest}, {relu} }},"),
        "",
        &["more than 4096 layers"],
    );
    // Longer than any model file.
    let blanks = " ".repeat(2 << 20);
    refused(
        &blanks,
        "",
        &["m.toml cannot be read", "more than 1048576 bytes"],
    );
    std::fs::write(place.path("run.toml"), blanks).unwrap();
    place
        .run("train --data data --config run.toml")
        .fails(1, &["run.toml", "more than 1048576 bytes"]);
}

#[test]
fn layers_whose_names_are_reserved_are_refused_before_training() {
    let place = Place::with_data();
    for layers in [
        "{ op = \"conv2d\", name = \"optimizer\", out = 8, kernel = 3 },",
        "{ op = \"conv2d\", name = \"optimizer.c\", out = 8, kernel = 3 },",
        "{ op = \"sequential\", name = \"optimizer\", layers = [{ op = \"conv2d\", out = 8, kernel = 3 }] },",
        "{ op = \"sequential\", name = \"\", layers = [{ op = \"conv2d\", name = \"optimizer\", out = 8, kernel = 3 }] },",
        "{ op = \"branch\", name = \"\", branches = [[{ op = \"conv2d\", name = \"optimizer\", out = 8, kernel = 3 }]] },",
        "{ op = \"repeat\", name = \"optimizer.{}\", times = 2, layers = [{ op = \"conv2d\", out = 8, kernel = 3 }] },",
        "{ op = \"layer_scale\", name = \"__metadata__\", init = 1.0 },",
    ] {
        model_file(&place.path("m.toml"), layers);
        let word = if layers.contains("__metadata__") {
            "__metadata__"
        } else {
            "optimizer"
        };
        for verb in [
            "train --data data --model m.toml --epochs 1",
            "models show m.toml",
        ] {
            let said = place.run(verb);
            assert!(matches!(said.code, 1 | 2), "{layers}: {}", said.err);
            said.fails(
                said.code,
                &[&format!("cannot be called `{word}`"), "reserved"],
            );
        }
        assert!(!place.path("runs").exists());
    }
    // Further in the name is as good as any.
    model_file(
        &place.path("m.toml"),
        "{ op = \"sequential\", name = \"a\", layers = [{ op = \"conv2d\", name = \"optimizer\", out = 8, kernel = 3 }] },",
    );
    place.ok("train --data data --model m.toml --epochs 1 --batch-size 16 --name a");
    place.ok("verify a");
    // A layer that is called like a wrapper goes out as what it is.
    model_file(
        &place.path("m.toml"),
        "{ op = \"sequential\", name = \"module\", layers = [{ op = \"conv2d\", name = \"c\", out = 8, kernel = 3 }] },",
    );
    place.ok("train --data data --model m.toml --epochs 1 --batch-size 16 --name b");
    place.ok("export b --to b.pth");
}

#[test]
fn safetensors_of_too_much() {
    let place = Place::new();
    let refused = |words: &[&str]| {
        for verb in [
            "inspect x.safetensors",
            "import x.safetensors --model lenet5 --to no.safetensors",
        ] {
            place.run(verb).fails(1, words);
        }
    };
    let sides = vec!["1"; 30_000].join(",");
    let header =
        format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{sides}],\"data_offsets\":[0,4]}}}}");
    safetensors(&place.path("x.safetensors"), &header, &[0; 4]);
    refused(&["tensor `w`: there are more than 64 sides"]);
    let texts: Vec<String> = (0..20_000).map(|at| format!("\"{at}\":\"\"")).collect();
    let header = format!("{{\"__metadata__\":{{{}}}}}", texts.join(","));
    safetensors(&place.path("x.safetensors"), &header, &[]);
    refused(&["more than 10000 texts of metadata"]);
    let tensors: Vec<String> = (0..100_001)
        .map(|at| format!("\"{at}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"))
        .collect();
    safetensors(
        &place.path("x.safetensors"),
        &format!("{{{}}}", tensors.join(",")),
        &[],
    );
    refused(&["more than 100000 tensors"]);
}

#[test]
fn tables_take_cells_of_any_width() {
    let place = Place::with_data();
    place.trained("a", "--model lenet5");
    place.ok("export a --to a.pth");
    let long = "x".repeat(70_000);
    std::fs::write(place.path("names.txt"), format!("{long}\nb\nc\nd\n")).unwrap();
    place.ok("import a.pth --model lenet5 --classes names.txt --to in.safetensors");
    place.ok("data sample data --to images --count 4");
    for verb in [
        "inspect in.safetensors",
        "predict in.safetensors images --top-k 4",
        "evaluate in.safetensors --data data",
        "card in.safetensors",
    ] {
        let said = place.run(verb);
        assert!(!said.err.contains("panicked"), "{verb}: {:.300}", said.err);
        assert!(matches!(said.code, 0 | 1), "{verb}: {:.300}", said.err);
    }
}

#[test]
fn onnx_models_that_say_much_of_themselves() {
    let place = Place::new();
    let mut file = b"\x08\x0a".to_vec();
    // Operator sets and metadata of nothing at all, a producer of a megabyte, and a graph of a byte.
    file.extend([0x12, 0x80, 0x80, 0x40]);
    file.extend(vec![b'p'; 1 << 20]);
    file.extend(b"\x42\x00".repeat(200_000));
    file.extend(b"\x72\x00".repeat(200_000));
    file.extend(b"\x3a\x01\x00");
    std::fs::write(place.path("x.onnx"), file).unwrap();
    let told = place.json("inspect x.onnx --json");
    assert_eq!(told["operator_sets"].as_array().unwrap().len(), 1000);
    assert_eq!(told["producer"].as_str().unwrap().len(), 64 << 10);
    let out = place.ok("inspect x.onnx").out;
    assert!(out.len() < 200_000, "{}", out.len());
}

#[test]
fn less_memory_than_is_asked_for_is_told_and_aborts_nothing() {
    let place = Place::with_data();
    place.trained("run", "--epochs 4 --keep last:4");
    let within = |kilobytes: u32, args: &str| {
        let program = env!("CARGO_BIN_EXE_keepbest");
        let script = format!("ulimit -v {kilobytes}; exec {program} {args}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(place.path("."))
            .stdin(std::process::Stdio::null())
            .output();
        crate::support::Said::of(output.unwrap())
    };
    let large = "train --data data --image-size 512 --batch-size 64 --epochs 1";
    within(1_500_000, large).fails(1, &["GB for batches of 64", "for this process"]);
    for kilobytes in [120_000, 200_000, 300_000, 500_000] {
        for verb in [
            large,
            "archive run",
            "verify run",
            "fsck run --repair",
            "train --resume run --epochs 5",
            "average --soup run --out soup.safetensors --force",
        ] {
            let said = within(kilobytes, verb);
            assert!(
                matches!(said.code, 0 | 1),
                "{verb} within {kilobytes} KB: {} {}{}",
                said.code,
                said.out,
                said.err
            );
            assert!(!said.err.contains("panicked"), "{verb}: {}", said.err);
        }
    }
    place.ok("fsck run");
}
