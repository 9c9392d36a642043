//! The Pareto front: kept, told, drawn, and across runs.

use crate::support::Place;

/// Fast and rough, so that accuracy and calibration do not agree.
const ROUGH: &str = "--epochs 6 --lr 0.05 --schedule constant --val-fraction 0.4";

/// The steps on the front among those that were saved, by the definition.
fn front_of(place: &Place, run: &str) -> Vec<u64> {
    let shown = place.json(&format!("show {run} --json"));
    let told = place.json(&format!("explain {run} --json"));
    let saved: Vec<u64> = told["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    let points: Vec<(f64, f64, u64)> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let metric = |name: &str| record["metrics"][name].as_f64().unwrap();
            let step = record["step"].as_u64().unwrap();
            (metric("val/accuracy"), -metric("val/ece"), step)
        })
        .filter(|(.., step)| saved.contains(step))
        .collect();
    let stands_for = |(a, b, earlier): (f64, f64, u64), (x, y, step): (f64, f64, u64)| {
        a >= x && b >= y && ((a, b) != (x, y) || earlier < step)
    };
    points
        .iter()
        .filter(|one| !points.iter().any(|other| stands_for(*other, **one)))
        .map(|(.., step)| *step)
        .collect()
}

#[test]
fn the_front_is_kept_shown_and_drawn() {
    let place = Place::with_data();
    place.trained("run", &format!("{ROUGH} --pareto val/accuracy,val/ece"));
    let front = front_of(&place, "run");
    assert!(!front.is_empty());

    let shown = place.json("show run --json");
    let told = &shown["fronts"][0];
    assert_eq!(told["of"], "val/accuracy,val/ece");
    let members = told["checkpoints"].as_array().unwrap();
    let steps: Vec<u64> = members
        .iter()
        .map(|member| member["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, front);
    // Beside the front there are best and last only.
    for checkpoint in shown["checkpoints"].as_array().unwrap() {
        let is = checkpoint["ref"].as_array().unwrap();
        let on_front = front.contains(&checkpoint["step"].as_u64().unwrap());
        assert!(on_front || !is.is_empty(), "{checkpoint}");
    }
    // Each gives again what put it there.
    for member in members {
        let step = &member["step"];
        let measured = place.json(&format!("evaluate run@step:{step} --split val --json"));
        for name in ["val/accuracy", "val/ece"] {
            assert_eq!(member["values"][name], measured["metrics"][name]);
        }
    }
    let text = place.ok("show run").out;
    assert!(
        text.contains("Pareto front of val/accuracy,val/ece: "),
        "{text}"
    );
    let why = place.ok("explain run").out;
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        why.contains("on the Pareto front of val/accuracy,val/ece"),
        "{why}"
    );
    assert_eq!(place.ok("prune run").out, "nothing to remove\n");

    let page = std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    let plot = page.split("id=\"pareto\"").nth(1).unwrap();
    let plot = plot.split("</svg>").next().unwrap();
    for step in &front {
        let mark = format!("<path class=\"own\" data-step=\"{step}\"");
        assert!(plot.contains(&mark), "{mark} is not in\n{plot}");
    }
    assert_eq!(plot.matches("class=\"own\" data-step").count(), front.len());
    assert_eq!(plot.matches("class=\"dot\" data-step").count(), 6);

    let toml = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    assert!(toml.contains("pareto = \"val/accuracy,val/ece\""), "{toml}");
    // What is kept changes nothing of what is trained.
    place.trained("plain", ROUGH);
    let plain = place.json("show plain --json");
    assert_eq!(plain["best"]["digest"], shown["best"]["digest"]);
    place.ok("reproduce run --quiet");
}

#[test]
fn costs_are_measured_where_they_are_named() {
    let place = Place::with_data();
    place.trained("plain", "");
    let plain = place.json("show plain --json");
    assert!(plain["best"]["metrics"]["latency_ms"].is_null());

    place.trained(
        "run",
        "--pareto val/accuracy,latency_ms,model_bytes,parameters",
    );
    let best = &place.json("show run --json")["best"];
    let metric = |name: &str| best["metrics"][name].as_f64().unwrap();
    assert!(metric("latency_ms") > 0.0);
    // simple-cnn for four classes of 28x28x1: conv 32x1x3x3 and 64x32x3x3, two norms, 128x3136, 4x128, with biases; the file
    // has the norms' means, variances and counters, too.
    let trained = 288 + 32 + 64 + 18_432 + 64 + 128 + 401_408 + 128 + 512 + 4;
    assert_eq!(metric("parameters"), f64::from(trained));
    assert_eq!(
        metric("model_bytes"),
        f64::from(4 * (trained + 2 * 96) + 2 * 8)
    );
    // The weights are the same: what is timed is not trained.
    assert_eq!(best["digest"], plain["best"]["digest"]);

    let said = place.ok("verify run").out;
    let words = "and model_bytes and parameters are equal to the last bit; latency_ms, a time, is not compared";
    assert!(said.contains(words), "{said}");
    place.ok("reproduce run --quiet");

    // A best that a time decides is not compared, all else is.
    place.trained("fast", "--monitor latency_ms --constraint parameters<1e6");
    let said = place.ok("reproduce fast --quiet").out;
    assert!(said.contains("nor is the best that it decides"), "{said}");
}

#[test]
fn what_cannot_be_on_a_front_is_said_before_training() {
    let place = Place::with_data();
    for (metrics, expected) in [
        ("val/accuracy,val/los", "did you mean val/loss?"),
        ("val/accuracy,latency", "did you mean latency_ms?"),
        (
            "val/accuracy,max:val/f1_macr",
            "metric `val/f1_macr` was not measured",
        ),
        ("val/accuracy", "two or more metrics"),
        ("val/loss,val/loss", "val/loss is monitored twice"),
    ] {
        let told = place.run(&format!(
            "train --data data --name run --epochs 1 --pareto {metrics}"
        ));
        told.fails(2, &[expected]);
        assert!(!place.path("runs/run").exists());
    }
}

#[test]
fn runs_are_compared_by_their_bests() {
    let place = Place::with_data();
    place.trained("large", "--epochs 4");
    place.trained(
        "small",
        "--model lenet5 --epochs 1 --monitor val/accuracy --monitor val/loss",
    );
    // As good as the small one at the most, and larger.
    place.trained("worse", "--epochs 1 --lr 1e-9");
    let listed = place.json("list --pareto val/accuracy,parameters --json");
    let of = |name: &str| {
        let runs = listed.as_array().unwrap();
        runs.iter().find(|run| run["name"] == name).unwrap()["pareto"].clone()
    };
    let value = |one: &serde_json::Value| {
        let get = |name: &str| one["values"][name].as_f64().unwrap();
        (get("val/accuracy"), -get("parameters"))
    };
    let all: Vec<serde_json::Value> = ["large", "small", "worse"]
        .iter()
        .flat_map(|name| of(name).as_array().unwrap().clone())
        .collect();
    // Two bests of `small`.
    assert_eq!(all.len(), 4);
    for one in &all {
        let (a, b) = value(one);
        let dominated = all
            .iter()
            .map(value)
            .any(|(x, y)| x >= a && y >= b && (x, y) != (a, b));
        assert_eq!(one["on_front"], !dominated, "{one}");
    }
    let text = place.ok("list --pareto val/accuracy,parameters").out;
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(
        text.contains("best:val/loss") && text.contains("yes"),
        "{text}"
    );
    place
        .run("list --pareto val/accuracy,max:speed")
        .fails(2, &["metric `speed` was not measured"]);
    // What no run has needs no direction.
    place
        .run("list --pareto speed,val/loss")
        .fails(2, &["metric `speed` was not measured"]);
    // Known, and of these runs not measured.
    place.run("list --pareto val/accuracy,latency_ms").fails(
        2,
        &["`latency_ms` was not measured", "runs trained with it"],
    );
    place
        .run("list --pareto val/accuracy")
        .fails(2, &["two or more metrics"]);
}
