//! `predict` and `evaluate`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, Said};

fn lines(said: &Said) -> Vec<Value> {
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn an_answer_does_not_depend_on_the_batch_or_the_way_in() {
    let place = Place::with_data();
    place.trained("run", "");
    place.ok("data sample --to images --count 9");
    let all = lines(&place.ok("predict run images --json --top-k 3"));
    assert_eq!(all.len(), 9);
    let ones = lines(&place.ok("predict run images --json --top-k 3 --batch-size 1"));
    assert_eq!(all, ones);
    let threes =
        lines(&place.ok("predict run@best images --json --top-k 3 --batch-size 4 --threads 1"));
    assert_eq!(all, threes);

    for answer in &all {
        let top = answer["top"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(answer["label"], top[0]["label"]);
        let probabilities: Vec<f64> = top
            .iter()
            .map(|guess| guess["probability"].as_f64().unwrap())
            .collect();
        assert!(probabilities.windows(2).all(|pair| pair[0] >= pair[1]) && probabilities[0] <= 1.0);
    }

    // From stdin, and straight from the data set's file.
    let path = all[0]["input"].as_str().unwrap().to_owned();
    let mut child = place
        .command("predict run - --json --top-k 3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&std::fs::read(place.path(&path)).unwrap())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let piped: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&piped["top"], &piped["input"]),
        (&all[0]["top"], &Value::from("stdin"))
    );
    place.ok("predict run data/t10k-images-idx3-ubyte#3");
}

#[test]
fn models_are_named_in_every_way() {
    let place = Place::with_data();
    let run = place.trained("run", "--keep last:9");
    place.ok("data sample --to images --count 2");
    let best = run["best"]["epoch"].as_u64().unwrap();
    let of = |model: &str| place.json(&format!("inspect {model} --json"))["digest"].clone();
    let digest = run["best"]["digest"].clone();
    for model in [
        "run",
        "runs/run",
        "run@best",
        "runs/run/best.safetensors",
        "run@step:STEP",
        "run@epoch:EPOCH",
    ] {
        let model = model
            .replace("STEP", &(best * 7).to_string())
            .replace("EPOCH", &best.to_string());
        assert_eq!(of(&model), digest, "{model}");
    }
    assert_eq!(place.json("inspect run@last --json")["epoch"], 2);
    place
        .run("inspect run@step:5")
        .fails(1, &["no checkpoint of step:5", "step:7"]);
    place
        .run("inspect run@worst")
        .fails(2, &["\"worst\" names no model of a run", "@best"]);
    place
        .run("predict ru images")
        .fails(1, &["no model or run \"ru\"", "hint: did you mean run?"]);
}

#[test]
fn evaluate_gives_what_training_gave() {
    let place = Place::with_data();
    let run = place.trained("run", "");
    let test = place.json("evaluate run --json");
    assert_eq!(test["split"], "test");
    assert_eq!(test["metrics"], run["test"]);
    let val = place.json("evaluate run --split val --json --batch-size 5");
    for (name, value) in val["metrics"].as_object().unwrap() {
        assert_eq!(value, &run["best"]["metrics"][name], "{name}");
    }
    assert_eq!(val["confusion"].as_array().unwrap().len(), 4);
    assert_eq!(
        place.json("evaluate run --split train --json")["images"],
        108
    );
    let more = place.json("evaluate run --json --beta 2 --top-k 2");
    assert!(
        more["metrics"]["test/fbeta2_macro"].is_number()
            && more["metrics"]["test/top2_accuracy"].is_number()
    );

    let text = place.ok("evaluate run");
    assert!(
        text.out.contains("test/accuracy") && text.out.contains("confusion (rows: labels"),
        "{}",
        text.out
    );
    assert!(
        text.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        text.out
    );

    // Other images of the same classes, and of others.
    crate::support::write_idx(&place.path("more"), 4, 20, 20);
    assert_eq!(place.json("evaluate run --data more --json")["images"], 80);
    place.run("evaluate run --data fashion-mnist-mini").fails(
        1,
        &[
            "none of the images' classes (\"T-shirt/top\"",
            "one of the model's (\"0\", \"1\", \"2\", \"3\")",
        ],
    );
}

#[test]
fn images_that_do_not_fit_are_named() {
    let place = Place::with_data();
    place.trained("run", "");
    place.ok("data sample --to images --count 3");
    let grey = |side: u32| image::GrayImage::from_pixel(side, side, image::Luma([90]));
    grey(32).save(place.path("images/large.png")).unwrap();
    image::RgbImage::from_pixel(28, 28, image::Rgb([9, 90, 200]))
        .save(place.path("images/colour.png"))
        .unwrap();
    std::fs::write(
        place.path("images/torn.png"),
        &std::fs::read(place.path("images/large.png")).unwrap()[..40],
    )
    .unwrap();

    let said = place.run("predict run images --strict");
    assert_eq!(said.code, 1);
    // The others are answered all the same.
    assert_eq!(said.out.lines().count(), 3);
    said.fails(
        1,
        &[
            "images/large.png does not fit the model",
            "image is 32x32x1, the model expects 28x28x1",
            "images/colour.png does not fit the model",
            "image is 28x28x3, the model expects 28x28x1",
            "cannot decode images/torn.png",
        ],
    );
    for (more, errors) in [("--strict", 3), ("", 1)] {
        let told = lines(&place.run(&format!("predict run images --json {more}")));
        let failed = told.iter().filter(|answer| answer["error"].is_string());
        assert_eq!(failed.count(), errors);
    }

    place
        .run("predict run nothing.png")
        .fails(1, &["nothing.png"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    place
        .run("predict run empty")
        .fails(1, &["empty: it holds no images"]);
    assert_eq!(place.run("predict run").code, 2);
}

#[test]
fn weights_alone_need_their_network() {
    let place = Place::with_data();
    place.trained("run", "--save params");
    place.ok("data sample --to images --count 2");
    place.run("predict run images").fails(
        2,
        &[
            "runs/run/best.safetensors holds weights alone, without the network they belong to",
            "hint: name it: --model simple-cnn",
        ],
    );
    let said = place.ok("predict run images --model simple-cnn");
    assert_eq!(said.out.lines().count(), 2);
    place
        .run("predict run images --model lenet5")
        .fails(1, &["does not fit lenet5", "missing"]);
    place
        .run("predict run images --model simple-cn")
        .fails(2, &["unknown model", "hint: did you mean simple-cnn?"]);
    place
        .run("predict run@last images --model lenet5")
        .fails(2, &["is a full model of simple-cnn, not of lenet5"]);
    place.ok("verify run");
}
