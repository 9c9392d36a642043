//! `models`, `data`, `inspect`, `completions`, help.

use crate::support::Place;

#[test]
fn networks_are_listed_and_shown() {
    let place = Place::new();
    let listed = place.json("models --json");
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    for name in ["simple-cnn", "lenet5", "resnet18"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let text = place.ok("models list").out;
    assert!(
        text.contains("simple-cnn") && text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let shown = place.json("models show resnet18 --classes 10 --json");
    assert_eq!(shown["parameters"], 11_173_962);
    let text = place
        .ok("models show simple-cnn --image-size 32 --channels 3")
        .out;
    assert!(
        text.contains("simple-cnn for 32x32x3 images of 10 classes"),
        "{text}"
    );
    place.run("models show simplecnn").fails(
        2,
        &[
            "unknown model `simplecnn`",
            "hint: did you mean simple-cnn?",
        ],
    );
    place
        .run("models show simple-cnn --image-size 0")
        .fails(2, &["image-size must be a size in pixels"]);
    place
        .run("models show simple-cnn --image-size 1")
        .fails(1, &["layer `"]);
}

#[test]
fn data_sets_are_listed_looked_into_and_sampled() {
    let place = Place::new();
    let listed = place.json("data --json");
    assert_eq!(listed[0]["name"], "fashion-mnist-mini");
    assert!(place.ok("data").out.contains("embedded"));
    let info = place.json("data info fashion-mnist-mini --json");
    assert_eq!(info["splits"]["train"]["images"], 6000);
    assert_eq!(
        info["splits"]["test"]["per_class"],
        serde_json::json!(vec![100; 10])
    );
    assert_eq!(
        info["splits"]["test"]["fingerprint"]["blake3"]
            .as_str()
            .unwrap()
            .len(),
        64
    );
    assert!(
        place
            .ok("data info fashion-mnist-mini")
            .out
            .contains("Ankle boot")
    );

    let said = place.ok("data sample --to out --count 20");
    assert_eq!(said.out.lines().count(), 20);
    let first = said.out.lines().next().unwrap();
    let image = image::open(place.path(first)).unwrap();
    assert_eq!((image.width(), image.height()), (28, 28));
    place
        .run("data info fashion")
        .fails(1, &["no data set is called `fashion`", "hint: "]);
    place
        .run("data sample --split val --to out")
        .fails(1, &["brings no val split"]);
}

#[test]
fn inspect_says_what_a_file_is() {
    let place = Place::with_data();
    place.trained("run", "");
    let text = place.ok("inspect run").out;
    for words in [
        "full model",
        "(verified)",
        "network       simple-cnn",
        "conv1.weight",
        "of optimizer state",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    std::fs::write(place.path("note.txt"), "hello, world\n").unwrap();
    place
        .run("inspect note.txt")
        .fails(1, &["holds text, not a model"]);
    std::fs::write(place.path("empty"), "").unwrap();
    place.run("inspect empty").fails(1, &["holds nothing"]);
    place.ok("data sample --to . --count 1");
    place
        .run("inspect 00019-T_shirt_top.png")
        .fails(1, &["holds a PNG image"]);
    place
        .run("predict note.txt 00019-T_shirt_top.png")
        .fails(1, &["holds text, not a model"]);
    std::fs::write(place.path("t.pth"), b"\x80\x02}q\x00.").unwrap();
    place.run("evaluate t.pth").fails(1, &["pickle"]);
}

#[test]
fn only_optimizer_state_is_no_model() {
    use keepbest::formats::{StateDict, Tensor, safetensors};
    let place = Place::new();
    let mut state = StateDict::new();
    state
        .insert(
            "optimizer.momentum_buffer.fc.weight",
            Tensor::from_f32(&[2], &[0.5, 1.0]).unwrap(),
        )
        .unwrap();
    let tensors: Vec<_> = state.iter().collect();
    let layout = safetensors::Layout::new(&tensors, &[]).unwrap();
    let mut bytes = Vec::new();
    layout.write_to(&mut bytes).unwrap();
    std::fs::write(place.path("state.safetensors"), bytes).unwrap();
    place.ok("data sample --to images --count 1");
    place.run("predict state.safetensors images").fails(1, &[
        "holds only optimizer state (1 tensors such as `optimizer.momentum_buffer.fc.weight`), no weights",
    ]);
}

#[test]
fn completions_and_help() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            place
                .ok(&format!("completions {shell}"))
                .out
                .contains("keepbest"),
            "{shell}"
        );
    }
    assert_eq!(place.run("completions csh").code, 2);
    let help = place.ok("--help").out;
    for verb in [
        "train", "evaluate", "predict", "inspect", "list", "show", "models", "data", "verify",
        "fsck",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
        assert!(
            place
                .ok(&format!("{verb} --help"))
                .out
                .starts_with(|c: char| c.is_uppercase()),
            "{verb}"
        );
    }
    assert!(place.ok("--version").out.starts_with("keepbest "));
    assert_eq!(place.run("").code, 2);
    assert_eq!(place.run("trian").code, 2);
}
