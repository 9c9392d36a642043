//! Decision thresholds: tuned, stored, and used wherever a model decides.

use std::path::Path;

use keepbest::formats::model_file::{ModelFile, encode};
use serde_json::{Value, json};

use crate::support::{Place, SMALL, write_idx};

/// Rough enough that the likeliest class is often wrong.
const ROUGH: &str = "--lr 0.002 --val-fraction 0.4";

fn thresholds(file: &Path) -> Option<Value> {
    let file = ModelFile::open(file).unwrap();
    file.metadata.unwrap().attachments.thresholds
}

/// The same model with these thresholds.
fn with_values(from: &Path, to: &Path, values: [f64; 4]) {
    let file = ModelFile::open(from).unwrap();
    let mut metadata = file.metadata.unwrap();
    metadata.thresholds = Some(json!({
        "values": values, "metric": "f1_macro", "split": "val", "before": 0.5, "after": 0.5,
    }));
    let image = encode(&file.weights, &file.training, &metadata).unwrap();
    image
        .write_to(&mut std::fs::File::create(to).unwrap())
        .unwrap();
}

#[test]
fn a_run_tunes_them_is_measured_by_them_and_keeps_them() {
    let place = Place::with_data();
    place.trained("plain", ROUGH);
    let run = place.trained(
        "run",
        &format!("{ROUGH} --thresholds f1_macro --monitor val/f1_macro"),
    );
    let best = place.path("runs/run/best.safetensors");
    let own = thresholds(&best).unwrap();
    let values = own["values"].as_array().unwrap();
    assert_eq!(
        (values.len(), &own["metric"], &own["split"]),
        (4, &json!("f1_macro"), &json!("val"))
    );
    assert!(own["after"].as_f64() >= own["before"].as_f64(), "{own}");
    assert_eq!(run["best"]["metrics"]["val/f1_macro"], own["after"]);
    assert_eq!(thresholds(&place.path("runs/plain/best.safetensors")), None);

    // At every evaluation the metric is at least what it is without; probabilities are the same.
    let history = |run: &str| place.json(&format!("show {run} --json"))["history"].clone();
    let (with, without) = (history("run"), history("plain"));
    let pairs = with
        .as_array()
        .unwrap()
        .iter()
        .zip(without.as_array().unwrap());
    let mut raised = false;
    for (with, without) in pairs {
        let metric = |record: &Value, name: &str| record["metrics"][name].as_f64().unwrap();
        let (after, before) = (
            metric(with, "val/f1_macro"),
            metric(without, "val/f1_macro"),
        );
        assert!(after >= before, "{after} {before}");
        raised |= after > before;
        for name in ["val/log_loss", "val/roc_auc_ovr", "val/ece", "val/loss"] {
            assert_eq!(metric(with, name), metric(without, name), "{name}");
        }
    }
    assert!(raised, "{with}");

    assert_eq!(place.json("verify run --json")["ok"], true);
    place.ok("verify run@last");
    place.ok("reproduce run --quiet");
    let measured = place.json("evaluate run --split val --json");
    assert_eq!(measured["metrics"]["val/f1_macro"], own["after"]);
    assert_eq!(measured["thresholds"], own);
    let on_test = place.json("evaluate run --json");
    assert_eq!(
        on_test["metrics"]["test/accuracy"],
        run["test"]["test/accuracy"]
    );

    let toml = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    assert!(toml.contains("thresholds = \"f1_macro\""), "{toml}");
    for verb in ["show run", "inspect runs/run/best.safetensors", "card run"] {
        let said = place.ok(verb).out;
        let said = said.replace('\\', "");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("thresholds tuned for f1_macro on val: "),
            "{verb}\n{said}"
        );
    }
    let page = std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    assert!(page.contains("It decides by thresholds tuned for f1_macro on val: "));
}

#[test]
fn a_run_that_goes_on_tunes_as_before() {
    let place = Place::with_data();
    let args = "--lr 0.002 --schedule constant --val-fraction 0.4 --thresholds balanced_accuracy \
                --monitor val/balanced_accuracy";
    let whole = place.trained("whole", &format!("{args} --epochs 3"));
    place.trained("part", args);
    let resumed = place.json("train --resume part --epochs 3 --quiet --json");
    assert_eq!(resumed["best"]["metrics"], whole["best"]["metrics"]);
    let of = |run: &str| thresholds(&place.path(&format!("runs/{run}/best.safetensors")));
    assert_eq!(of("part"), of("whole"));
    assert!(of("part").is_some());
    place.ok("verify part");
}

#[test]
fn a_trained_model_is_given_them() {
    let place = Place::with_data();
    place.trained("run", ROUGH);
    let told = place.json("thresholds run --metric f1_macro --out tuned.safetensors --json");
    let own = thresholds(&place.path("tuned.safetensors")).unwrap();
    assert_eq!(told["thresholds"], own);
    assert!(own["after"].as_f64() > own["before"].as_f64(), "{own}");

    // The weights and all that training needs are the same; the run is left as it is.
    let (from, to) = (
        ModelFile::open(place.path("runs/run/best.safetensors")).unwrap(),
        ModelFile::open(place.path("tuned.safetensors")).unwrap(),
    );
    assert_eq!(from.weights_digest(), to.weights_digest());
    assert_eq!(from.training, to.training);
    assert_eq!(from.metadata.unwrap().thresholds, None);

    let said = place.ok("verify tuned.safetensors");
    assert!(said.out.contains("metrics  ok"), "{}", said.out);
    let before = place.json("evaluate run --split val --json");
    let after = place.json("evaluate tuned.safetensors --split val --json");
    assert_eq!(before["metrics"]["val/f1_macro"], own["before"]);
    assert_eq!(after["metrics"]["val/f1_macro"], own["after"]);
    assert_ne!(before["confusion"], after["confusion"]);
    let compared = place.json("compare run tuned.safetensors --split val --json");
    assert_eq!(
        compared["models"][1]["metrics"]["val/f1_macro"],
        own["after"]
    );
    assert_eq!(
        compared["models"][1]["metrics"]["val/log_loss"],
        compared["models"][0]["metrics"]["val/log_loss"]
    );

    // Tuned again for another metric, from the likeliest class again.
    let text = place
        .ok("thresholds tuned.safetensors --metric accuracy --out other.safetensors")
        .out;
    assert!(
        text.contains("val/accuracy") && text.lines().count() == 8,
        "{text}"
    );
    let other = thresholds(&place.path("other.safetensors")).unwrap();
    assert_eq!(other["before"], before["metrics"]["val/accuracy"]);
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let place = Place::with_data();
    place.trained("run", "");
    place
        .run("thresholds run --metric f1_marco --out tuned.safetensors")
        .fails(
            2,
            &[
                "\"f1_marco\" is no metric of decisions",
                "did you mean f1_macro?",
            ],
        );
    place
        .run("thresholds run --metric log_loss --out tuned.safetensors")
        .fails(2, &["is no metric of decisions", "balanced_accuracy"]);
    place
        .run("train --data data --thresholds f1_marco")
        .fails(2, &["thresholds must be one of", "did you mean f1_macro?"]);
    place
        .run("train --data data --thresholds f1_macro --save params")
        .fails(2, &["save params keeps the weights alone"]);
    place
        .run("thresholds run --metric f1_macro --out runs/run/best.safetensors --force")
        .fails(2, &["is the model itself"]);
    std::fs::write(place.path("there.safetensors"), "mine").unwrap();
    place
        .run("thresholds run --metric f1_macro --out there.safetensors")
        .fails(1, &["there.safetensors exists already", "--force"]);
    // Other images than those it was chosen by.
    write_idx(&place.path("others"), 4, 25, 10);
    place
        .run("thresholds run --metric f1_macro --out tuned.safetensors --data others")
        .fails(1, &["the val images are not those recorded"]);
    assert!(!place.path("tuned.safetensors").exists());
}

#[test]
fn predict_gives_the_decision_with_its_probability() {
    let place = Place::with_data();
    place.trained("run", "");
    place.ok("data sample --to images --count 8");
    let best = place.path("runs/run/best.safetensors");
    with_values(
        &best,
        &place.path("second.safetensors"),
        [1.0, 1e-9, 1.0, 1.0],
    );
    with_values(&best, &place.path("alike.safetensors"), [0.5; 4]);
    let answers = |model: &str| -> Vec<Value> {
        let said = place
            .ok(&format!("predict {model} images --top-k 4 --json"))
            .out;
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (plain, second) = (answers("run"), answers("second.safetensors"));
    assert_eq!(plain, answers("alike.safetensors"));
    let classes = place.json("inspect runs/run/best.safetensors --json")["classes"].clone();
    let mut others = 0;
    for (plain, second) in plain.iter().zip(&second) {
        // The likeliest classes are told as before, the label is what is decided for.
        assert_eq!(plain["top"], second["top"]);
        assert_eq!(second["label"], classes[1]);
        let top = second["top"].as_array().unwrap();
        let decided = top
            .iter()
            .find(|guess| guess["label"] == classes[1])
            .unwrap();
        assert_eq!(second["probability"], decided["probability"]);
        others += usize::from(plain["label"] != second["label"]);
    }
    assert!(others > 0);
    // In text the decision stands first.
    let text = place.ok("predict second.safetensors images --top-k 2").out;
    let name = classes[1].as_str().unwrap();
    for line in text.lines() {
        let answers = line.split_once("  ").unwrap().1.trim_start();
        let told: Vec<&str> = answers
            .split("  ")
            .map(|answer| answer.rsplit_once(' ').unwrap().0)
            .collect();
        assert!(
            told.len() == 2 && told[0] == name && told[1] != name,
            "{line}"
        );
    }

    // As many as there are classes, or it is no model.
    let file = ModelFile::open(&best).unwrap();
    let mut metadata = file.metadata.unwrap();
    metadata.thresholds = Some(json!({
        "values": [0.5, 0.5], "metric": "accuracy", "split": "val", "before": 0.5, "after": 0.5,
    }));
    let image = encode(&file.weights, &file.training, &metadata).unwrap();
    let mut bytes = std::fs::File::create(place.path("bad.safetensors")).unwrap();
    image.write_to(&mut bytes).unwrap();
    place.run("predict bad.safetensors images").fails(
        1,
        &["contradicts itself", "4 classes, there are 2 thresholds"],
    );
}

#[test]
fn who_takes_the_model_elsewhere_is_told_what_stays_behind() {
    let place = Place::with_data();
    place.trained("run", &format!("{ROUGH} --thresholds f1_macro"));
    for (to, words) in [
        (
            "run.pth",
            "PyTorch state dict cannot hold the decision thresholds",
        ),
        (
            "run.onnx",
            "an ONNX model cannot hold the decision thresholds",
        ),
        (
            "run-params.safetensors",
            "the parameters alone cannot hold the decision thresholds",
        ),
        (
            "run.pt",
            "the decision thresholds in its `keepbest` entry alone",
        ),
    ] {
        let said = place.ok(&format!("export run --to {to}"));
        assert!(
            said.err.contains(words) && said.err.contains("f1_macro"),
            "{to}\n{}",
            said.err
        );
    }
    // What was measured by thresholds is not said of a file without them.
    place.ok("verify run-params.safetensors");
    let own = thresholds(&place.path("runs/run/best.safetensors"));
    place.ok("import run.pt --to back.safetensors");
    assert_eq!(thresholds(&place.path("back.safetensors")), own);
    place.ok("verify back.safetensors");

    // Averages and what is trained on from it are other models.
    let said = place.ok("average run run@last --out mean.safetensors");
    assert!(said.err.contains("thresholds are left out"), "{}", said.err);
    assert_eq!(thresholds(&place.path("mean.safetensors")), None);
    place.ok("verify mean.safetensors");
    let said = place.ok(&format!("train {SMALL} --name next --from run"));
    let told = said.out + &said.err;
    assert!(told.contains("are not taken over"), "{told}");
    assert_eq!(thresholds(&place.path("runs/next/best.safetensors")), None);
    place.trained("again", "--from run --thresholds accuracy");
    let again = thresholds(&place.path("runs/again/best.safetensors")).unwrap();
    assert_eq!(again["metric"], "accuracy");
}
