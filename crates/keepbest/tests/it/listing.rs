//! Choosing and ordering runs, and the card of a model.

use crate::support::Place;

#[test]
fn runs_are_chosen_and_ordered() {
    let place = Place::with_data();
    place.trained("a", "--lr 0.001");
    place.trained("b", "--lr 0.02 --epochs 1");
    place.trained("c", "--lr 0.003 --model lenet5");
    let names = |args: &str| -> Vec<String> {
        let args: Vec<&str> = args.split('|').collect();
        let output = place.command("list --json").args(args).output().unwrap();
        let runs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        runs.iter()
            .map(|run| run["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("--sort|lr"), ["a", "c", "b"]);
    assert_eq!(names("--sort|-lr"), ["b", "c", "a"]);
    assert_eq!(names("--sort|epoch"), ["b", "a", "c"]);
    assert_eq!(names("--where|lr >= 0.003"), ["b", "c"]);
    assert_eq!(names("--where|lr >= 0.003|--where|model = lenet5"), ["c"]);
    assert_eq!(names("--where|val/accuracy <= 1"), ["a", "b", "c"]);
    assert!(names("--where|status != completed").is_empty());
    place.run("list --where lr").fails(2, &["KEY"]);
}

#[test]
fn the_card_has_what_is_recorded() {
    let place = Place::with_data();
    let trained = place.trained("run", "");
    let card = place.ok("card run").out;
    let (front, body) = card
        .strip_prefix("---\n")
        .unwrap()
        .split_once("---\n")
        .unwrap();
    let test = trained["test"]["test/accuracy"].as_f64().unwrap();
    let val = trained["best"]["metrics"]["val/accuracy"].as_f64().unwrap();
    for accuracy in [test, val] {
        let words = format!("    - type: accuracy\n      value: {accuracy}\n");
        assert!(front.contains(&words), "{words} is not in\n{front}");
    }
    let digest = trained["best"]["digest"].as_str().unwrap();
    for words in [
        digest,
        "- 3: 3",
        "seed: 1",
        "| accuracy |",
        "nothing was chosen by test",
    ] {
        assert!(body.contains(words), "{words} is not in\n{body}");
    }
    // A file that is in no run knows no test.
    std::fs::copy(
        place.path("runs/run/best.safetensors"),
        place.path("alone.safetensors"),
    )
    .unwrap();
    place.ok("card alone.safetensors --to alone.md");
    let alone = std::fs::read_to_string(place.path("alone.md")).unwrap();
    assert!(!alone.contains("split: test") && alone.contains("split: val"));
}
