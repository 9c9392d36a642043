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
    assert_eq!(shown["layers"][0]["bytes"], 4 * 64 * 32 * 32);
    let table = place
        .ok("models show simple-cnn --input 3x32x32 --table")
        .out;
    assert!(
        table.contains("simple-cnn for 3x32x32 images of 10 classes"),
        "{table}"
    );
    for name in ["efficientnet_b0", "densenet121", "resnet50"] {
        let table = place.ok(&format!("models show {name} --table")).out;
        let wide = table.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name}");
    }
    place.run("models show simplecnn").fails(
        2,
        &[
            "unknown model `simplecnn`",
            "hint: did you mean simple-cnn?",
        ],
    );
    place
        .run("models show simple-cnn --input 0x1x1")
        .fails(2, &["such as 3x224x224"]);
    place
        .run("models show simple-cnn --input 1x1x1")
        .fails(1, &["layer `"]);
}

#[test]
fn a_network_comes_back_from_its_model_file() {
    let place = Place::with_data();
    for name in listed(&place) {
        let text = place.ok(&format!("models show {name} --classes 7")).out;
        std::fs::write(place.path("net.toml"), &text).unwrap();
        assert_eq!(place.ok("models show net.toml").out, text, "{name}");
    }
    // One more layer than the zoo has, trained and read back without any file but the model.
    let text = place.ok("models show lenet5 --classes 4").out;
    let text = text.replace("lenet5", "mine").replace(
        "{ op = \"flatten\" },",
        "{ op = \"layer_norm2d\", name = \"ln\" },\n  { op = \"flatten\" },",
    );
    std::fs::write(place.path("net.toml"), &text).unwrap();
    place.trained("run", "--model net.toml");
    place.trained("slim", "--model net.toml --save params");
    std::fs::remove_file(place.path("net.toml")).unwrap();
    let inspected = place.ok("inspect run").out;
    assert!(inspected.contains("ln.weight"), "{inspected}");
    place.ok("evaluate run");
    // The run keeps the network as a file of its own.
    for run in ["run", "slim"] {
        place.ok(&format!("verify {run}"));
        place.ok(&format!("reproduce {run} --quiet"));
    }
    place.ok("train --resume run --epochs 3 --quiet");
    place.ok("verify run");

    for (find, replace, words) in [
        ("version = 2", "version = 9", "version 9 is not known"),
        ("kernel", "kernal", "did you mean kernel?"),
        (
            "\"max_pool2d\"",
            "\"maxpool2d\"",
            "did you mean max_pool2d?",
        ),
        ("out = 120", "out = 120, out = 1", "not TOML"),
        ("out = 120", "width = 120", "unknown key `width`"),
        ("out = 120", "out = \"120\"", "layers[7] (linear)"),
    ] {
        let text = place.ok("models show lenet5").out.replace(find, replace);
        std::fs::write(place.path("net.toml"), text).unwrap();
        place.run("models show net.toml").fails(2, &[words]);
        place.run("train --model net.toml").fails(2, &[words]);
    }
    let text = place.ok("models show lenet5 --classes 3").out;
    std::fs::write(place.path("net.toml"), text).unwrap();
    place
        .run("train --model net.toml")
        .fails(2, &["is for 3 classes, the images have 10", "hint: set"]);
    place.run("train --model no.toml").fails(2, &["no.toml"]);
}

fn listed(place: &Place) -> Vec<String> {
    let listed = place.json("models --json");
    let names = listed.as_array().unwrap().iter();
    names
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_network_is_drawn() {
    let place = Place::new();
    place.ok("models draw mobilenet_v3_small --to net.svg");
    let svg = std::fs::read_to_string(place.path("net.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for words in ["features.4.block", "5x5", "global avg pool", "×"] {
        assert!(svg.contains(words), "{words}");
    }
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
    place
        .run("evaluate t.pth")
        .fails(1, &["no weights found", "an empty dict"]);
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
